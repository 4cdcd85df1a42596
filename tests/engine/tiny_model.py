"""A random network of three narrow layers and a tokenizer of single bytes: the engine's rules show on it in seconds."""

from collections.abc import Sequence

import torch
from torch.nn.functional import scaled_dot_product_attention

from bessemer.engine.engine import Engine, LoadedModel
from bessemer.engine.family import ModelConfig
from bessemer.engine.lora import Adapter, LoraConfig
from bessemer.engine.network import Network
from bessemer.engine.weights import LayerWeights, ModelWeights

END = 256


class CausalAttention:
    """Reference attention over packed independent sequences: each token sees its own sequence up to itself."""

    def __init__(self, config: ModelConfig, lengths: Sequence[int]) -> None:
        self._config = config
        self._lengths = list(lengths)
        self._masks = {
            window: [_causal_mask(length, window) for length in self._lengths] for window in set(config.windows)
        }

    def attend(self, layer: int, q_THD: torch.Tensor, k_TKD: torch.Tensor, v_TKD: torch.Tensor) -> torch.Tensor:
        masks = self._masks[self._config.windows[layer]]
        outputs = []
        for q, k, v, mask in zip(*(t.split(self._lengths) for t in (q_THD, k_TKD, v_TKD)), masks, strict=True):
            out = scaled_dot_product_attention(
                q.transpose(0, 1)[None],
                k.transpose(0, 1)[None],
                v.transpose(0, 1)[None],
                attn_mask=mask,
                scale=self._config.attention_scale,
                enable_gqa=True,
            )
            outputs.append(out[0].transpose(0, 1))
        return torch.cat(outputs)


def _causal_mask(length: int, window: int | None) -> torch.Tensor:
    distance = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    mask = distance >= 0
    return mask if window is None else mask & (distance < window)


class ByteTokens:
    """Ids 0..255 are bytes; 256 ends a turn."""

    vocab_size = 260
    eos_ids = frozenset({END})
    terminator = END
    bos_id = None

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.token_bytes(token) for token in ids).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < END else b""


def tiny_network(
    seed: int = 0,
    *,
    window: int | None = None,
    dtype: torch.dtype = torch.float32,
    hidden: int = 48,
    vocabulary: int = ByteTokens.vocab_size,
) -> Network:
    """A network with random weights; with `window` its middle layer attends locally."""
    generator = torch.Generator().manual_seed(seed)
    layers, heads, kv_heads, width, intermediate = 3, 6, 2, 8, 64
    config = ModelConfig(
        family="llama",
        n_layers=layers,
        hidden=hidden,
        n_heads=heads,
        n_kv_heads=kv_heads,
        head_dim=width,
        intermediate=intermediate,
        vocab_size=vocabulary,
        context_length=512,
        rope_theta=10_000.0,
        rope_theta_local=10_000.0,
        windows=(None, window, None),
        norm_eps=1e-5,
        attention_scale=width**-0.5,
        tied=True,
    )

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return (torch.randn(rows, columns, generator=generator) * columns**-0.5).to(dtype)

    def layer() -> LayerWeights:
        return LayerWeights(
            qkv=matrix((heads + 2 * kv_heads) * width, hidden),
            o=matrix(hidden, heads * width),
            gate_up=matrix(2 * intermediate, hidden),
            down=matrix(hidden, intermediate),
            attention_norm=torch.ones(hidden),
            ffn_norm=torch.ones(hidden),
            q_norm=None,
            k_norm=None,
            post_attention_norm=None,
            post_ffn_norm=None,
        )

    embedding = (torch.randn(vocabulary, hidden, generator=generator) * 0.5).to(dtype)
    return Network(
        ModelWeights(
            config=config,
            embedding=embedding,
            head=embedding,
            layers=tuple(layer() for _ in range(layers)),
            norm=torch.ones(hidden),
            fingerprint=f"tiny-{seed}",
        )
    )


def tiny_engine(network: Network | None = None, **settings: int) -> Engine:
    """An engine on a tiny network."""
    return Engine(LoadedModel(network or tiny_network(), ByteTokens()), **{"cache_tokens": 8192, **settings})


def tiny_adapter(network: Network, seed: int) -> Adapter:
    """An adapter that changes the network's answers."""
    adapter = Adapter(network.config, LoraConfig(rank=4, alpha=8.0), network.dtype)
    adapter.initialise(seed)
    generator = torch.Generator().manual_seed(seed)
    adapter.flat.copy_(torch.randn(adapter.flat.shape, generator=generator) * 0.3)
    adapter.changed()
    return adapter


def recompute_logprobs(network: Network, prompt: Sequence[int], answer: Sequence[int]) -> list[float]:
    """Log-probabilities of an answer by one plain forward pass over the whole text."""
    return [float(row[token]) for row, token in zip(all_logprobs(network, prompt, answer), answer, strict=True)]


def all_logprobs(network: Network, prompt: Sequence[int], answer: Sequence[int]) -> torch.Tensor:
    """Log-probabilities [answer, vocabulary] of every token at each place of an answer."""
    ids = [*prompt, *answer]
    with torch.no_grad():
        hidden = network.forward_hidden(
            torch.tensor(ids), torch.arange(len(ids)), CausalAttention(network.config, [len(ids)])
        )
        logprobs = torch.log_softmax(network.logits(hidden), dim=-1)
    return logprobs[len(prompt) - 1 : -1]


def prompt_of(text: str) -> tuple[int, ...]:
    return tuple(text.encode())
