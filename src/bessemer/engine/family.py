"""What a family of models is: how its files spell shapes and tensors, and what they mean for the one network.

The network knows no family by name; it computes what a `ModelConfig` says. A family is one file in `families` and one
line of the table there; what most families share is `gguf_config`, `hf_config` and the names here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import msgspec

from bessemer.core.errors import EngineError


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Shape and constants of a network. Sizes are element counts."""

    family: str
    n_layers: int
    hidden: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    intermediate: int
    vocab_size: int
    context_length: int
    rope_theta: float
    """Base of the rotary frequencies in layers that attend globally."""
    rope_theta_local: float
    """The same in layers with a sliding window."""
    rope_factor: float = 1.0
    """Positions of globally attending layers are divided by it (linear scaling)."""
    windows: tuple[int | None, ...]
    """Per layer: a query at position p sees keys k with p - k < window; None sees all."""
    norm_eps: float
    attention_scale: float
    tied: bool
    """The output head is the token embedding."""
    qk_norm: bool = False
    post_norms: bool = False
    """Norms after attention and after the feed-forward block, before the residual sum."""
    activation: Literal["silu", "gelu_tanh"] = "silu"
    embedding_scale: float = 1.0

    @property
    def qkv_sizes(self) -> tuple[int, int, int]:
        """Rows of the query, key and value parts of the fused projection."""
        return (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim, self.n_kv_heads * self.head_dim)


@dataclass(frozen=True)
class TensorNames:
    """How a format spells tensor names; `{}` is the layer."""

    embedding: str
    head: str
    norm: str
    q: str
    k: str
    v: str
    o: str
    gate: str
    up: str
    down: str
    attention_norm: str
    ffn_norm: str
    q_norm: str
    k_norm: str
    post_attention_norm: str
    post_ffn_norm: str


GGUF_NAMES = TensorNames(
    embedding="token_embd.weight",
    head="output.weight",
    norm="output_norm.weight",
    q="blk.{}.attn_q.weight",
    k="blk.{}.attn_k.weight",
    v="blk.{}.attn_v.weight",
    o="blk.{}.attn_output.weight",
    gate="blk.{}.ffn_gate.weight",
    up="blk.{}.ffn_up.weight",
    down="blk.{}.ffn_down.weight",
    attention_norm="blk.{}.attn_norm.weight",
    ffn_norm="blk.{}.ffn_norm.weight",
    q_norm="blk.{}.attn_q_norm.weight",
    k_norm="blk.{}.attn_k_norm.weight",
    post_attention_norm="blk.{}.post_attention_norm.weight",
    post_ffn_norm="blk.{}.post_ffw_norm.weight",
)
_LAYER = "model.layers.{}."
HF_NAMES = TensorNames(
    embedding="model.embed_tokens.weight",
    head="lm_head.weight",
    norm="model.norm.weight",
    q=_LAYER + "self_attn.q_proj.weight",
    k=_LAYER + "self_attn.k_proj.weight",
    v=_LAYER + "self_attn.v_proj.weight",
    o=_LAYER + "self_attn.o_proj.weight",
    gate=_LAYER + "mlp.gate_proj.weight",
    up=_LAYER + "mlp.up_proj.weight",
    down=_LAYER + "mlp.down_proj.weight",
    attention_norm=_LAYER + "input_layernorm.weight",
    ffn_norm=_LAYER + "post_attention_layernorm.weight",
    q_norm=_LAYER + "self_attn.q_norm.weight",
    k_norm=_LAYER + "self_attn.k_norm.weight",
    post_attention_norm=_LAYER + "post_attention_layernorm.weight",
    post_ffn_norm=_LAYER + "post_feedforward_layernorm.weight",
)
"""With norms after the blocks, too, the one before the feed-forward has another name: see `gemma3`."""


class GgufHeader(NamedTuple):
    """What a GGUF file says of a model beside its weights."""

    fields: Mapping[str, Any]
    tensors: frozenset[str]
    vocab_size: int

    def value(self, key: str, default: Any = None) -> Any:
        """Return a field of the model's architecture. Raises EngineError when it is absent and has no default."""
        name = f"{self.fields['general.architecture']}.{key}"
        found = self.fields.get(name, default)
        if found is None:
            raise EngineError(f"GGUF header lacks '{name}': the file is not a complete model")
        return found


@dataclass(frozen=True)
class Family:
    """How the files of a family are read."""

    name: str
    gguf_architecture: str
    """`general.architecture` of a GGUF file."""
    hf_model_type: str
    """`model_type` of a folder's config.json."""
    of_gguf: Callable[[GgufHeader], ModelConfig]
    of_hf: Callable[[Mapping[str, Any]], ModelConfig]
    """From config.json."""
    hf_names: TensorNames = HF_NAMES
    gguf_names: TensorNames = GGUF_NAMES
    gguf_interleaves_heads: bool = False
    """llama.cpp reorders the rows of query and key: it interleaves the two halves of each head's rotary pairs."""
    hf_norm_offset: float = 0.0
    """Added to the norms of a folder; GGUF files have it in their weights."""


def gguf_config(header: GgufHeader, family: str) -> ModelConfig:
    """Return what a GGUF header says of a decoder with rotary positions, gated feed-forward and full attention."""
    n_layers, hidden, n_heads = (
        int(header.value(key)) for key in ("block_count", "embedding_length", "attention.head_count")
    )
    head_dim = int(header.value("attention.key_length", hidden // n_heads))
    theta = float(header.value("rope.freq_base", 10_000.0))
    return ModelConfig(
        family=family,
        n_layers=n_layers,
        hidden=hidden,
        n_heads=n_heads,
        n_kv_heads=int(header.value("attention.head_count_kv", n_heads)),
        head_dim=head_dim,
        intermediate=int(header.value("feed_forward_length")),
        vocab_size=header.vocab_size,
        context_length=int(header.value("context_length")),
        rope_theta=theta,
        rope_theta_local=theta,
        rope_factor=float(header.value("rope.scaling.factor", 1.0)),
        windows=(None,) * n_layers,
        norm_eps=float(header.value("attention.layer_norm_rms_epsilon")),
        attention_scale=head_dim**-0.5,
        tied=GGUF_NAMES.head not in header.tensors,
    )


def hf_config(raw: Mapping[str, Any], family: str) -> ModelConfig:
    """Return the same of a folder's config.json. Raises EngineError for biases and unknown rotary scaling."""
    if raw.get("attention_bias") or raw.get("mlp_bias"):
        raise EngineError("config.json asks for biases, which this network does not have")
    full = hf_rope(raw, "full_attention")
    if full.get("rope_type", "default") not in ("default", "linear"):
        raise EngineError(f"rope type '{full['rope_type']}' in config.json is not supported: use default or linear")
    theta = float(full.get("rope_theta", raw.get("rope_theta", 10_000.0)))
    n_layers, hidden, n_heads = raw["num_hidden_layers"], raw["hidden_size"], raw["num_attention_heads"]
    head_dim = raw.get("head_dim") or hidden // n_heads
    return ModelConfig(
        family=family,
        n_layers=n_layers,
        hidden=hidden,
        n_heads=n_heads,
        n_kv_heads=raw.get("num_key_value_heads") or n_heads,
        head_dim=head_dim,
        intermediate=raw["intermediate_size"],
        vocab_size=raw["vocab_size"],
        context_length=raw.get("max_position_embeddings", 2048),
        rope_theta=theta,
        rope_theta_local=theta,
        rope_factor=float(full.get("factor", 1.0)),
        windows=(None,) * n_layers,
        norm_eps=raw["rms_norm_eps"],
        attention_scale=head_dim**-0.5,
        tied=bool(raw.get("tie_word_embeddings", False)),
    )


def hf_rope(raw: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return the rotary parameters of one kind of attention layer; most families have one set for all."""
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    found: Mapping[str, Any] = rope.get(kind, rope)
    return found


def sliding_windows(n_layers: int, window: int, pattern: int) -> tuple[int | None, ...]:
    """Every `pattern`-th layer attends globally, the others within the window."""
    return tuple(None if (layer + 1) % pattern == 0 else window for layer in range(n_layers))


def renamed(names: TensorNames, **changes: str) -> TensorNames:
    """Return names of which some are spelled otherwise."""
    return replace(names, **changes)
