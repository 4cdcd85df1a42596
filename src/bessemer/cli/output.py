"""What commands print: tables for people, one JSON envelope for programs.

Lists: `{as_of, counts, rows, truncated}`. Changes: `{target, applied, dry_run, detail}`. Errors: `{kind, exception,
message, status}` with `kind` out of a closed set.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from bessemer.core.errors import BessemerError

_NO_TERMINAL_WIDTH = 10_000
"""Columns when nobody looks: a program that reads the table wants whole names."""


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

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.rpartition(".")[2], overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row, column) for column in columns))
    console = Console(width=None if sys.stdout.isatty() else _NO_TERMINAL_WIDTH)
    console.print(table)
    if truncated:
        console.print("There are more; raise --limit.", style="dim")


def show_row(row: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one thing: the envelope with one row, or its fields line by line."""
    if as_json:
        show_rows([row], (), as_json=True)
        return
    width = max((len(name) for name in row), default=0)
    for name, value in row.items():
        sys.stdout.write(f"{name:<{width}}  {_text(value, name)}\n")


def show_change(target: str, detail: Any, sentence: str, *, as_json: bool, dry_run: bool = False) -> None:
    """Print what a command changed, or would change."""
    if as_json:
        emit({"target": target, "applied": not dry_run, "dry_run": dry_run, "detail": detail})
    elif dry_run:
        sys.stdout.write(f"Would send: {json.dumps(detail, ensure_ascii=False)}\n")
    else:
        sys.stdout.write(sentence + "\n")


def show_error(message: str, exception: str, kind: ErrorKind, status: int | None, *, as_json: bool) -> None:
    """Print an error on standard error, in one line."""
    if as_json:
        line = json.dumps({"kind": kind.value, "exception": exception, "message": message, "status": status})
    else:
        line = "error: " + " ".join(message.split())
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
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
