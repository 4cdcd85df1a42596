"""Llama and what is built like it (SmolLM2 and others without biases)."""

from collections.abc import Mapping
from typing import Any

from bessemer.core.errors import EngineError
from bessemer.engine.family import Family, GgufHeader, ModelConfig, gguf_config, hf_config


def _of_gguf(header: GgufHeader) -> ModelConfig:
    if "rope_freqs.weight" in header.tensors:
        raise EngineError("GGUF file has rope_freqs: Llama 3 frequency scaling is not supported")
    return gguf_config(header, "llama")


def _of_hf(raw: Mapping[str, Any]) -> ModelConfig:
    return hf_config(raw, "llama")


LLAMA = Family("llama", "llama", "llama", _of_gguf, _of_hf, gguf_interleaves_heads=True)
