"""One process of a kind per data folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bessemer.core.errors import ConfigError


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file while the block runs; the kernel frees it when the process dies.

    Raises ConfigError when another process holds it, or when the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(
            f"The data folder {str(path.parent)!r} cannot be written: {error.strerror}; choose another with --data.",
            param="data",
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"Another process already runs on {str(path.parent)!r} (it holds {path.name}); "
                "stop it or choose another data folder with --data.",
                param="data",
            ) from None
        yield
    finally:
        os.close(descriptor)
