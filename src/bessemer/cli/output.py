"""What commands print: tables for people, one JSON envelope for programs.

Lists: `{as_of, counts, rows, truncated}`. Changes: `{target, applied, dry_run, detail}`. Errors: `{kind, exception,
message, status}` with `kind` out of a closed set.
"""

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from bessemer.core.errors import BessemerError

_NO_TERMINAL_WIDTH = 10_000
"""Columns when nobody looks: a program that reads the table wants whole names."""
_LEAST_WIDTH = 8
"""Characters that a column of text needs to be read; identifiers need theirs whole."""
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Controls of the terminal and of the writing direction: whoever names a file must not move the cursor. Tab and line
feed stay."""


class ErrorKind(StrEnum):
    """Why a command failed."""

    USAGE = "usage"
    """The command line itself: unknown verb, option or value."""
    INVALID = "invalid"
    """The server refused the input."""
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    LIMITED = "limited"
    UNREACHABLE = "unreachable"
    SERVER = "server"
    """The server failed."""


_KINDS = {
    401: ErrorKind.UNAUTHORIZED,
    403: ErrorKind.FORBIDDEN,
    404: ErrorKind.NOT_FOUND,
    409: ErrorKind.CONFLICT,
    429: ErrorKind.LIMITED,
    503: ErrorKind.UNREACHABLE,
}


def printable(text: str) -> str:
    """Return a text with its control characters written out, as `\\x1b`."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def emit(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def show_rows(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, truncated: bool = False
) -> None:
    """Print rows: the envelope with everything, or a table of some columns (dotted names reach inside)."""
    if as_json:
        emit({"as_of": time.time(), "counts": {"rows": len(rows)}, "rows": list(rows), "truncated": truncated})
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else _NO_TERMINAL_WIDTH)
    cells = [[_cell(row, column) for column in columns] for row in rows]
    whole = [_is_name(column) for column in columns]
    least = [
        max(map(len, found), default=0) if whole[index] else _LEAST_WIDTH
        for index, found in enumerate(zip(*cells, strict=True))
    ]
    if sum(least) + 2 * len(least) > console.width:
        # A name that is broken over lines cannot be copied: a block a row instead.
        for row in cells:
            _block(dict(zip(columns, row, strict=True)))
    else:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for column, keep in zip(columns, whole, strict=True):
            table.add_column(column.rpartition(".")[2], overflow="fold", no_wrap=keep)
        for row in cells:
            table.add_row(*map(Text, row))  # as text: what somebody called a file is no markup
        console.print(table)
    if truncated:
        console.print("There are more; raise --limit.", style="dim")


def show_row(row: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one thing: the envelope with one row, or its fields line by line, those inside a field by dotted names."""
    if as_json:
        show_rows([row], (), as_json=True)
    else:
        _block({name: _text(value, name) for name, value in _flat(row)})


def _block(fields: Mapping[str, str]) -> None:
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        sys.stdout.write(f"{name:<{width}}  {value}\n")
    sys.stdout.write("\n")


def _flat(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _is_name(column: str) -> bool:
    """Return whether a column holds what other commands take: ids, versions."""
    name = column.rpartition(".")[2]
    return name in {"id", "version", "fine_tuned_model", "fine_tuned_model_checkpoint"} or name.endswith("_id")


def show_change(target: str, detail: Any, sentence: str, *, as_json: bool, dry_run: bool = False) -> None:
    """Print what a command changed, or would change."""
    if as_json:
        emit({"target": target, "applied": not dry_run, "dry_run": dry_run, "detail": detail})
    elif dry_run:
        sys.stdout.write(printable(f"Would send: {json.dumps(detail, ensure_ascii=False)}\n"))
    else:
        sys.stdout.write(printable(sentence + "\n"))


def show_error(message: str, exception: str, kind: ErrorKind, status: int | None, *, as_json: bool) -> None:
    """Print an error on standard error, in one line."""
    if as_json:
        line = json.dumps({"kind": kind.value, "exception": exception, "message": message, "status": status})
    else:
        line = "error: " + printable(" ".join(message.split()))
    sys.stderr.write(line + "\n")


def kind_of(error: BessemerError) -> ErrorKind:
    """Return the closed kind of a named error."""
    return _KINDS.get(error.status, ErrorKind.SERVER if error.status >= 500 else ErrorKind.INVALID)


def _cell(row: Mapping[str, Any], column: str) -> str:
    value: Any = row
    for part in column.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return _text(value, column)


def _text(value: Any, name: str) -> str:
    if value is None:
        return "-"
    if (name.endswith("_at") or name == "created") and isinstance(value, int | float):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value)) if value else "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "  ".join(f"{key}={_text(item, str(key))}" for key, item in value.items()) or "-"
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(_text(item, name) for item in value) or "-"
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
