"""The journal of one machine: a folder of segments, each owned by the process that holds its lock."""

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from bessemer.core.errors import StoreError
from bessemer.store import revisions
from bessemer.store.database import Database
from bessemer.store.journal import Line, PreparedLine
from bessemer.store.segments import Segment, Signed, orphans, signing_key

_SEGMENT_BYTES: Final = 64 * 1024 * 1024
_REJECTED: Final = "rejected.jsonl"


class _Waiting(NamedTuple):
    """A segment whose rows are nowhere else."""

    segment: Segment
    released: int
    """How many of its first lines need no replay."""


@dataclass
class _Part:
    """A segment of lines that are not all released."""

    segment: Segment
    before: int
    """Number of the line before its first."""


class Spool:
    """A `Journal` in a folder. Processes may share it: each writes segments of its own and adopts those of the dead."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self._folder = folder
        self._key = key
        self._lock = threading.Lock()
        self._parts: deque[_Part] = deque()
        """The last one takes new lines."""
        self._backlog = deque(_Waiting(segment, 0) for segment in orphans(folder, key))
        self._last = 0
        """Number of the line appended last."""
        self._released = 0
        self._reading: Iterator[Line] | None = None
        self._given: Sequence[Line] = ()
        """Lines of the backlog that `replay` returned."""

    @staticmethod
    def open(database: Database, folder: Path) -> "Spool":
        """Open the journal of a folder, with the lines of processes that are gone.

        The database remembers for which folders a key was made. Raises OSError when the folder cannot be made,
        StoreError.
        """
        folder.mkdir(parents=True, exist_ok=True)
        known = f"journal_key:{folder.absolute()}"
        first = revisions.current(database, known) == 0
        key = signing_key(folder, first=first)
        if first:
            database.write(lambda connection: revisions.bump(connection, known))
        return Spool(folder, key)

    @property
    def place(self) -> str:
        """See `Journal`."""
        return str(self._folder)

    @property
    def behind(self) -> bool:
        """See `Journal`."""
        return bool(self._backlog)

    def prepare(self, content: bytes) -> PreparedLine:
        """See `Journal`."""
        with self._lock:
            part = self._parts[-1] if self._parts else None
        return PreparedLine(content, None if part is None else part.segment.sign(content))

    def append(self, line: PreparedLine) -> int:
        """See `Journal`."""
        with self._lock:
            try:
                self._open_part().append(line.made if isinstance(line.made, Signed) else line.content)
            except OSError as error:
                raise self._cannot("written", error) from error
            self._last += 1
            return self._last

    def _open_part(self) -> Segment:
        if not self._parts or self._parts[-1].segment.size > _SEGMENT_BYTES:
            self._parts.append(_Part(Segment.create(self._folder, self._key), self._last))
        return self._parts[-1].segment

    def sync(self) -> None:
        """See `Journal`."""
        with self._lock, self._boundary("synced"):
            descriptors = [segment.duplicate() for segment in self._segments()]
        with self._boundary("synced"):
            for descriptor in descriptors:
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def has_room(self) -> bool:
        """See `Journal`."""
        with self._lock:
            try:
                return self._open_part().has_room()
            except OSError:
                return False

    def release(self, number: int) -> None:
        """See `Journal`."""
        with self._lock:
            self._released = max(self._released, number)
            while len(self._parts) > 1 and self._parts[1].before <= self._released:
                self._parts.popleft().segment.remove()
            if self._parts and self._last <= self._released:
                self._parts[0].segment.clear()
                self._parts[0].before = self._last

    def defer(self) -> None:
        """See `Journal`."""
        with self._lock:
            if self._released < self._last:
                self._backlog.extend(
                    _Waiting(part.segment, max(0, self._released - part.before)) for part in self._parts
                )
                self._parts.clear()
                self._released = self._last

    def replay(self, limit: int) -> Sequence[Line]:
        """See `Journal`."""
        while self._backlog and not self._given:
            waiting = self._backlog[0]
            if self._reading is None:
                self._reading = islice(waiting.segment.lines(), waiting.released, None)
            try:
                with self._boundary("read"):
                    self._given = list(islice(self._reading, limit))
            except StoreError:
                self._reading = None
                raise
            if not self._given:
                with self._lock:
                    self._reading = None
                    self._backlog.popleft().segment.remove()
        return self._given

    def replayed(self) -> None:
        """See `Journal`."""
        self._given = ()

    def reject(self, content: bytes) -> None:
        """See `Journal`."""
        path = self._folder / _REJECTED
        with self._lock:
            try:
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as target:
                    target.write(content + b"\n")
                    target.flush()
                    os.fsync(target.fileno())
            except OSError as error:
                raise StoreError(f"{_REJECTED} cannot be written: {error}.") from error

    def forget(self, ids: Sequence[str]) -> None:
        """See `Journal`."""
        names = [name.encode() for name in ids]
        path = self._folder / _REJECTED
        with self._lock:
            if not names or not path.exists():
                return
            lines = path.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if not any(name in line for name in names)]
            if len(kept) < len(lines):
                new = path.with_suffix(".new")
                new.write_bytes(b"".join(kept))
                new.replace(path)

    def close(self) -> None:
        """See `Journal`."""
        with self._lock:
            for segment in self._segments():
                segment.close() if segment.size else segment.remove()
            self._parts.clear()
            self._backlog.clear()

    def _segments(self) -> list[Segment]:
        return [*(part.segment for part in self._parts), *(waiting.segment for waiting in self._backlog)]

    @contextmanager
    def _boundary(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._cannot(done, error) from error

    def _cannot(self, be: str, error: OSError) -> StoreError:
        return StoreError(f"The journal in {self.place!r} cannot be {be}: {error}.")
