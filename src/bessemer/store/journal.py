"""The journal: what holds a row before its request is answered, so that no end of the process loses it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Line(NamedTuple):
    """A line that was appended once."""

    content: bytes
    genuine: bool
    """Whether it is whole and was written by this installation."""


class PreparedLine(NamedTuple):
    """A line that can be appended."""

    content: bytes
    made: object = None
    """What a journal has made of it, for itself."""


class Journal(Protocol):
    """Keeps the lines of one writer until they are released, and gives back those that are nowhere else.

    Lines are numbered from 1 as they are appended. Safe to share between threads; each method raises StoreError when
    the journal cannot be written or read. What a process that is gone has not released comes to one that lives.
    """

    @property
    def place(self) -> str:
        """Where the lines are, for people."""

    @property
    def behind(self) -> bool:
        """Whether lines wait for `replay`."""

    def prepare(self, content: bytes) -> PreparedLine:
        """Do for a long line what needs no turn, so that `append` is short: others are not held up meanwhile."""

    def append(self, line: PreparedLine) -> int:
        """Keep a line without a line feed, whole or not at all; return its number.

        On return it outlives the process; the machine as well once it is synced.
        """

    def sync(self) -> None:
        """Bring every line to where it outlives the machine."""

    def has_room(self) -> bool:
        """Try whether a long line could be appended."""

    def release(self, number: int) -> None:
        """Forget the lines up to a number: they are in the database."""

    def defer(self) -> None:
        """Give the lines that are not released to `replay`: nobody holds their rows."""

    def replay(self, limit: int) -> Sequence[Line]:
        """Return up to so many of the oldest lines that wait, the same ones until `replayed`; none when none wait."""

    def replayed(self) -> None:
        """Forget what `replay` returned: it is in the database, or rejected."""

    def reject(self, content: bytes) -> None:
        """Keep what the database refuses, for people to look at."""

    def forget(self, ids: Sequence[str]) -> None:
        """Drop what was rejected and names one of the ids."""

    def close(self) -> None:
        """Leave what is not released to whoever opens the journal next."""
