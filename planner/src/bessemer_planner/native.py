"""C sources compiled for this machine: built once by its C compiler, kept in the user's cache folder.

The planner's simulator and the kernels of Bessemer's engine are made by it.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path


def compiled(source: Path, options: Sequence[str], includes: Sequence[Path] = ()) -> Path | None:
    """Return a C source file as a shared library; None without a compiler, or when it failed.

    `includes`: files that the source includes. The library is made anew when any of them, the options, the compiler or
    the processor change.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    texts = [path.read_bytes() for path in (source, *includes)]
    key = hashlib.sha256(repr((texts, list(options), compiler, _processor())).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bessemer"
    library = folder / f"{source.stem}-{key}.so"
    command = [compiler, *options, "-shared", "-fPIC", str(source), "-lm"]
    return library if library.exists() or _compile(command, library) else None


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
            made = Path(folder) / library.name
            subprocess.run([*command, "-o", str(made)], check=True, capture_output=True, timeout=120)  # noqa: S603 fixed arguments
            made.replace(library)
    except (OSError, subprocess.SubprocessError):
        return False
    return True
