"""What a language model makes of a text, as a vector: its last layer's states over the rendered prompt.

The mean of the prompt's states beside the state of its last token, which is the one that the answer begins from.
Computed on the network itself, without the engine's cache, in the calling thread.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from bessemer.engine.family import ModelConfig
from bessemer.engine.network import Network
from bessemer.engine.tokens import Tokens

MAX_TOKENS = 512
"""Of a prompt; of a longer one the last are read."""
_BATCH_TOKENS = 2048


class PackedCausal:
    """Several prompts beside each other: each token sees those before it in its own prompt."""

    def __init__(self, config: ModelConfig, sizes: Sequence[int]) -> None:
        self._config, self._sizes = config, list(sizes)

    def attend(self, layer: int, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor) -> Tensor:
        """See `bessemer.engine.network.Attention`."""
        window, scale = self._config.windows[layer], self._config.attention_scale
        parts = []
        for q, k, v in zip(*(part.split(self._sizes) for part in (q_THD, k_TKD, v_TKD)), strict=True):
            q_HTD, k_KTD, v_KTD = (part.transpose(0, 1) for part in (q, k, v))
            mask = None
            if window is not None and len(q) > window:
                mask = torch.ones(len(q), len(q), dtype=torch.bool).tril().triu(1 - window)
            mixed = F.scaled_dot_product_attention(
                q_HTD, k_KTD, v_KTD, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True
            )
            parts.append(mixed.transpose(0, 1))
        return torch.cat(parts)


def states(network: Network, tokens: Tokens, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return for each text, as a user's message, the mean of its states and its last one: [n, 2 hidden]."""
    prompts = [tokens.encode_chat([{"role": "user", "content": text}])[-MAX_TOKENS:] for text in texts]
    found = np.empty((len(prompts), 2 * network.config.hidden), np.float32)
    at = 0
    while at < len(prompts):
        end, size = at, 0
        while end < len(prompts) and (end == at or size + len(prompts[end]) <= _BATCH_TOKENS):
            size += len(prompts[end])
            end += 1
        found[at:end] = _states(network, prompts[at:end])
        at = end
    return found


def _states(network: Network, prompts: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
    sizes = [len(prompt) for prompt in prompts]
    token_T = torch.tensor([token for prompt in prompts for token in prompt])
    position_T = torch.cat([torch.arange(size) for size in sizes])
    with torch.inference_mode():
        hidden_TH = network.forward_hidden(token_T, position_T, PackedCausal(network.config, sizes)).float()
    rows = [torch.cat([part.mean(dim=0), part[-1]]) for part in hidden_TH.split(sizes)]
    return torch.stack(rows).numpy()
