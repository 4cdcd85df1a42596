"""The network: one packed forward pass shared by the sampler and the trainer.

Tokens of all sequences stand in one flat dimension T, without padding; positions are given per token, and an
`Attention` object decides who sees whom (a KV cache when sampling, a packed tree when training). The base weights are
frozen: a backward pass computes gradients of activations and of the adapter alone. Shape suffixes: T tokens, H heads,
K key-value heads, D head width, V vocabulary, N selected rows.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from bessemer.engine.family import ModelConfig
from bessemer.engine.fused import add_norm, gate, norm, rotate
from bessemer.engine.logits import float32_logits
from bessemer.engine.lora import Adapter, LoraLinear, Site
from bessemer.engine.weights import LayerWeights, ModelWeights

_PACKED_ROWS = 64
"""Rows of a product that the packed layout is chosen for."""


class Attention(Protocol):
    """Who attends to whom."""

    def attend(self, layer: int, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor) -> Tensor:
        """Return [T, H, D]: softmax(scale * q k^T) v over what each token may see. q and k are already rotated."""
        ...


class AdapterSpan(NamedTuple):
    """Rows [start, stop) of the packed tokens go through an adapter."""

    adapter: Adapter
    start: int
    stop: int


class Network:
    """A frozen base model."""

    def __init__(self, weights: ModelWeights) -> None:
        self.config: ModelConfig = weights.config
        self.weights = weights
        self.dtype: torch.dtype = weights.embedding.dtype
        self.fingerprint = weights.fingerprint
        self._packed: dict[int, Tensor] = {}
        config = weights.config
        self._rotary = _rotary_table(config, config.rope_theta, config.rope_factor, self.dtype)
        self._rotary_local = (
            self._rotary
            if all(window is None for window in config.windows)
            else _rotary_table(config, config.rope_theta_local, 1.0, self.dtype)
        )

    def forward_hidden(
        self, token_T: Tensor, position_T: Tensor, attention: Attention, routes: Sequence[AdapterSpan] = ()
    ) -> Tensor:
        """Return the final, normalised hidden states [T, hidden].

        With gradients enabled and a trainable adapter that covers all tokens, the result can be differentiated; layers
        below the adapter's first run without a graph. Rows that no route covers use the base alone.
        """
        config, weights = self.config, self.weights
        trained = next((route.adapter for route in routes if route.adapter.trainable), None)
        differentiate = torch.is_grad_enabled() and trained is not None
        first_layer = trained.config.first_layer if differentiate and trained is not None else 0
        rotary = tuple(table[position_T].unsqueeze(1) for table in self._rotary)
        local = (
            rotary
            if self._rotary_local is self._rotary
            else tuple(t[position_T].unsqueeze(1) for t in self._rotary_local)
        )
        x = F.embedding(token_T, weights.embedding)
        if config.embedding_scale != 1.0:
            x = x * torch.tensor(config.embedding_scale, dtype=self.dtype)
        delta: Tensor | None = None
        with torch.set_grad_enabled(False):
            for layer in range(first_layer):
                x, delta = self._block(layer, x, delta, attention, routes, local if config.windows[layer] else rotary)
            if delta is not None:
                x, delta = x + delta, None
        if differentiate:
            x = x.detach().requires_grad_()
        for layer in range(first_layer, config.n_layers):
            x, delta = self._block(layer, x, delta, attention, routes, local if config.windows[layer] else rotary)
        assert delta is not None
        return add_norm(x, delta, weights.norm, config.norm_eps)[1]

    def logits(self, hidden_NH: Tensor) -> Tensor:
        """Return float32 logits [N, vocab] of selected hidden states; see `float32_logits`."""
        return float32_logits(hidden_NH, self.weights.head)

    def pack(self) -> None:
        """Keep the blocks' matrices a second time, in the processor's layout for bfloat16 products without gradients.

        Results stay equal to the bit; a product of few rows is a quarter faster. Call it again after changing weights.
        """
        if self.dtype is not torch.bfloat16 or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return
        for layer in self.weights.layers:
            for weight in (layer.qkv, layer.o, layer.gate_up, layer.down):
                if weight.device.type == "cpu":
                    self._packed[weight.data_ptr()] = torch.ops.mkldnn._reorder_linear_weight(weight, _PACKED_ROWS)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the weights, in both layouts."""
        blocks = [w for layer in self.weights.layers for w in (layer.qkv, layer.o, layer.gate_up, layer.down)]
        ends = self.weights.embedding.nbytes * (1 if self.config.tied else 2)
        return int(sum(weight.nbytes for weight in blocks) * (2 if self._packed else 1) + ends)

    def _product(self, x_TI: Tensor, weight_OI: Tensor) -> Tensor:
        packed = None if torch.is_grad_enabled() else self._packed.get(weight_OI.data_ptr())
        if packed is None:
            return F.linear(x_TI, weight_OI)
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x_TI, packed, None, "none", [], "")
        return result

    def _linear(self, x_TI: Tensor, weight_OI: Tensor, layer: int, site: Site, routes: Sequence[AdapterSpan]) -> Tensor:
        if not routes:
            return self._product(x_TI, weight_OI)
        if len(routes) == 1 and routes[0].stop - routes[0].start == x_TI.shape[0] and torch.is_grad_enabled():
            parameters = routes[0].adapter.site(layer, site)
            if parameters is not None and routes[0].adapter.trainable:
                result: Tensor = LoraLinear.apply(x_TI, weight_OI, parameters)  # type: ignore[no-untyped-call]
                return result
        y_TO = self._product(x_TI, weight_OI)
        for adapter, start, stop in routes:
            parameters = adapter.site(layer, site)
            if parameters is not None:
                hidden = F.linear(x_TI[start:stop], parameters.compute_a)
                y_TO[start:stop].addmm_(hidden, parameters.compute_b.t())
        return y_TO

    def _block(
        self,
        layer: int,
        x_TH: Tensor,
        delta_TH: Tensor | None,
        attention: Attention,
        routes: Sequence[AdapterSpan],
        rotary: tuple[Tensor, ...],
    ) -> tuple[Tensor, Tensor]:
        """Run one block: returns the residual stream and what is still to be added to it."""
        config, weights = self.config, self.weights.layers[layer]
        eps = config.norm_eps
        x_TH, normed = add_norm(x_TH, delta_TH, weights.attention_norm, eps)
        qkv = self._linear(normed, weights.qkv, layer, "qkv", routes)
        q, k, v = (part.unflatten(-1, (-1, config.head_dim)) for part in qkv.split(config.qkv_sizes, dim=-1))
        if weights.q_norm is not None and weights.k_norm is not None:
            q, k = norm(q, weights.q_norm, eps), norm(k, weights.k_norm, eps)
        cos, sin = rotary
        mixed = attention.attend(layer, rotate(q, cos, sin), rotate(k, cos, sin), v)
        delta_TH = self._linear(mixed.flatten(1), weights.o, layer, "o", routes)
        if weights.post_attention_norm is not None:
            delta_TH = norm(delta_TH, weights.post_attention_norm, eps)
        x_TH, normed = add_norm(x_TH, delta_TH, weights.ffn_norm, eps)
        return x_TH, self._feed_forward(layer, normed, weights, routes)

    def _feed_forward(self, layer: int, x_TH: Tensor, weights: LayerWeights, routes: Sequence[AdapterSpan]) -> Tensor:
        gate_up = self._linear(x_TH, weights.gate_up, layer, "gate_up", routes)
        delta = self._linear(gate(gate_up, self.config.activation), weights.down, layer, "down", routes)
        if weights.post_ffn_norm is not None:
            delta = norm(delta, weights.post_ffn_norm, self.config.norm_eps)
        return delta


# -- parts ------------------------------------------------------------------------------------------------------------


def _rotary_table(config: ModelConfig, theta: float, factor: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines [context, D/2] of rotary position embedding (Su et al. 2021, arXiv 2104.09864)."""
    half = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    angle = torch.arange(config.context_length, dtype=torch.float32)[:, None] / factor * theta**-half
    return angle.cos().to(dtype), angle.sin().to(dtype)
