"""What a loop has done, in a folder: results by step, and what comes piece by piece in files that are only appended to.

Without a folder it is remembered as long as the program runs.
"""

import os
import secrets
import threading
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from bessemer.core.content import content_hash

T = TypeVar("T")


class Lines(Generic[T]):
    """An append-only file of JSON lines; a half-written last one (the program was killed) is dropped."""

    def __init__(self, path: Path | None, kind: type[T]) -> None:
        self._path, self._lock = path, threading.Lock()
        self.rows: list[T] = []
        if path is None or not path.exists():
            return
        complete = 0
        for line in path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            self.rows.append(msgspec.json.decode(line, type=kind))
            complete += len(line)
        os.truncate(path, complete)

    def append(self, row: T) -> None:
        """Keep a row."""
        line = msgspec.json.encode(row) + b"\n"
        with self._lock:
            self.rows.append(row)
            if self._path is not None:
                with self._path.open("ab") as file:
                    file.write(line)


class _Step(msgspec.Struct):
    """A step that is done."""

    name: str
    seconds: float
    result: Any


class _State(msgspec.Struct):
    """Of one loop."""

    id: str
    done: dict[str, _Step] = {}
    """By what was asked."""
    failures: dict[str, int] = {}


class Memory:
    """Of one loop."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._state = _State(id=secrets.token_hex(16))
        self._lines: dict[str, Lines[Any]] = {}
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if (path := self._path(folder)).exists():
            self._state = msgspec.json.decode(path.read_bytes(), type=_State)
        else:
            self._save()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each step that is done, by its name."""
        return {step.name: step.seconds for step in self._state.done.values()}

    def lines(self, name: str, kind: type[T]) -> Lines[T]:
        """Return a file of lines."""
        if name not in self._lines:
            self._lines[name] = Lines(None if self._folder is None else self._folder / name, kind)
        return self._lines[name]

    def done(self, what: str) -> _Step | None:
        """Return what is known of a step that is done."""
        return self._state.done.get(what)

    def key(self, what: str) -> str:
        """Return a step's idempotency key: another one after each failure, so that a failed job is made anew."""
        return content_hash([self._state.id, what, self._state.failures.get(what, 0)])[:32]

    def failed(self, what: str) -> None:
        """Count a failure of a step."""
        self._state.failures[what] = self._state.failures.get(what, 0) + 1
        self._save()

    def keep(self, what: str, name: str, result: Any, seconds: float) -> None:
        """Keep what came of a step."""
        self._state.done[what] = _Step(name, seconds, result)
        self._save()

    @staticmethod
    def _path(folder: Path) -> Path:
        return folder / "loop.json"

    def _save(self) -> None:
        if self._folder is not None:
            path = self._path(self._folder)
            fresh = path.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(self._state))
            fresh.replace(path)
