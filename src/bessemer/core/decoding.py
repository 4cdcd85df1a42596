"""JSON bodies into types: what is wrong with one is told in words that help."""

import re
from functools import cache
from typing import Any, TypeVar

import msgspec

from bessemer.core import pieces
from bessemer.core.bounds import check_shape
from bessemer.core.errors import InvalidRequest
from bessemer.core.invalid import invalid
from bessemer.core.types import JSON

_Body = TypeVar("_Body", bound=msgspec.Struct)

_OBJECT: msgspec.json.Decoder[JSON] = msgspec.json.Decoder(JSON)
_SEARCHED = 1 << 20
"""Bytes of a wrong body that are searched for the reason: a search holds up every other thread."""
_LONE_HALF = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|[c-fC-F](?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]))"
)


@cache
def _decoder(kind: type[msgspec.Struct]) -> msgspec.json.Decoder[Any]:
    """Return the decoder of a body type: made once."""
    return msgspec.json.Decoder(kind)


def decode(kind: type[_Body], body: bytes) -> _Body:
    """Decode a JSON body as its type. Raises InvalidRequest that names the field (`param`) and the problem."""
    decoded: _Body = _decoded(_decoder(kind), kind, body)
    return decoded


def decode_object(body: bytes) -> JSON:
    """Decode a JSON body that is an object, whatever its fields. Raises InvalidRequest."""
    decoded: JSON = _decoded(_OBJECT, JSON, body)
    return decoded


def decode_with_others(kind: type[_Body], body: bytes) -> tuple[_Body, JSON]:
    """Decode a JSON body as its type, and the fields that the type does not have and that say something beside it.

    Raises InvalidRequest, also for an unknown field within one that is known.
    """
    try:
        return decode(kind, body), {}
    except InvalidRequest as error:
        if error.error_code != "unknown_parameter":
            raise
        unknown = error
    # Read once more, for those alone who send what is not known here.
    fields = decode_object(body)
    known = {name: fields.pop(name) for name in kind.__struct_fields__ if name in fields}
    if not fields:
        raise unknown  # it stands within one that is known
    try:
        request = msgspec.convert(known, kind)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    return request, {name: value for name, value in fields.items() if value is not None}


def _decoded(decoder: msgspec.json.Decoder[Any], kind: Any, body: bytes) -> Any:
    if not body:
        raise InvalidRequest("The request has no body; send a JSON object.", code="missing_body")
    try:
        check_shape(body)
        return pieces.decode(body, kind, decoder.decode)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {why_not_json(body, error)}.", code="invalid_json") from None


def why_not_json(data: bytes, error: Exception) -> str:
    """Return the reason in words that help; the decoder's own where there are no better ones."""
    if data.startswith(b"\xef\xbb\xbf"):
        return "it begins with a byte order mark (BOM); send it without"
    if isinstance(error, UnicodeDecodeError) or "UTF-8" in str(error):
        return "it is not UTF-8"
    if _LONE_HALF.search(data, 0, _SEARCHED):
        return "it holds half of a character, a surrogate (\\ud800 to \\udfff) without its other half"
    return str(error).rstrip(".")
