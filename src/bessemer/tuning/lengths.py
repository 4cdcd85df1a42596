"""Which rows fit into a model: one rule for every method, asked when a job is created and again where it trains.

A row must fit as it will be used: into what the model is served with (`context_tokens`), and into what it was made for.
A demonstration is read with its question; a question leaves room for the longest answer. At creation only rows that may
be too long are counted, in a bounded time; the worker counts all of them.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from bessemer.core.errors import InvalidRequest
from bessemer.engine.extra import installed
from bessemer.engine.gguf_file import GgufFile
from bessemer.engine.tokens import Tokens
from bessemer.feedback.rows import TrainingRow

T = TypeVar("T")
_COUNTING_S = 5.0
"""Time that a job's creation may spend on counting; what it does not reach is left to the worker."""
_FRAME, _FRAME_OF_MESSAGE = 256, 32
"""Tokens that chat templates add at most. No text has more tokens than bytes: most rows need no counting."""
_SHOWN = 10


def check_room(limit: int) -> None:
    """Raise InvalidRequest when the longest answer leaves no room for a question."""
    if limit < 1:
        raise InvalidRequest(
            "The longest answer fills the model's context and leaves no room for a prompt: lower `max_tokens`, or "
            "shorten the choices.",
            param="model",
        )


def refuse_long(long: Sequence[tuple[int, int]], rows: int, limit: int, param: str) -> None:
    """Raise InvalidRequest on `param` when there are `long` rows (line of the file, tokens) among its rows."""
    if not long:
        return
    shown = ", ".join(f"row {number}: {length:,}" for number, length in long[:_SHOWN])
    raise InvalidRequest(
        f"{len(long)} of {rows} rows of the {param} do not fit into the {limit:,} tokens that the model has room for "
        f"({shown}{', …' if len(long) > _SHOWN else ''}): shorten or remove them, or raise the model's context_tokens "
        "as far as it was made for.",
        param=param,
        code="no_rows_fit",
    )


class LengthCheck:
    """Counts the rows of a job's files when it is created."""

    def __init__(self, path: Path, context_tokens: int, room: Callable[[Tokens], int], most_room: int) -> None:
        """`path`: the model's file or folder. `room`: tokens a question leaves for an answer, `most_room` at most."""
        self._path = path
        self._room, self._most_room = room, most_room
        self._left = _COUNTING_S if installed() else 0.0  # templates are rendered by what the engine brings
        made_for = self._unless_damaged(lambda: _context(path, _changed(path)))
        self._context = min(context_tokens, made_for or context_tokens)

    def of(self, rows: Iterable[TrainingRow], param: str) -> Iterator[TrainingRow]:
        """Yield the rows as they come; after the last, raise InvalidRequest that names those that are too long."""
        long: list[tuple[int, int]] = []
        count, limit = 0, self._context
        for row in rows:
            count += 1
            if self._may_be_long(row) and (tokens := self._tokens()) is not None:
                began = time.monotonic()
                limit = self._context - self._room(tokens)
                check_room(limit)
                length = _length(tokens, row, limit)
                if length > limit:
                    long.append((row.number, length))
                self._left -= time.monotonic() - began
            yield row
        refuse_long(long, count, limit, param)

    def _tokens(self) -> Tokens | None:
        """Return the tokenizer, None when the time is used up or the files cannot be read."""
        if self._left <= 0:
            return None
        began = time.monotonic()
        tokens = self._unless_damaged(lambda: _loaded(self._path, _changed(self._path)))
        self._left -= time.monotonic() - began
        return tokens

    def _unless_damaged(self, read: Callable[[], T]) -> T | None:
        """Read something of the model; of one whose files are damaged or gone nothing is counted: loading it fails."""
        try:
            return read()
        except Exception:  # libraries raise whatever they stumble over
            self._left = 0.0
            return None

    def _may_be_long(self, row: TrainingRow) -> bool:
        frame = _FRAME + _FRAME_OF_MESSAGE * len(row.messages)
        return frame + _bytes_of(row) + (0 if row.answers else self._most_room) > self._context


def _length(tokens: Tokens, row: TrainingRow, limit: int) -> int:
    """Return a row's tokens; of one that is far too long, the fewest that it can have, which needs no counting."""
    fewest = _bytes_of(row) // tokens.longest_piece
    if fewest > limit:
        return fewest
    answer = max((len(tokens.encode_completion(text)) for text in row.answers), default=0)
    return len(tokens.encode_chat(row.messages)) + answer


def _bytes_of(row: TrainingRow) -> int:
    """Return the bytes of a row's messages and its longest answer."""
    return sum(_bytes(one["content"]) for one in row.messages) + max(map(_bytes, row.answers), default=0)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns


@lru_cache(maxsize=8)
def _context(path: Path, changed: int) -> int | None:
    """Return the context that a model was made for; None when its files do not say."""
    del changed  # a model that was replaced is read anew
    if path.is_dir():
        found = json.loads((path / "config.json").read_text()).get("max_position_embeddings")
    else:
        fields = GgufFile(path).fields
        found = fields.get(f"{fields.get('general.architecture')}.context_length")
    return None if found is None else int(found)


@lru_cache(maxsize=2)
def _loaded(path: Path, changed: int) -> Tokens:
    del changed
    return Tokens.load(path)
