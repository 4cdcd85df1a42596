"""The journal: an append-only spool on disk that outlives the process.

A line written here survives kill -9 as soon as `append` returns (it is in the kernel), and loss of power once the
file is synced. Each segment is owned by the process that holds its lock; those of dead processes can be adopted.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from bessemer.core.ids import uuid7_hex

_SUFFIX = ".journal"


class Segment:
    """One file of lines, locked by its owner as long as it is open."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    @staticmethod
    def create(folder: Path) -> "Segment":
        """Make and lock an empty segment. Raises OSError."""
        while True:
            path = folder / f"{uuid7_hex()}{_SUFFIX}"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Another process may have taken the file for an orphan between its creation and the lock.
            if path.exists():
                return Segment(path, descriptor)
            os.close(descriptor)

    @staticmethod
    def adopt(path: Path) -> "Segment | None":
        """Lock the segment of a process that is gone; None when its owner lives or it is gone itself."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if not path.exists():
            os.close(descriptor)
            return None
        return Segment(path, descriptor)

    def append(self, line: bytes) -> None:
        """Write one line, whole or not at all. Raises OSError."""
        data = line + b"\n"
        written = os.write(self._descriptor, data)
        if written != len(data):
            os.ftruncate(self._descriptor, self.size)
            raise OSError(f"only {written} of {len(data)} bytes fitted on the disk")
        self.size += written

    def lines(self) -> Iterator[bytes]:
        """Yield the lines in order. A last line without its end was never acknowledged and is left out."""
        with self.path.open("rb") as source:
            for line in source:
                if line.endswith(b"\n"):
                    yield line[:-1]

    def duplicate(self) -> int:
        """Return a second descriptor of the file, to be synced and closed by the caller without holding anyone up."""
        return os.dup(self._descriptor)

    def clear(self) -> None:
        """Forget the lines; the file stays."""
        if self.size:
            os.ftruncate(self._descriptor, 0)
            self.size = 0

    def close(self) -> None:
        """Give up the lock and leave the file for whoever adopts it."""
        os.close(self._descriptor)

    def remove(self) -> None:
        """Delete the file and give up the lock."""
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


def orphans(folder: Path) -> list[Segment]:
    """Lock and return the segments in a folder whose owners are gone, oldest first."""
    found = (Segment.adopt(path) for path in sorted(folder.glob(f"*{_SUFFIX}")))
    return [segment for segment in found if segment is not None]
