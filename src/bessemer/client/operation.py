"""One call of the API as a value: what is sent, and the type of what comes back."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast
from urllib.parse import quote, urlencode

import msgspec

from bessemer.core.types import JSON

T_co = TypeVar("T_co", covariant=True)


class Upload(NamedTuple):
    """A file to send as a form; it is read while it is sent, and never in memory whole."""

    file: Path
    purpose: str


@dataclass(frozen=True, slots=True)
class Operation(Generic[T_co]):
    """One call, made by the functions of `calls`; `Client.send` and `AsyncClient.send` send it and return a T.

    Bodies and queries are the API's own types, or plain JSON of the same form that the server checks.
    """

    method: str
    path: str
    answer: type[T_co]
    """bytes: what is no JSON, as it is sent."""
    body: msgspec.Struct | Mapping[str, Any] | Upload | None = None
    query: msgspec.Struct | Mapping[str, Any] | None = None
    key: str | None = None
    """Idempotency key: however often it is sent, one thing is made."""
    as_sent: bool = False
    """Give the JSON that the server wrote, which must be of the answer's type, in place of the T."""

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again when nobody knows whether it arrived."""
        return self.method == "GET" or self.key is not None

    @property
    def target(self) -> str:
        """Path and query string. What is None is left out, and so is a default."""
        pairs: list[tuple[str, Any]] = []
        for name, value in _fields(self.query).items():
            if isinstance(value, Mapping):
                pairs += [(f"{name}[{key}]", item) for key, item in value.items()]
            else:
                pairs.append((name, value))
        return self.path + (f"?{urlencode(pairs)}" if pairs else "")

    @property
    def json_body(self) -> JSON | None:
        """The body as JSON; None without one, or where it is a file."""
        return None if self.body is None or isinstance(self.body, Upload) else _fields(self.body)

    def after(self, last_id: str) -> "Operation[T_co]":
        """Return the call for the page behind this one."""
        return replace(self, query=_fields(self.query) | {"after": last_id})

    def with_key(self, key: str | None = None) -> "Operation[T_co]":
        """Return the call under an idempotency key; None: a fresh one."""
        return replace(self, key=key or secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class Streamed(Generic[T_co]):
    """A call whose answer comes in events: `Client.stream` and `AsyncClient.stream` send it, each event is a T."""

    operation: Operation[T_co]


def as_sent(operation: Operation[Any]) -> Operation[JSON]:
    """Return the call with its answer as the JSON that the server wrote, newer fields included."""
    return cast("Operation[JSON]", replace(operation, as_sent=True))


def segment(name: str) -> str:
    """Return a name as one path segment."""
    return quote(name, safe=":@")


def _fields(value: msgspec.Struct | Mapping[str, Any] | None) -> JSON:
    fields = msgspec.to_builtins(value, str_keys=True) if isinstance(value, msgspec.Struct) else dict(value or {})
    return {name: field for name, field in fields.items() if field is not None}
