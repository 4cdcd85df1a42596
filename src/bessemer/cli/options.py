"""Options that many verbs share, and the session they open."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bessemer.cli.output import show_change, show_row, show_rows
from bessemer.client import Client, Operation, as_sent
from bessemer.core.errors import ConfigError
from bessemer.core.paging import Page
from bessemer.core.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Rows at most.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
Data = Annotated[
    Path | None, typer.Option("--data", envvar="BESSEMER_DATA", help="Data folder: database, artifacts, models, keys.")
]


class Session:
    """Where the verbs of this command line go; connects on first use."""

    def __init__(self, url: str | None, key: str | None, data: Path | None) -> None:
        self._url, self._key = url, key
        self.data = data

    @property
    def client(self) -> Client:
        """The client. Raises ConfigError when there is no key."""
        return connect(self._url, self._key, self.data or Settings().data)


def connect(url: str | None, key: str | None, data: Path) -> Client:
    """Return a client: flags, then BESSEMER_URL and BESSEMER_API_KEY, then what `bessemer up` left in the folder.

    It asks once: who sees an error at a terminal decides about another try.
    """
    url = url or os.environ.get("BESSEMER_URL") or _read(data / "server.url") or "http://127.0.0.1:8080"
    key = key or os.environ.get("BESSEMER_API_KEY") or _read(data / "admin.key")
    if key is None:
        raise ConfigError(
            f"No API key: give --key or BESSEMER_API_KEY; none can be read from {str(data / 'admin.key')!r}.",
            param="key",
        )
    try:
        return Client(url, key, retries=0)
    except ConfigError as error:
        raise ConfigError(f"{error.message} Give another with --{error.param}.", param=error.param) from None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def client_of(context: typer.Context) -> Client:
    """Return the session's client."""
    session = context.find_object(Session)
    assert session is not None
    return session.client


def list_rows(
    context: typer.Context, operation: Operation[Page[Any]], columns: tuple[str, ...], *, as_json: bool
) -> None:
    """Ask for a list and print it."""
    answer = client_of(context).send(as_sent(operation))
    show_rows(answer["data"], columns, as_json=as_json, truncated=bool(answer.get("has_more")))


def show_one(context: typer.Context, operation: Operation[Any], *, as_json: bool) -> None:
    """Ask for one thing and print it."""
    show_row(client_of(context).send(as_sent(operation)), as_json=as_json)


def change(
    context: typer.Context,
    operation: Operation[Any],
    target: str,
    sentence: str,
    *,
    as_json: bool,
    dry_run: bool = False,
) -> Any:
    """Send a change and print it; `sentence` may use the answer's fields (`{id}`). Returns the answer, None if dry."""
    if dry_run:
        detail = {"method": operation.method, "path": operation.path, "body": operation.body}
        show_change(target, detail, "", as_json=as_json, dry_run=True)
        return None
    answer = client_of(context).send(as_sent(operation))
    show_change(str(answer.get("id", target)), answer, sentence.format_map(answer), as_json=as_json)
    return answer


def pair(text: str, option: str) -> tuple[str, str]:
    """Return the parts of NAME=VALUE. Raises ConfigError that names the option."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ConfigError(f"--{option} {text!r} is not NAME=VALUE.", param=option)
    return name, value


def save(context: typer.Context, operation: Operation[bytes], to: Path | None) -> None:
    """Write an answer to a file, whole or not at all, or to standard output."""
    if to is None:
        sys.stdout.buffer.write(client_of(context).send(operation))
        sys.stdout.flush()
    else:
        sys.stdout.write(f"{to}  {client_of(context).save(operation, to)} bytes\n")


def read_object(file: Path, what: str) -> dict[str, Any]:
    """Return the JSON object that a file holds. Raises ConfigError that names the file."""
    try:
        value = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"Cannot read {what} from {str(file)!r}: {error}.", param=what) from None
    if not isinstance(value, dict):
        raise ConfigError(f"{str(file)!r} holds no JSON object; write {what} as one: {{...}}.", param=what)
    return value
