"""The outermost ASGI application: request id, body limit, authentication, error shape, access log, metrics.

Plain ASGI, no middleware class between the socket and the handler, so a disconnect reaches the handler.
Knows no endpoint; what needs no key is given to it.
"""

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bessemer.core.access import Principal
from bessemer.core.errors import (
    BessemerError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    UnsupportedMediaType,
)
from bessemer.core.ids import new_id
from bessemer.core.types import DEFAULT_PROJECT, JSON
from bessemer.dialects.base import Dialect
from bessemer.http.edge import ClientGone, JSONResponse, Limit
from bessemer.http.paths import Spellings
from bessemer.identity.authentication import network
from bessemer.telemetry.logs import AccessLog

Authenticate = Callable[[str | None, str], Awaitable[Principal]]
"""From the Authorization header and the address it comes from to who asks."""
Observe = Callable[[str, int, float], None]
Deny = Callable[[str, str, str, BessemerError], None]
"""Told of a refusal: who was refused, of which project, which endpoint, why."""

_REQUEST_ID = re.compile(rb"[0-9a-fA-F-]{1,128}")
"""A UUID or trace id; other text of a client's is not written to logs."""
_UNMATCHED: Final = "unmatched"
"""Logged and counted in place of a path that is no endpoint's."""
_CLIENT_GONE: Final = 499
"""Logged status of a request whose client left first (nginx's convention); nobody receives it."""
_DENIED: Final = (401, 403)
_KEY_HEADERS: Final = (b"authorization", b"api-key", b"x-api-key")
"""Where a key may stand: a bearer's as OpenAI says, or as Azure's clients and Anthropic's send it."""
_AS_WRITTEN: Final = Spellings(())
log = structlog.get_logger("bessemer.http")
access = AccessLog("bessemer.http")


class Front:
    """Wraps the router. `public` paths need no key; on those of `dialects` key and errors are as the dialect says."""

    def __init__(
        self,
        router: ASGIApp,
        authenticate: Authenticate,
        observe: Observe,
        deny: Deny,
        *,
        max_body_bytes: int,
        max_file_bytes: int,
        max_concurrent: int,
        public: frozenset[str],
        dialects: Mapping[str, Dialect],
        spellings: Spellings = _AS_WRITTEN,
    ) -> None:
        self._router = router
        self._authenticate = authenticate
        self._observe = observe
        self._deny = deny
        self._body = Limit(max_body_bytes, "send less, or raise max_body_bytes")
        self._file = Limit(max_file_bytes, "send less, or raise max_file_bytes")
        self._max_concurrent = max_concurrent
        self._running = 0
        self._public = public
        self._dialects = dialects
        own = (dialect.key_header.encode() for dialect in dialects.values())
        self._key_headers = tuple(dict.fromkeys((*_KEY_HEADERS, *own)))
        self._spellings = spellings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope; web sockets are closed."""
        if scope["type"] == "lifespan":
            await self._router(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        scope, headers = self._spellings.respelled(scope), dict(scope["headers"])
        self._running += 1
        dialect = self._dialects.get(scope["path"])
        exchange = _Exchange(
            send, _request_id(headers.get(b"x-request-id")), BessemerError.body if dialect is None else dialect.error
        )
        scope["app"] = self  # makes the router raise 405 instead of answering it in plain text
        with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
            try:
                if self._running > self._max_concurrent and scope["path"] not in self._public:
                    raise Overloaded("The server answers as many requests as it can; try again.", retry_after=1)
                limit = self._limit(scope, headers)
                await self._admit(scope, headers)
                await self._router(scope, limit.on(receive), exchange.send)
            except (ClientGone, ClientDisconnect):
                exchange.status = _CLIENT_GONE
            except HTTPException as error:
                allow = (error.headers or {}).get("Allow")
                await exchange.fail(_named(error, scope), [] if allow is None else [(b"allow", allow.encode())])
            except BessemerError as error:
                if error.status in _DENIED:
                    self._deny(
                        *_caller(scope), f"{scope['method']} {scope.get('bessemer.endpoint', '')}".strip(), error
                    )
                await exchange.fail(error)
            except Exception:
                log.exception("unhandled", method=scope["method"], endpoint=_endpoint(scope))
                await exchange.fail(BessemerError(f"Internal error; the log has it under {exchange.request_id}."))
            finally:
                self._running -= 1
                seconds = time.perf_counter() - started
                endpoint = _endpoint(scope)
                self._observe(endpoint, exchange.status, seconds)
                access.request(
                    request_id=exchange.request_id,
                    method=scope["method"],
                    endpoint=endpoint,
                    status=exchange.status,
                    seconds=round(seconds, 6),
                    key=getattr(scope.get("bessemer.principal"), "key_id", None),
                )

    def _limit(self, scope: Scope, headers: dict[bytes, bytes]) -> Limit:
        """Return the largest body for this request; refuse a declared length above it before reading a byte."""
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding not in {b"identity", b""}:
            raise UnsupportedMediaType(
                f"Content-Encoding {encoding.decode('latin-1')!r} is not supported; send the body as it is.",
                param="Content-Encoding",
            )
        multipart = headers.get(b"content-type", b"").startswith(b"multipart/form-data")
        of_file = multipart and scope["path"] == "/v1/files"
        limit = self._file if of_file else self._body
        limit.check(headers.get(b"content-length", b"0"))
        return limit

    async def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        if scope["path"] in self._public:
            return
        if sum(name in self._key_headers for name, _ in scope["headers"]) > 1:
            # A proxy in front may have checked another one than the one that would be used here.
            sent = ", ".join(name.decode().title() for name in self._key_headers if name in headers)
            raise InvalidRequest(f"Send the key in one header, once; got {sent}.", param=sent.split(", ")[0])
        said = headers.get(b"authorization") or b""
        for name in self._key_headers[1:]:
            if not said and (key := headers.get(name)):
                said = b"Bearer " + key
        scope["bessemer.principal"] = await self._authenticate(said.decode("latin-1") or None, _address(scope))


class _Exchange:
    """The response side: adds the request id and remembers the status."""

    def __init__(self, send: Send, request_id: str, shape: Callable[[BessemerError], JSON]) -> None:
        self._send = send
        self.request_id = request_id
        self._shape = shape
        self.status = 500
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", self.request_id.encode())]
        await self._send(message)

    async def fail(self, error: BessemerError, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Answer with the error body, unless an answer has begun: then the connection is cut instead of completed."""
        if self.started:
            self.status = error.status
            raise error
        extra = [*headers, *error.headers]
        if error.status == 401:
            extra.append((b"www-authenticate", b"Bearer"))
        if error.retry_after is not None:
            extra.append((b"retry-after", str(error.retry_after).encode()))
        await JSONResponse(self._shape(error), error.status, extra)({}, _no_body, self.send)


async def _no_body() -> Message:
    return {"type": "http.disconnect"}


def _request_id(given: bytes | None) -> str:
    """Keep the client's own request id when it is a short number in hexadecimal digits, otherwise make one."""
    return given.decode() if given and _REQUEST_ID.fullmatch(given) else new_id("req")


def _endpoint(scope: Scope) -> str:
    """Return the pattern of the path, never the path itself: that is the client's text."""
    return str(scope.get("bessemer.endpoint", _UNMATCHED))


def _caller(scope: Scope) -> tuple[str, str]:
    """Return the id of the key that asks, the address where no key is valid; and its project."""
    principal: Principal | None = scope.get("bessemer.principal")
    if principal is not None:
        return principal.key_id, principal.project_id
    return f"address {network(_address(scope))}", DEFAULT_PROJECT


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def _named(error: HTTPException, scope: Scope) -> BessemerError:
    """Turn the router's own errors into named ones."""
    if error.status_code == 404:
        hint = _hint(scope["path"])
        return NotFound(f"Unknown URL: {scope['method']} {scope['path']}.{hint}", code="unknown_url")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return MethodNotAllowed(f"{scope['method']} is not allowed for {scope['path']}; allowed: {allowed}.")
    return InvalidRequest(str(error.detail))


def _hint(path: str) -> str:
    """Say what is wrong with a client's URL, when that is what an unknown path tells."""
    if "//" in path or path.startswith("/v1/v1"):
        return " A client's base URL ends with one /v1 and without a slash: http://HOST:PORT/v1."
    if path != "/v1" and not path.startswith("/v1/"):
        return " A client's base URL ends with /v1: http://HOST:PORT/v1."
    return f" A path has no slash at its end: {path.rstrip('/')}." if path.endswith("/") else ""
