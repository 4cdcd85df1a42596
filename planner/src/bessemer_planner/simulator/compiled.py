"""A C source compiled for this machine: built once by its C compiler, kept in the user's cache folder."""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_OPTIONS = ("-O2", "-shared", "-fPIC")


def compiled(source: Path, includes: Sequence[Path]) -> Path | None:
    """Return a C source as a shared library; None without a compiler, or when it failed.

    `includes`: files that the source includes. The library is made anew when any of them, the compiler or the kind of
    processor changes.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    texts = [path.read_bytes() for path in (source, *includes)]
    key = hashlib.sha256(repr((texts, _OPTIONS, compiler, platform.machine())).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bessemer"
    library = folder / f"{source.stem}-{key}.so"
    return library if library.exists() or _compile([compiler, *_OPTIONS, str(source), "-lm"], library) else None


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
