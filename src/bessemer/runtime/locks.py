"""A data folder that others cannot read, and one process of a kind on it."""

import fcntl
import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from bessemer.core.errors import ConfigError

log = structlog.get_logger("bessemer.data")


def keep_private(folder: Path) -> None:
    """Make what this process and its children create from now on readable to their account alone: files 600, folders
    700. A data folder that is wider already is left as it is, with a warning that says the remedy."""
    os.umask(0o077)
    try:
        found = folder.stat().st_mode
    except OSError:
        return  # it is made later, or refused with its reason
    mode = stat.S_IMODE(found)
    if stat.S_ISDIR(found) and mode & 0o077:
        remedy = f"chmod -R go= {shlex.quote(str(folder))}"
        log.warning("data.readable_by_others", folder=str(folder), mode=f"{mode:03o}", remedy=remedy)


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
