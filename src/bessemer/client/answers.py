"""What comes back: an answer as its type, a refusal as the error of the same name, anything else as no Bessemer's."""

import json
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

from bessemer.client.operation import Operation
from bessemer.core import errors
from bessemer.core.errors import BessemerError, InvalidRequest, Overloaded

T = TypeVar("T")

_NAMED: Final = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BessemerError) and kind.code
]
_BY_CODE: Final = {(kind.status, kind.code): kind for kind in _NAMED}
_BY_STATUS: Final = {kind.status: kind for kind in _NAMED if 400 < kind.status < 500} | {503: Overloaded}


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
            known = _known(msgspec.json.decode(content), inspect.type_info(operation.answer))
            typed = msgspec.convert(known, operation.answer)
        return msgspec.json.decode(content) if operation.as_sent else typed
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unreachable(f"{url} answers, but not as Bessemer does.") from None


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
