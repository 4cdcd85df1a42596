"""Gemma 3 text models: sliding windows in five of six layers, norms around both blocks and on queries and keys."""

from collections.abc import Mapping
from typing import Any

import msgspec

from bessemer.engine.family import (
    HF_NAMES,
    Family,
    GgufHeader,
    ModelConfig,
    gguf_config,
    hf_config,
    hf_rope,
    renamed,
    sliding_windows,
)

_LOCAL_THETA = 10_000.0
_PATTERN = 6
_LAYER = "model.layers.{}."


def _like_gemma(config: ModelConfig, **changes: Any) -> ModelConfig:
    return msgspec.structs.replace(
        config,
        qk_norm=True,
        post_norms=True,
        activation="gelu_tanh",
        embedding_scale=config.hidden**0.5,
        **changes,
    )


def _of_gguf(header: GgufHeader) -> ModelConfig:
    config = gguf_config(header, "gemma3")
    windows = sliding_windows(config.n_layers, int(header.value("attention.sliding_window")), _PATTERN)
    return _like_gemma(config, windows=windows, rope_theta_local=_LOCAL_THETA)


def _of_hf(raw: Mapping[str, Any]) -> ModelConfig:
    config = hf_config(raw, "gemma3")
    local = hf_rope(raw, "sliding_attention")
    theta = local.get("rope_theta", raw.get("rope_local_base_freq", config.rope_theta))
    window, types = raw["sliding_window"], raw.get("layer_types")
    pattern = raw.get("sliding_window_pattern", _PATTERN)
    return _like_gemma(
        config,
        windows=sliding_windows(config.n_layers, window, pattern)
        if not types
        else tuple(None if kind == "full_attention" else window for kind in types),
        rope_theta_local=float(theta),
        attention_scale=raw["query_pre_attn_scalar"] ** -0.5,
        tied=bool(raw.get("tie_word_embeddings", True)),
    )


GEMMA3 = Family(
    "gemma3",
    "gemma3",
    "gemma3_text",
    _of_gguf,
    _of_hf,
    hf_names=renamed(
        HF_NAMES,
        ffn_norm=_LAYER + "pre_feedforward_layernorm.weight",
    ),
    hf_norm_offset=1.0,
)
