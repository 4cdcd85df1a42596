"""The error tree. Each error is named by the boundary it crossed and carries what OpenAI's error body needs.

BessemerError
├── InvalidRequest (400)      the caller's input; names the field and the remedy
│   ├── ConfigError           settings, TOML files, command lines: one line, exit code 2
│   ├── Infeasible             what is planned cannot be; says why and names the nearest thing that can
│   ├── MethodNotAllowed (405)
│   ├── RequestTimeout (408)
│   ├── PayloadTooLarge (413)
│   ├── UnsupportedMediaType (415)
│   └── HeadersTooLarge (431)
├── Unauthorized (401)        no key, or a key that is not valid
├── Forbidden (403)           a valid key without the right
├── NotFound (404)
├── Conflict (409)            the thing exists, or its state does not allow this
├── RateLimited (429)
├── Overloaded (503)          the server has as much to do as it takes
├── ProviderError (502)       an upstream model failed; `retryable` says whether another try may help
├── EngineError (500)         local inference failed
├── GraderError (400)         a grader is broken (user code raises plain Python and is wrapped in this)
├── TuningError (500)         a job stopped with a named cause
└── StoreError (503)          the database or the artifact store is unavailable
"""

import traceback
from pathlib import PurePath
from typing import Any, ClassVar, Final

from bessemer.core.scrub import scrub

_LONGEST: Final = 4000
"""Characters of a message: what is quoted in one may be a whole body, and masking, logging and sending take time."""
_LONGEST_PARAM: Final = 200


class BessemerError(Exception):
    """Base of all named errors: HTTP status, OpenAI `type` and `code`, the offending parameter."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None
    detail: str | None = None
    """What somebody else said, masked: for the owner's eyes, never part of an answer."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Of the answer that it becomes."""
    upstream_status: int | None = None
    """HTTP status of the upstream whose answer this is."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: int | None = None
    ) -> None:
        message = _cut(message, _LONGEST)
        super().__init__(message)
        self.message = message
        self.param = None if param is None else _cut(param, _LONGEST_PARAM)
        self.error_code = code or self.code
        self.retry_after = retry_after
        """Seconds after which another try may help: the header `Retry-After`; None when nobody said."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (type(self), self.message, self.__dict__))

    def body(self) -> dict[str, Any]:
        """Return OpenAI's error body: `{"error": {"message", "type", "param", "code"}}`; key-shaped text is masked."""
        message = scrub(self.message)
        return {"error": {"message": message, "type": self.type, "param": self.param, "code": self.error_code}}


def _cut(text: str, longest: int) -> str:
    """Return a text of at most so many characters; the middle goes, for the remedy is at the end."""
    half = longest // 2 - 1
    return text if len(text) <= longest else f"{text[:half]} … {text[-half + 1 :]}"


def told(error: BaseException) -> str:
    """Return what a caller and a record may be told of any error: a named one's message, another's type and place.

    The text of an error that is not ours may hold whatever was being worked on: a prompt, a header, a key.
    """
    if isinstance(error, BessemerError):
        return scrub(error.message)
    frames = traceback.extract_tb(error.__traceback__)
    name = type(error).__name__
    return f"{name} at {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else name


def _restore(kind: type[BessemerError], message: str, state: dict[str, Any]) -> BessemerError:
    error = kind(message)
    error.__dict__.update(state)
    return error


class InvalidRequest(BessemerError):
    """The caller's input is wrong; the message names the field and what to do."""

    status = 400
    type = "invalid_request_error"


class ConfigError(InvalidRequest):
    """A setting, configuration file or command line is wrong."""

    code = "invalid_configuration"


class Infeasible(InvalidRequest):
    """What is planned cannot be; the message says why and names the nearest thing that can."""

    code = "infeasible"


class MethodNotAllowed(InvalidRequest):
    """The path exists, but not with this HTTP method."""

    status = 405
    code = "method_not_allowed"


class PayloadTooLarge(InvalidRequest):
    """The request body is larger than the server takes."""

    status = 413
    code = "payload_too_large"


class UnsupportedMediaType(InvalidRequest):
    """The request body is encoded in a way that the server does not read."""

    status = 415
    code = "unsupported_media_type"


class RequestTimeout(InvalidRequest):
    """The request did not arrive in time."""

    status = 408
    code = "request_timeout"


class HeadersTooLarge(InvalidRequest):
    """The request's headers are larger than the server takes."""

    status = 431
    code = "headers_too_large"


class Unauthorized(BessemerError):
    """No API key, or one that is not valid."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class Forbidden(BessemerError):
    """The key is valid but lacks the right."""

    status = 403
    type = "permission_error"
    code = "insufficient_permissions"
    action: str | None = None
    """What was not allowed, and the rules by which (none: for want of a permit): for the audit trail."""
    rules: tuple[str, ...] = ()


class NotFound(BessemerError):
    """The named thing does not exist for this caller."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class Conflict(BessemerError):
    """The thing exists already, or its state does not allow this."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class RateLimited(BessemerError):
    """A limit is reached; try again later."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class Overloaded(BessemerError):
    """The server has as much to do as it takes; try again later."""

    status = 503
    code = "overloaded"


class ProviderError(BessemerError):
    """An upstream model failed. `retryable` says whether another attempt or target may help."""

    status = 502
    type = "server_error"
    code = "provider_error"

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = True,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code, retry_after=retry_after)
        self.retryable = retryable


class EngineError(BessemerError):
    """Local inference failed."""

    code = "engine_error"


class GraderError(BessemerError):
    """A grader is broken or refused its configuration."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_grader"


class TuningError(BessemerError):
    """A tuning job stopped; the code names the cause."""

    code = "tuning_failed"


class StoreError(BessemerError):
    """The database or the artifact store is unavailable."""

    status = 503
    code = "store_unavailable"


def refusal(message: str, *, param: str | None, code: str | None) -> BessemerError:
    """Return the error that a library with a tree of its own (the planner) meant; it is known by its code."""
    kinds: tuple[type[BessemerError], ...] = (ConfigError, Infeasible, NotFound)
    kind = next((kind for kind in kinds if kind.code == code), InvalidRequest)
    return kind(message, param=param)
