"""Shapes of language models: what capacity and step time depend on.

Shapes of well-known models are shipped (`models.toml`); any other model is read from its Hugging Face `config.json`.
Parameter counts are computed from the shape, so that one rule holds for all models.
"""

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.types import AttentionKind, LayerGroup, MixtureOfExperts, ModelShape, Source

_SUFFIXES = re.compile(
    r"[-_](instruct|it|chat|hf|base|fp8|nvfp4|fp4|mxfp4|int4|awq|gptq|bf16|static|pertensor|0528|2507|v0\.1|thinking"
    r"|99|99\.9|block)(?=$|[-_])"
)

_RETRAINED = "2507"
"""Qwen3 checkpoints of July 2025 take longer contexts than their namesakes."""


def model_shape(name: str) -> ModelShape:
    """Return the shape of a known model; owner, precision and tuning suffixes of the name do not matter.

    Raises `Unsatisfiable` naming the closest known models when there is none.
    """
    shapes = _shapes()
    key = _key(name)
    if key in shapes:
        return _without_context(shapes[key]) if _RETRAINED in name else shapes[key]
    close = dict.fromkeys(shapes[known].name for known in sorted(shapes, key=lambda known: -_common(known, key)))
    raise Unsatisfiable(
        f"model: no shape known for {name!r}; known models close to it: {', '.join(list(close)[:3])}. "
        "Name one of them, or give the values of its Hugging Face config.json (`config` beside the name in a "
        "workload).",
        param="model",
    )


def known_models() -> tuple[str, ...]:
    """Return the names of the shipped shapes, sorted."""
    return tuple(sorted({shape.name for shape in _shapes().values()}))


def shape_from_config(config: dict[str, Any], name: str = "model", source: Source | None = None) -> ModelShape:
    """Read a Hugging Face `config.json` (decoder-only language models; of multimodal ones the text part)."""
    text = {**config, **config.get("text_config", {})}
    layers, hidden = int(text["num_hidden_layers"]), int(text["hidden_size"])
    moe = _experts(text, layers)
    vocabulary = int(text["vocab_size"])
    dense_hidden = 0 if moe is not None and moe.layers == layers else int(text.get("intermediate_size", 4 * hidden))
    groups = _groups(text, layers, hidden)
    attention = _attention_parameters(text, groups, hidden)
    embeddings = vocabulary * hidden * (1 if text.get("tie_word_embeddings") else 2)
    dense_layers = layers - (moe.layers if moe else 0)
    rest = attention + 3 * hidden * dense_hidden * dense_layers
    per_expert = 3 * hidden * moe.expert_hidden if moe else 0
    shared = moe.layers * (3 * hidden * moe.shared_hidden + hidden * moe.experts) if moe else 0
    everything = embeddings + rest + shared + (moe.layers * moe.experts * per_expert if moe else 0)
    active = embeddings + rest + shared + (moe.layers * moe.active * per_expert if moe else 0)
    return ModelShape(
        name=name,
        layers=layers,
        hidden=hidden,
        vocabulary=vocabulary,
        dense_hidden=dense_hidden,
        groups=groups,
        moe=moe,
        parameters_b=round(everything / 1e9, 4),
        active_b=round(active / 1e9, 4),
        source=source or Source("config.json"),
        context_tokens=_context(text),
        block_scaled=_block_scaled(text),
    )


def _block_scaled(text: dict[str, Any]) -> bool | None:
    """Whether the weights are scaled by the block: what the checkpoint says of itself, None where it is not in FP8."""
    quantised = text.get("quantization_config") or {}
    return bool(quantised.get("weight_block_size")) if quantised.get("quant_method") == "fp8" else None


def _context(text: dict[str, Any]) -> int | None:
    """Tokens that fit: `max_position_embeddings`, stretched where the positions are (YaRN), as vLLM reckons it."""
    limit, rope = text.get("max_position_embeddings"), text.get("rope_scaling") or {}
    if limit is None or rope.get("rope_type", rope.get("type")) != "yarn":
        return None if limit is None else int(limit)
    return round(int(rope.get("original_max_position_embeddings", limit)) * float(rope["factor"]))


def _without_context(shape: ModelShape) -> ModelShape:
    """The same shape under another checkpoint's name, whose context need not be the same."""
    return msgspec.structs.replace(shape, context_tokens=None)


def _experts(text: dict[str, Any], layers: int) -> MixtureOfExperts | None:
    experts = text.get("n_routed_experts") or text.get("num_experts") or text.get("num_local_experts") or 0
    if not experts:
        return None
    first_dense = int(text.get("first_k_dense_replace") or 0)
    hidden = int(text.get("moe_intermediate_size") or text["intermediate_size"])
    shared = text.get("shared_expert_intermediate_size")
    if shared is None:
        shared = int(text.get("n_shared_experts") or 0) * hidden
    return MixtureOfExperts(
        layers=layers - first_dense,
        experts=int(experts),
        active=int(text.get("num_experts_per_tok") or text.get("experts_per_token") or 1),
        expert_hidden=hidden,
        shared_hidden=int(shared),
    )


def _groups(text: dict[str, Any], layers: int, hidden: int) -> tuple[LayerGroup, ...]:
    heads = int(text["num_attention_heads"])
    kv_heads = int(text.get("num_key_value_heads") or heads)
    head_dim = int(text.get("head_dim") or hidden // heads)
    if "kv_lora_rank" in text:
        latent = int(text["kv_lora_rank"]) + int(text.get("qk_rope_head_dim", 0))
        width = int(text.get("qk_nope_head_dim", head_dim)) + int(text.get("qk_rope_head_dim", 0))
        return (LayerGroup(layers, AttentionKind.MLA, heads, kv_heads, width, latent_dim=latent),)
    kinds = text.get("layer_types") or ["full_attention"] * layers
    window = text.get("sliding_window")
    groups = []
    full = kinds.count("full_attention")
    if full:
        groups.append(LayerGroup(full, AttentionKind.GQA, heads, kv_heads, head_dim))
    if sliding := kinds.count("sliding_attention"):
        groups.append(LayerGroup(sliding, AttentionKind.SLIDING, heads, kv_heads, head_dim, window=window))
    if linear := kinds.count("linear_attention"):
        groups.append(
            LayerGroup(
                linear,
                AttentionKind.LINEAR,
                int(text["linear_num_value_heads"]),
                int(text["linear_num_key_heads"]),
                int(text["linear_value_head_dim"]),
            )
        )
    return tuple(groups)


def _attention_parameters(text: dict[str, Any], groups: tuple[LayerGroup, ...], hidden: int) -> int:
    """Projection weights of all layers: queries, keys, values and output, in each architecture's own factors."""
    total = 0
    for group in groups:
        if group.attention is AttentionKind.MLA:
            rank, rope = int(text["kv_lora_rank"]), int(text.get("qk_rope_head_dim", 0))
            nope, value = int(text["qk_nope_head_dim"]), int(text["v_head_dim"])
            query = int(text.get("q_lora_rank") or 0)
            wide = group.heads * (nope + rope)
            per_layer = (hidden * query + query * wide) if query else hidden * wide
            per_layer += hidden * (rank + rope) + rank * group.heads * (nope + value) + group.heads * value * hidden
        elif group.attention is AttentionKind.LINEAR:
            keys = group.kv_heads * int(text["linear_key_head_dim"])
            values = group.heads * group.head_dim
            per_layer = hidden * (2 * keys + 2 * values) + values * hidden
        else:
            wide = group.heads * group.head_dim
            gate = 2 if text.get("attn_output_gate") else 1
            per_layer = hidden * wide * (1 + gate) + 2 * hidden * group.kv_heads * group.head_dim
        total += group.count * per_layer
    return total


def _key(name: str) -> str:
    key = name.rsplit("/", 1)[-1].lower().replace("meta-llama", "llama").replace("llama3", "llama-3")
    key = key.replace("llama2", "llama-2").replace("gpt_oss", "gpt-oss")
    previous = ""
    while previous != key:
        previous, key = key, _SUFFIXES.sub("", key)
    return re.sub(r"[-_.]", "", key)


def _common(a: str, b: str) -> int:
    grams = {b[i : i + 3] for i in range(len(b) - 2)}
    return sum(a[i : i + 3] in grams for i in range(len(a) - 2))


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    """One table of `models.toml`."""

    aliases: list[str]
    source: Source
    config: dict[str, Any]


@cache
def _shapes() -> dict[str, ModelShape]:
    """Parse the shipped file once: key of name or alias -> shape."""
    raw = tomllib.loads(files("bessemer_planner").joinpath("models.toml").read_text("utf-8"))
    shapes: dict[str, ModelShape] = {}
    for name, table in raw.items():
        entry = msgspec.convert(table, _Entry)
        shape = shape_from_config(entry.config, name, entry.source)
        shapes |= {_key(alias): _without_context(shape) for alias in entry.aliases}
        shapes[_key(name)] = shape
    return shapes
