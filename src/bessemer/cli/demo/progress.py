"""Live progress: one changing line on a terminal, plain lines with times otherwise."""

import sys
import time
from types import TracebackType
from typing import Any, TextIO

_QUIET_S = 10.0
"""Plain lines inside a step come at most this often."""


_NO_TERMINAL_WIDTH = 160


class ProgressLine:
    """Tells a person what is going on. Use as a context manager; `step` begins a new step and ends the last one."""

    def __init__(self, stream: TextIO | None = None, *, live: bool | None = None) -> None:
        self._stream = stream or sys.stdout
        self._live = self._stream.isatty() if live is None else live
        self._started = time.monotonic()
        self._said = 0.0
        self.name = ""
        """Of the step."""
        self._status = None
        if self._live:
            from rich.console import Console

            self._console = Console(file=self._stream)
            self._status = self._console.status("")

    def __enter__(self) -> "ProgressLine":
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def step(self, name: str) -> None:
        """Begin a step."""
        self.name, self._said = name, 0.0
        self.notice(0, 0, "started")

    def notice(self, done: int, total: int, what: str) -> None:
        """Say how far the step is; `total` 0 when it is not known."""
        counted = f"{done:,} of {total:,} " if total else ""
        text = f"{self.name}: {counted}{what}"
        now = time.monotonic()
        if self._status is not None:
            self._status.update(f"[bold]{now - self._started:5.0f} s[/bold]  {text}")
        elif now - self._said >= _QUIET_S or (total and done == total):
            self._said = now
            self._write(text)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._status is not None:
            self._console.print(f"[bold]{time.monotonic() - self._started:5.0f} s[/bold]  {text}", highlight=False)
        else:
            self._write(text)

    def show(self, table: Any) -> None:
        """Print a table that stays (rich's)."""
        from rich.console import Console

        console = self._console if self._live else Console(file=self._stream, width=_NO_TERMINAL_WIDTH)
        console.print(table)

    def _write(self, text: str) -> None:
        self._stream.write(f"[{time.monotonic() - self._started:6.1f} s] {text}\n")
        self._stream.flush()
