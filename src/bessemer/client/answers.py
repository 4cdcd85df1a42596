"""What comes back: an answer as its type, a refusal as the error of the same name, anything else as no Bessemer's."""

import json
from collections.abc import Iterator
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import inspect

from bessemer.client.operation import Operation
from bessemer.core import errors
from bessemer.core.errors import BessemerError, InvalidRequest, Overloaded
from bessemer.core.events import EventParser

T = TypeVar("T")

_NAMED: Final = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BessemerError) and kind.code
]
_BY_CODE: Final = {(kind.status, kind.code): kind for kind in _NAMED}
_BY_STATUS: Final = {kind.status: kind for kind in _NAMED if 400 < kind.status < 500} | {503: Overloaded}

_COMMON: Final = {"invalid_request_error": InvalidRequest, "server_error": BessemerError}
"""Types that many errors share."""


class Unreachable(BessemerError):
    """No Bessemer server answers at the address."""

    status = 503
    code = "unreachable"

    def __init__(self, message: str, *, arrived: bool | None = True) -> None:
        """`arrived`: whether the request reached a server; None: nobody knows."""
        super().__init__(message)
        self.arrived = arrived


def decode(operation: Operation[T], content: bytes, url: str) -> T:
    """Return an answer as its type; fields that this release does not know are left out. Raises Unreachable."""
    if operation.answer is bytes:
        return content  # type: ignore[return-value]
    try:
        try:
            typed = msgspec.json.decode(content, type=operation.answer)
        except msgspec.ValidationError:
            typed = as_type(msgspec.json.decode(content), operation.answer)
        return msgspec.json.decode(content) if operation.as_sent else typed
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unreachable(f"{url} answers, but not as Bessemer does.") from None


def as_type(value: Any, kind: type[T]) -> T:
    """Return JSON as a type, without the fields that it does not have. Raises msgspec.ValidationError."""
    return msgspec.convert(_known(value, inspect.type_info(kind)), kind)


def _known(value: Any, kind: inspect.Type) -> Any:
    """Return JSON without the fields that its type does not have: nouns refuse them, and a newer server sends more."""
    if isinstance(kind, inspect.Metadata):
        return _known(value, kind.type)
    if isinstance(kind, inspect.UnionType):
        for one in kind.types:  # one of them at most holds other values
            value = _known(value, one)
        return value
    if isinstance(value, dict):
        if isinstance(kind, inspect.StructType):
            fields = {field.encode_name: field.type for field in kind.fields}
            return {name: _known(item, fields[name]) for name, item in value.items() if name in fields}
        if isinstance(kind, inspect.DictType):
            return {name: _known(item, kind.value_type) for name, item in value.items()}
    if isinstance(value, list) and isinstance(kind, inspect.ListType | inspect.VarTupleType):
        return [_known(item, kind.item_type) for item in value]
    return value


_WHOLE = (b'{"type":"response.completed"', b'{"type":"response.incomplete"', b'{"type":"message_stop"')
"""How the last event of a response or message begins; other streams end with [DONE]."""


class EventDecoder(Generic[T]):
    """Turns the bytes of a streamed answer, cut anywhere, into its events."""

    def __init__(self, operation: Operation[T], url: str) -> None:
        self._operation, self._url = operation, url
        self._parser = EventParser()
        self._whole = False

    def feed(self, piece: bytes) -> Iterator[T]:
        """Iterate over the events that a piece completes. Raises the error that the server tells, or Unreachable."""
        for data in self._parser.feed(piece):
            if data == b"[DONE]":
                self._whole = True
            elif (error := _told(data)) is not None:
                raise error
            else:
                self._whole = self._whole or data.startswith(_WHOLE)
                yield decode(self._operation, data, self._url)

    def end(self) -> None:
        """Raise Unreachable unless the answer is whole."""
        if not self._whole:
            raise Unreachable(f"{self._url} broke off in the middle of its answer.", arrived=True)


def _told(data: bytes) -> BessemerError | None:
    """Return the error that an event of a stream is; it has no status, so its code and type say which."""
    try:
        body = json.loads(data)["error"]
        message, param, code, kind = str(body["message"]), body.get("param"), body.get("code"), body.get("type")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    named = next((one for one in _NAMED if one.code == code), None) or next(
        (one for one in _NAMED if one.type == kind and kind not in _COMMON), _COMMON.get(kind, BessemerError)
    )
    return named(message, param=param, code=code)


def error_of(status: int, content: bytes, retry_after: str | None) -> BessemerError:
    """Return the error that a status above 399 and its body stand for: its class by status and code."""
    try:
        body = json.loads(content)["error"]
        message, param, code = str(body["message"]), body.get("param"), body.get("code")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        message, param, code = f"The server answered {status}.", None, None
    fallback = InvalidRequest if status < 500 else BessemerError
    kind = _BY_CODE.get((status, code)) or _BY_STATUS.get(status, fallback)
    seconds = int(retry_after) if retry_after is not None and retry_after.isdecimal() else None
    return kind(message, param=param, code=code, retry_after=seconds)
