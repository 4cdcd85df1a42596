"""The compiled attention kernel: built once with the machine's C compiler, kept in the user's cache folder.

Without a compiler, or on another device, `load_kernel` returns None and attention runs on torch operations instead.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from bessemer.engine.cache import BLOCK
from bessemer.engine.weights import ModelConfig

_FLAGS = (
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-ffinite-math-only",
    "-fopenmp",
    "-shared",
    "-fPIC",
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
    """Return a C source file compiled for this machine; None without a compiler, or when it failed."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    key = hashlib.sha256(repr((source.read_bytes(), _FLAGS, defines, compiler, _processor())).encode()).hexdigest()[:16]
    library = _cache_folder() / f"{source.stem}-{key}.so"
    if not library.exists() and not _compile([compiler, *_FLAGS, *defines, str(source), "-lm"], library):
        return None
    return library


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bessemer"


def _processor() -> str:
    """Name what -march=native depends on: a cache folder may be shared by different machines."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        return next((line for line in info.read_text().splitlines() if line.startswith(("flags", "Features"))), "")
    return platform.machine() + platform.processor()


def _compile(command: list[str], library: Path) -> bool:
    """Compile beside the target and move it there, so that processes that start together do not see half a file."""
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            made = Path(folder) / "attention.so"
            subprocess.run([*command, "-o", str(made)], check=True, capture_output=True, timeout=120)  # noqa: S603 fixed arguments
            made.replace(library)
    except (OSError, subprocess.SubprocessError):
        return False
    return True
