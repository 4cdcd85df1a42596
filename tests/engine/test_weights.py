"""Weights are kept in the type that the processor multiplies fast."""

import platform
from pathlib import Path

import torch
from tests.gateway.tiny import tiny_model

from bessemer.engine.weights import load_weights, native_dtype


def test_weights_are_of_the_type_that_the_processor_multiplies_fast(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model")
    about = Path("/proc/cpuinfo")
    if platform.machine() == "x86_64" and about.exists():
        flags = about.read_text()
        fast = "avx512_bf16" in flags or "amx_bf16" in flags
        assert native_dtype() is (torch.bfloat16 if fast else torch.float32)
    assert load_weights(folder).embedding.dtype is native_dtype()
    assert load_weights(folder, torch.bfloat16).embedding.dtype is torch.bfloat16
