"""Segments of the spool: append-only files on disk that outlive the process.

A line written here survives kill -9 as soon as `append` returns (it is in the kernel), and loss of power once the
file is synced. Each segment is owned by the process that holds its lock; those of dead processes can be adopted.

Each line carries a keyed hash (HMAC-SHA256, RFC 2104) over its segment's name and its content: who can write the folder
but not read the key can neither make up rows nor change or move them.
"""

import fcntl
import hmac
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bessemer.core.errors import StoreError
from bessemer.core.ids import uuid7_hex
from bessemer.store.journal import Line

_SUFFIX = ".journal"
_KEY_FILE = "journal.key"
"""Beside the journal's folder: 32 random bytes in hex, mode 600."""
_HASH_DIGITS = 64
_PROBE = b" " * 65536
_log = logging.getLogger(__name__)


class Signed(NamedTuple):
    """A line that is ready to be written."""

    content: bytes
    segment: "Segment"
    data: bytes


class Segment:
    """One file of lines, locked by its owner as long as it is open."""

    def __init__(self, path: Path, descriptor: int, key: bytes) -> None:
        self.path = path
        self._descriptor = descriptor
        self._signing = _signing(key, path.name)
        self.size = os.fstat(descriptor).st_size

    @staticmethod
    def create(folder: Path, key: bytes) -> "Segment":
        """Make and lock an empty segment. Raises OSError."""
        while True:
            path = folder / f"{uuid7_hex()}{_SUFFIX}"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Another process may have taken the file for an orphan between its creation and the lock.
            if path.exists():
                return Segment(path, descriptor, key)
            os.close(descriptor)

    @staticmethod
    def adopt(path: Path, key: bytes) -> "Segment | None":
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
        return Segment(path, descriptor, key)

    def sign(self, content: bytes) -> "Signed":
        """Return a line as it is written to this segment; any thread."""
        return Signed(content, self, b"%b %b\n" % (_hash(self._signing, content), content))

    def append(self, line: "bytes | Signed") -> None:
        """Write one line, whole or not at all; one signed for another segment is signed again. Raises OSError."""
        if not isinstance(line, Signed) or line.segment is not self:
            line = self.sign(line.content if isinstance(line, Signed) else line)
        data = line.data
        written = os.write(self._descriptor, data)
        if written != len(data):
            os.ftruncate(self._descriptor, self.size)
            raise OSError(f"only {written} of {len(data)} bytes fitted on the disk")
        self.size += written

    def lines(self) -> Iterator[Line]:
        """Yield the lines in order. A last line without its end was never acknowledged and is left out."""
        for line in _whole_lines(self.path):
            signature, content = line[:_HASH_DIGITS], line[_HASH_DIGITS + 1 :]
            genuine = hmac.compare_digest(signature, _hash(self._signing, content))
            yield Line(content, genuine=True) if genuine else Line(line, genuine=False)

    def has_room(self) -> bool:
        """Try whether the file can grow by a long line."""
        try:
            return os.write(self._descriptor, _PROBE) == len(_PROBE)
        except OSError:
            return False
        finally:
            os.ftruncate(self._descriptor, self.size)

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


def orphans(folder: Path, key: bytes) -> list[Segment]:
    """Lock and return the segments in a folder whose owners are gone, oldest first."""
    found = (Segment.adopt(path, key) for path in sorted(folder.glob(f"*{_SUFFIX}")))
    return [segment for segment in found if segment is not None]


def signing_key(folder: Path, *, first: bool) -> bytes:
    """Return the key of the journal in a folder, from the file beside it; made when there is none.

    `first`: this folder never had a key. Then the lines of an earlier version, which did not sign them, are signed
    before the key is in place; a process killed in between leaves a key that the next one goes on with. Whoever takes
    the key away later gets a new key and no line taken in. Raises StoreError when the file holds no key, OSError when
    it cannot be written.
    """
    path = folder.with_name(_KEY_FILE)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # API and worker start together
        if not path.exists():
            new = path.with_suffix(".new")
            if not new.exists() or len(new.read_bytes()) != _HASH_DIGITS:
                _write(new, secrets.token_hex(_HASH_DIGITS // 2).encode())
            key = _read_key(new)
            if first:
                for segment in sorted(folder.glob(f"*{_SUFFIX}")):
                    _sign(segment, key)
            else:
                _log.error("%s is gone: lines signed with it go to rejected.jsonl. A new key is made.", path)
            new.replace(path)
        return _read_key(path)
    finally:
        os.close(descriptor)


def _read_key(path: Path) -> bytes:
    try:
        key = bytes.fromhex(path.read_text())
    except ValueError:
        key = b""
    if len(key) * 2 != _HASH_DIGITS:
        raise StoreError(f"{str(path)!r} holds no key: restore it, or delete it and lose what waits in the journal.")
    return key


def _sign(path: Path, key: bytes) -> None:
    """Sign the lines of a segment that are not signed yet, unless its owner lives."""
    segment = Segment.adopt(path, key)
    if segment is None:
        return
    lines = list(segment.lines())
    if unsigned := sum(not line.genuine for line in lines):
        signed = [segment.sign(line.content).data for line in lines]
        new = path.with_suffix(".new")
        _write(new, b"".join(signed))
        new.replace(path)
        _log.warning("%d lines of an earlier version in %s were taken in and signed, this once", unsigned, path)
    segment.close()


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
        target.write(content)
        target.flush()
        os.fsync(target.fileno())


def _whole_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        for line in source:
            if line.endswith(b"\n"):
                yield line[:-1]


def _signing(key: bytes, name: str) -> hmac.HMAC:
    """Return what signs the lines of one segment: each with a copy, because to begin takes longer than to go on."""
    return hmac.new(key, name.encode() + b"\0", "sha256")


def _hash(signing: hmac.HMAC, content: bytes) -> bytes:
    signing = signing.copy()
    signing.update(content)  # other threads run meanwhile, unlike with `hmac.digest`
    return signing.hexdigest().encode()
