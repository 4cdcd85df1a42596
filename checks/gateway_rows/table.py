"""Rows of the table, and what was seen of each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway_rows.server import Server, Upstream


@dataclass
class Bench:
    """What a row may use."""

    server: Server
    upstream: Upstream
    cases: Path
    folder: Path
    database_url: str | None


@dataclass
class Seen:
    """What one row saw: how much was as expected, and what was not."""

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)

    def check(self, name: str, right: object, got: object = "") -> None:
        """Note one observation."""
        if right:
            self.right += 1
        else:
            self.wrong.append(f"{name}: {str(got)[:200]}")

    def note(self, text: str) -> None:
        """Note a measured value, or what could not be tried."""
        self.noted.append(text)

    @property
    def got(self) -> str:
        """What was seen, in a line."""
        told = "; ".join([f"{self.right} of {self.right + len(self.wrong)} as expected", *self.noted, *self.wrong])
        return " ".join(told.split())


Row = Callable[[Bench, Seen], None]
ROWS: dict[int, tuple[str, Row]] = {}


def row(number: int, expected: str) -> Callable[[Row], Row]:
    """Enter a function as a row of the table."""

    def enter(function: Row) -> Row:
        ROWS[number] = (expected, function)
        return function

    return enter
