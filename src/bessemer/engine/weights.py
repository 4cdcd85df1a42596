"""Model files: a GGUF file or a safetensors folder becomes a frozen `ModelConfig` and fused tensors, nothing more.

Families: Llama (SmolLM2 and others without biases) and Gemma 3 text models. Query, key and value projections are
stored as one matrix, as are gate and up, because one wide product is faster than three narrow ones.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor

from bessemer.core.errors import EngineError
from bessemer.engine.gguf_file import GgufFile

Family = Literal["llama", "gemma3"]


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Shape and constants of a network. Sizes are element counts."""

    family: Family
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
class LayerWeights:
    """One block. Matrices are [out, in] in the compute type; norms are float32, Gemma's +1 already applied."""

    qkv: Tensor
    o: Tensor
    gate_up: Tensor
    down: Tensor
    attention_norm: Tensor
    ffn_norm: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None
    post_attention_norm: Tensor | None
    post_ffn_norm: Tensor | None


@dataclass(frozen=True)
class Weights:
    """A whole network: embedding and head [vocab, hidden], blocks, final norm, and the hash of its files."""

    config: ModelConfig
    embedding: Tensor
    head: Tensor
    layers: tuple[LayerWeights, ...]
    norm: Tensor
    fingerprint: str


def native_dtype() -> torch.dtype:
    """Return the type that this processor multiplies fast: bfloat16 where it has products of it, else float32.

    With AVX2 alone, or AVX-512 without its bfloat16 extension, products of bfloat16 take several times as long as those
    of float32, whose weights take twice the memory.
    """
    cpu = torch.cpu
    has_products = cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()
    if platform.machine() not in {"x86_64", "AMD64"}:
        has_products = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if has_products else torch.float32


def load_weights(path: Path, dtype: torch.dtype | None = None) -> Weights:
    """Load a GGUF file or a folder with config.json and *.safetensors, in `dtype` or this processor's own.

    Raises EngineError when the file is missing, the architecture is unknown or a tensor is absent.
    """
    if path.is_dir():
        return _load_safetensors(path, dtype or native_dtype())
    if path.is_file():
        return _load_gguf(path, dtype or native_dtype())
    raise EngineError(f"model file {path} does not exist: give a GGUF file or a safetensors folder", param="path")


def file_fingerprint(paths: list[Path]) -> str:
    """Return the SHA-256 over the content of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _windows(n_layers: int, window: int | None, pattern: int) -> tuple[int | None, ...]:
    """Every `pattern`-th layer attends globally, the others within the window."""
    return tuple(None if (layer + 1) % pattern == 0 else window for layer in range(n_layers))


# -- assembling -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Names:
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


_GGUF_NAMES = _Names(
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


def _hf_names(family: Family) -> _Names:
    layer = "model.layers.{}."
    gemma = family == "gemma3"
    return _Names(
        embedding="model.embed_tokens.weight",
        head="lm_head.weight",
        norm="model.norm.weight",
        q=layer + "self_attn.q_proj.weight",
        k=layer + "self_attn.k_proj.weight",
        v=layer + "self_attn.v_proj.weight",
        o=layer + "self_attn.o_proj.weight",
        gate=layer + "mlp.gate_proj.weight",
        up=layer + "mlp.up_proj.weight",
        down=layer + "mlp.down_proj.weight",
        attention_norm=layer + "input_layernorm.weight",
        ffn_norm=layer + ("pre_feedforward_layernorm.weight" if gemma else "post_attention_layernorm.weight"),
        q_norm=layer + "self_attn.q_norm.weight",
        k_norm=layer + "self_attn.k_norm.weight",
        post_attention_norm=layer + "post_attention_layernorm.weight",
        post_ffn_norm=layer + "post_feedforward_layernorm.weight",
    )


def _assemble(
    config: ModelConfig,
    names: _Names,
    matrix: Callable[[str], Tensor],
    norm: Callable[[str], Tensor],
    fingerprint: str,
) -> Weights:
    def layer(i: int) -> LayerWeights:
        def optional(name: str, present: bool) -> Tensor | None:  # noqa: FBT001
            return norm(name.format(i)) if present else None

        return LayerWeights(
            qkv=torch.cat([matrix(name.format(i)) for name in (names.q, names.k, names.v)]),
            o=matrix(names.o.format(i)),
            gate_up=torch.cat([matrix(names.gate.format(i)), matrix(names.up.format(i))]),
            down=matrix(names.down.format(i)),
            attention_norm=norm(names.attention_norm.format(i)),
            ffn_norm=norm(names.ffn_norm.format(i)),
            q_norm=optional(names.q_norm, config.qk_norm),
            k_norm=optional(names.k_norm, config.qk_norm),
            post_attention_norm=optional(names.post_attention_norm, config.post_norms),
            post_ffn_norm=optional(names.post_ffn_norm, config.post_norms),
        )

    embedding = matrix(names.embedding)
    return Weights(
        config=config,
        embedding=embedding,
        head=embedding if config.tied else matrix(names.head),
        layers=tuple(layer(i) for i in range(config.n_layers)),
        norm=norm(names.norm),
        fingerprint=fingerprint,
    )


# -- GGUF -------------------------------------------------------------------------------------------------------------


def _gguf_config(fields: Mapping[str, Any], tensor_names: frozenset[str], vocab_size: int) -> ModelConfig:
    architecture = fields["general.architecture"]
    if architecture not in ("llama", "gemma3"):
        raise EngineError(f"GGUF architecture '{architecture}' is not supported: use a Llama or Gemma 3 model")

    def value(key: str, default: Any = None) -> Any:
        result = fields.get(f"{architecture}.{key}", default)
        if result is None:
            raise EngineError(f"GGUF header lacks '{architecture}.{key}': the file is not a complete model")
        return result

    gemma = architecture == "gemma3"
    n_layers, hidden, n_heads = (int(value(k)) for k in ("block_count", "embedding_length", "attention.head_count"))
    head_dim = int(value("attention.key_length", hidden // n_heads))
    window = int(value("attention.sliding_window")) if gemma else None
    if not gemma and "rope_freqs.weight" in tensor_names:
        raise EngineError("GGUF file has rope_freqs: Llama 3 frequency scaling is not supported")
    return ModelConfig(
        family=architecture,
        n_layers=n_layers,
        hidden=hidden,
        n_heads=n_heads,
        n_kv_heads=int(value("attention.head_count_kv", n_heads)),
        head_dim=head_dim,
        intermediate=int(value("feed_forward_length")),
        vocab_size=vocab_size,
        context_length=int(value("context_length")),
        rope_theta=float(value("rope.freq_base", 10_000.0)),
        rope_theta_local=10_000.0 if gemma else float(value("rope.freq_base", 10_000.0)),
        rope_factor=float(value("rope.scaling.factor", 1.0)),
        windows=_windows(n_layers, window, 6 if gemma else 1),
        norm_eps=float(value("attention.layer_norm_rms_epsilon")),
        attention_scale=head_dim**-0.5,
        tied="output.weight" not in tensor_names,
        qk_norm=gemma,
        post_norms=gemma,
        activation="gelu_tanh" if gemma else "silu",
        embedding_scale=hidden**0.5 if gemma else 1.0,
    )


def _unpermute(weight: Tensor, heads: int) -> Tensor:
    """Undo llama.cpp's reordering of query and key rows: it interleaves the two halves of each head's rotary pairs."""
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def _load_gguf(path: Path, dtype: torch.dtype) -> Weights:
    file = GgufFile(path)
    config = _gguf_config(file.fields, file.names, file.shape("token_embd.weight")[0])

    def read(name: str) -> Tensor:
        return torch.from_numpy(file.read(name))

    heads = {".attn_q.": config.n_heads, ".attn_k.": config.n_kv_heads} if config.family == "llama" else {}

    def matrix(name: str) -> Tensor:
        weight = read(name)
        for part, count in heads.items():
            if part in name:
                weight = _unpermute(weight, count)
        return weight.to(dtype)

    return _assemble(config, _GGUF_NAMES, matrix, read, file_fingerprint([path]))


# -- safetensors ------------------------------------------------------------------------------------------------------


def _hf_config(raw: Mapping[str, Any]) -> ModelConfig:
    kind = raw.get("model_type")
    if kind not in ("llama", "gemma3_text"):
        raise EngineError(f"model_type '{kind}' in config.json is not supported: use llama or gemma3_text")
    gemma = kind == "gemma3_text"
    if raw.get("attention_bias") or raw.get("mlp_bias"):
        raise EngineError("config.json asks for biases, which this network does not have")
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    full, local = rope.get("full_attention", rope), rope.get("sliding_attention", rope)
    if full.get("rope_type", "default") not in ("default", "linear"):
        raise EngineError(f"rope type '{full['rope_type']}' in config.json is not supported: use default or linear")
    theta = float(full.get("rope_theta", raw.get("rope_theta", 10_000.0)))
    n_layers, hidden, n_heads = raw["num_hidden_layers"], raw["hidden_size"], raw["num_attention_heads"]
    head_dim = raw.get("head_dim") or hidden // n_heads
    types = raw.get("layer_types") or (
        [
            "full_attention" if w is None else "sliding"
            for w in _windows(n_layers, 1, raw.get("sliding_window_pattern", 6))
        ]
        if gemma
        else ["full_attention"] * n_layers
    )
    return ModelConfig(
        family="gemma3" if gemma else "llama",
        n_layers=n_layers,
        hidden=hidden,
        n_heads=n_heads,
        n_kv_heads=raw.get("num_key_value_heads") or n_heads,
        head_dim=head_dim,
        intermediate=raw["intermediate_size"],
        vocab_size=raw["vocab_size"],
        context_length=raw.get("max_position_embeddings", 2048),
        rope_theta=theta,
        rope_theta_local=float(local.get("rope_theta", raw.get("rope_local_base_freq", theta))) if gemma else theta,
        rope_factor=float(full.get("factor", 1.0)),
        windows=tuple(None if kind == "full_attention" else raw["sliding_window"] for kind in types),
        norm_eps=raw["rms_norm_eps"],
        attention_scale=raw["query_pre_attn_scalar"] ** -0.5 if gemma else head_dim**-0.5,
        tied=bool(raw.get("tie_word_embeddings", gemma)),
        qk_norm=gemma,
        post_norms=gemma,
        activation="gelu_tanh" if gemma else "silu",
        embedding_scale=hidden**0.5 if gemma else 1.0,
    )


def _load_safetensors(folder: Path, dtype: torch.dtype) -> Weights:
    from safetensors.torch import load_file

    config_path = folder / "config.json"
    files = sorted(folder.glob("*.safetensors"))
    if not config_path.is_file() or not files:
        raise EngineError(f"folder {folder} needs config.json and *.safetensors files", param="path")
    config = _hf_config(json.loads(config_path.read_text()))
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors.update(load_file(file))

    def read(name: str) -> Tensor:
        if name not in tensors:
            raise EngineError(f"folder {folder} lacks tensor '{name}': the files are not a complete model")
        return tensors[name]

    def norm(name: str) -> Tensor:
        weight = read(name).float()
        return weight + 1.0 if config.family == "gemma3" else weight

    fingerprint = file_fingerprint([config_path, *files])
    return _assemble(config, _hf_names(config.family), lambda name: read(name).to(dtype), norm, fingerprint)
