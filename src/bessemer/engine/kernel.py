"""The compiled attention kernel: built once with the machine's C compiler, kept in the user's cache folder.

Without a compiler, or on another device, `load_kernel` returns None and attention runs on torch operations instead.
"""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from bessemer.engine.cache import BLOCK
from bessemer.engine.family import ModelConfig
from bessemer_planner.native import compiled

_FLAGS = (
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-ffinite-math-only",
    "-fopenmp",
)


class AttentionJob(ctypes.Structure):
    """Arguments of the kernel: pointers, sizes and the scale, in the order of `Job` in attention.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("q", "keys", "values", "new_keys", "new_values", "out", "slot_of_row")),
        *((name, ctypes.c_void_p) for name in ("tables", "sequence_of_row", "length_of_row", "extra_start", "extras")),
        *((name, ctypes.c_int64) for name in ("rows", "kv_heads", "table_width", "window", "threads")),
        *((name, ctypes.c_int64) for name in ("new_keys_stride", "new_values_stride")),
        ("scale", ctypes.c_float),
    )


Kernel = Callable[[AttentionJob], int]


def load_kernel(config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Kernel | None:
    """Return the kernel for a model's head shape and storage type, compiling it when it is not in the cache folder.

    None: not a CPU, not bfloat16 or float32, no C compiler, or the compiler failed.
    """
    if device.type != "cpu" or dtype not in (torch.bfloat16, torch.float32):
        return None
    defines = [
        f"-DHEAD_DIM={config.head_dim}",
        f"-DGROUP={config.n_heads // config.n_kv_heads}",
        f"-DBLOCK={BLOCK}",
        *(["-DSTORED_BF16"] if dtype is torch.bfloat16 else []),
    ]
    library = compiled_library(Path(__file__).with_name("attention.c"), defines)
    if library is None:
        return None
    function = ctypes.CDLL(str(library)).attend
    function.argtypes = [ctypes.POINTER(AttentionJob)]
    function.restype = ctypes.c_int

    def call(job: AttentionJob) -> int:
        return int(function(ctypes.byref(job)))

    return call


def compiled_library(source: Path, defines: Sequence[str]) -> Path | None:
    """Return a kernel's C source compiled for this machine; None without a compiler, or when it failed."""
    return compiled(source, [*_FLAGS, *defines])
