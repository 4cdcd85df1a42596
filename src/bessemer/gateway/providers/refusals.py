"""Why an upstream gave no answer: a reason from a closed list for callers, its own words for the owner alone.

An upstream's text may hold its key, its address, a page of HTML or a prompt. Callers get what its status and a known
code mean; the text itself, masked and cut, stands in `detail`.
"""

import contextlib
import datetime
import email.utils
import math
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from bessemer.core.errors import BessemerError, InvalidRequest, ProviderError, RateLimited
from bessemer.core.models import Model
from bessemer.core.openai_chat import ChatRequest
from bessemer.core.scrub import scrub

E = TypeVar("E", bound=BessemerError)

_THE_REQUEST = frozenset({400, 413, 422})
"""The request's own fault: no other try helps."""
_MAX_DETAIL = 2000
_MAX_WAIT_S = 24 * 3600
_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")
_REASONS: Mapping[int, str] = {
    400: "it refuses the request",
    401: "it refuses this server's key",
    402: "its account has no credit left",
    403: "it forbids this server's key what was asked",
    404: "it knows no such model or path (base_url mostly ends in /v1, once)",
    408: "it did not answer in time",
    413: "the request is too large for it",
    422: "it refuses the request's content",
    429: "its rate limit is reached",
    500: "it failed",
    502: "what stands behind it failed",
    503: "it is not available now",
    504: "what stands behind it did not answer in time",
    529: "it is overloaded",
}
_CODES: Mapping[str, str] = {
    "context_length_exceeded": "the prompt is longer than its context",
    "content_filter": "its content filter refuses the request",
    "content_policy_violation": "its content filter refuses the request",
    "insufficient_quota": "its account has no quota left",
    "invalid_api_key": "it refuses this server's key",
    "invalid_value": "a value is not one that it takes",
    "json_invalid": "it cannot read the request",
    "missing": "a field that it needs is missing",
    "missing_required_parameter": "a field that it needs is missing",
    "model_not_found": "it knows no such model",
    "overloaded_error": "it is overloaded",
    "rate_limit_exceeded": "its rate limit is reached",
    "server_error": "it failed",
    "string_above_max_length": "a text is longer than it takes",
    "unknown_parameter": "it does not know a field",
    "unsupported_parameter": "it does not support a field",
    "unsupported_value": "it does not support a value",
    "value_error": "a value is not one that it takes",
}
"""OpenAI's and FastAPI's codes that callers may see; any other may be anything."""
_FIELDS = frozenset(ChatRequest.__struct_fields__) | {"tools", "tool_choice", "prompt"}


def status_error(model: Model, status: int, headers: Mapping[str, str], body: bytes) -> BessemerError:
    """Return the error that an answer with another status than 200 is.

    InvalidRequest when the request is at fault, RateLimited for 429, otherwise a ProviderError that is retryable:
    another target may do better.
    """
    answer = _object(body)
    code, field = _code(answer), _field(answer)
    reason = _CODES.get(code or "") or _reason(status)
    about = f" ({field})" if field else ""
    text = f"{model.name!r}: the upstream answered {status}: {reason}{about}."
    wait = retry_after(headers)
    error: BessemerError
    if status == 429:
        error = RateLimited(text, code=code, retry_after=wait)
    elif status in _THE_REQUEST:
        error = InvalidRequest(text, param=field, code=code)
    else:
        error = ProviderError(text, code=code, retry_after=wait)
    error.upstream_status = status
    return _with_detail(error, body)


def failure_inside(model: Model, answer: dict[str, Any]) -> ProviderError:
    """Return the error that an answer with status 200 holds."""
    reason = _CODES.get(_code(answer) or "") or "it failed"
    error = ProviderError(f"{model.name!r}: the upstream answered with an error: {reason}.", code="upstream_error")
    with contextlib.suppress(RecursionError, UnicodeEncodeError):
        _with_detail(error, msgspec.json.encode(answer.get("error") or answer))
    return error


def retry_after(headers: Mapping[str, str]) -> int | None:
    """Return the seconds of a `retry-after` header, in either of its forms (RFC 9110, section 10.2.3); None without."""
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return min(math.ceil(float(text)), _MAX_WAIT_S)
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        then = email.utils.parsedate_to_datetime(text)
        left = (then - datetime.datetime.now(datetime.UTC)).total_seconds()
        return min(max(0, round(left)), _MAX_WAIT_S)
    return None


def _with_detail(error: E, body: bytes) -> E:
    text = scrub(body[: 2 * _MAX_DETAIL].decode("utf-8", "replace").strip())[:_MAX_DETAIL]
    error.detail = text or None
    return error


def _reason(status: int) -> str:
    if status in _REASONS:
        return _REASONS[status]
    if 300 <= status < 400:
        return "it redirects, which is not followed: base_url needs the final address"
    with contextlib.suppress(ValueError):
        return HTTPStatus(status).phrase
    return "it gave no answer"


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _places(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects that may hold code and field: OpenAI's `error`, FastAPI's `detail`, the answer itself."""
    detail = answer.get("detail")
    found = [answer.get("error"), *(detail if isinstance(detail, list) else [detail]), answer]
    return [place for place in found if isinstance(place, dict)]


def _code(answer: dict[str, Any]) -> str | None:
    for place in _places(answer):
        for name in ("code", "type"):
            code = place.get(name)
            if isinstance(code, str) and code.removeprefix("value_error.") in _CODES:
                return code.removeprefix("value_error.")
    return None


def _field(answer: dict[str, Any]) -> str | None:
    """Return the request's field that the error names, when it is one that requests have."""
    for place in _places(answer):
        where = place.get("loc")
        names = where if isinstance(where, list) else str(place.get("param") or "").split(".")
        for name in names:
            plain = str(name).partition("[")[0]
            if plain in _FIELDS:
                return plain
    return None
