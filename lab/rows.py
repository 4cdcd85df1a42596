"""Reads JSON Lines of any make into rows; what is wrong is named by file, row and field."""

import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from bessemer.core.errors import InvalidRequest
from bessemer.core.types import JSON

T = TypeVar("T")


def read_rows(path: Path) -> list[JSON]:
    """Read JSON Lines, gzipped when the name ends in .gz. Raises InvalidRequest naming the line."""
    opener = gzip.open if path.suffix == ".gz" else open
    rows: list[JSON] = []
    try:
        with opener(path, "rt", encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    rows.append(_decode(line, path, number))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{str(path)!r} cannot be read: {error}.", param="path") from error
    if not rows:
        raise InvalidRequest(f"{str(path)!r} holds no rows.", param="path")
    return rows


def _decode(line: str, path: Path, number: int) -> JSON:
    try:
        row = json.loads(line)  # unlike strict JSON, such files may hold NaN
        if not isinstance(row, dict):
            raise ValueError("it is something else")
        msgspec.json.encode(row)  # refuses halves of surrogate pairs, which no text can hold
        return row
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path.name} line {number} is not a JSON object: {error}.", param="path") from error


def made_of(rows: Sequence[JSON], path: Path, make: Callable[[JSON], T]) -> list[T]:
    """Convert every row. Raises InvalidRequest that names the file, the row and the field."""
    made: list[T] = []
    for number, row in enumerate(rows, 1):
        try:
            made.append(make(row))
        except InvalidRequest as error:
            raise InvalidRequest(f"{path.name} row {number}: {error.message}", param=error.param) from None
    return made


def string(row: JSON, field: str) -> str:
    """Return a field that must be text. Raises InvalidRequest that names it."""
    value = row.get(field)
    if not isinstance(value, str):
        raise InvalidRequest(f"{field!r} must be a text, not {value!r}.", param=field)
    return value
