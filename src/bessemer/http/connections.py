"""Bounds on connections, before there is a request: size and time of its head, silence, and how many at once.

uvicorn's parser has no such limits: one connection without a key could fill the memory or stop the event loop.
What HTTP allows to be answered is answered in OpenAI's error shape; the connection then ends.
"""

import asyncio
import time
from collections import Counter
from functools import partial
from typing import Any, cast

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bessemer.core.errors import (
    BessemerError,
    HeadersTooLarge,
    InvalidRequest,
    Overloaded,
    RateLimited,
    RequestTimeout,
)
from bessemer.core.ids import new_id
from bessemer.core.settings import Settings
from bessemer.http.edge import encode

_LINGER_S = 1.0
"""After a refusal the client has this long to read it; what it still sends is thrown away, up to a point."""
_LINGER_BYTES = 1024 * 1024
_LOG_EVERY_S = 1.0
log = structlog.get_logger("bessemer.http")


class Connections:
    """Counts the connections of the process, in all and by address."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._by_address: Counter[str] = Counter()
        self._total = 0
        self._told_at = float("-inf")
        self._untold = 0

    def enter(self, address: str) -> BessemerError | None:
        """Count a new connection; return why it is one too many, None when it is not."""
        self._total += 1
        self._by_address[address] += 1
        if self._total > self.settings.max_connections:
            return Overloaded("The server has as many connections as it takes (max_connections).", retry_after=1)
        if self._by_address[address] > self.settings.max_connections_per_address:
            return RateLimited(
                "This address has as many connections as it may (max_connections_per_address).", retry_after=1
            )
        return None

    def leave(self, address: str) -> None:
        """Forget a connection that ended."""
        self._total -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def tell(self, error: BessemerError) -> None:
        """Log a refusal, at most one a second with the number of those before it: a flood must not fill the disk."""
        self._untold += 1
        if (now := time.monotonic()) - self._told_at >= _LOG_EVERY_S:
            log.warning("connection.refused", reason=error.error_code, count=self._untold)
            self._told_at, self._untold = now, 0


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with limits. A head is a request's first line and headers."""

    def __init__(self, bounds: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._bounds = bounds
        self._address = ""
        self._entered = False
        self._refused = False
        self._thrown_away = 0
        self._fault: BessemerError | None = None
        self._head_bytes = 0
        self._in_head = False
        """The head of a request has begun and not ended."""
        self._in_body = False
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        self._entered = True
        if (error := self._bounds.enter(self._address)) is not None:
            self._refuse(error)
        else:
            self._watch(self._bounds.settings.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        if self._entered:
            self._entered = False
            self._bounds.leave(self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._thrown_away += len(data)
            if self._thrown_away > _LINGER_BYTES:
                self.transport.abort()
            return
        self._heard_at = self.loop.time()
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self._bounds.settings.max_header_bytes:
                self._refuse(self._too_large())
        if self._timer is None and self._in_body:
            self._watch(self._bounds.settings.body_timeout_s)
        elif self._timer is None and (self._in_head or self._idle()):
            self._watch(self._bounds.settings.header_timeout_s)

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        self._unwatch()
        self._fault = self._head_fault()
        if self._fault is not None:
            raise httptools.HttpParserError(self._fault.message)  # the parser stops; see send_400_response
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        self._unwatch()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._fault or InvalidRequest(f"{msg} Send HTTP/1.1.", code="invalid_http"))

    def _head_fault(self) -> BessemerError | None:
        size, hosts = len(self.url), 0
        for name, value in self.headers:
            size += len(name) + len(value) + 4
            hosts += name == b"host"
        if size > self._bounds.settings.max_header_bytes:
            return self._too_large()
        version = self.parser.get_http_version()
        if version not in {"1.0", "1.1"}:
            return InvalidRequest(f"HTTP/{version} is not supported. Send HTTP/1.1.", code="invalid_http")
        if hosts > 1 or (version == "1.1" and hosts == 0):
            return InvalidRequest("A request needs one Host header.", param="Host", code="invalid_http")
        return None

    def _too_large(self) -> HeadersTooLarge:
        limit = self._bounds.settings.max_header_bytes
        return HeadersTooLarge(f"The request's headers exceed {limit} bytes; send less, or raise max_header_bytes.")

    def _idle(self) -> bool:
        """Say whether nothing keeps time of this connection: neither a request under way nor uvicorn's keep-alive."""
        busy = self.cycle is not None and not self.cycle.response_complete
        return not busy and not self._refused and not self._in_body and self.timeout_keep_alive_task is None

    def _watch(self, seconds: float) -> None:
        self._unwatch()
        self._timer = self.loop.call_later(seconds, self._late)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        settings = self._bounds.settings
        if self._in_body:
            # A body that is not read yet is not late: whoever reads it holds it up.
            silent = 0.0 if self.flow.read_paused else self.loop.time() - self._heard_at
            if silent < settings.body_timeout_s:
                self._watch(settings.body_timeout_s - silent)
            else:
                self._refuse(RequestTimeout(f"No byte of the request's body came for {settings.body_timeout_s:g} s."))
        elif self.cycle is not None and not self.cycle.response_complete:
            self._watch(settings.header_timeout_s)  # the next request waits for the answer to this one
        elif self._in_head:
            self._refuse(RequestTimeout(f"The request's headers took more than {settings.header_timeout_s:g} s."))
        else:
            self.transport.close()

    def _refuse(self, error: BessemerError) -> None:
        """Answer with an error and end the connection, in a way that lets the client read the answer."""
        self._refused, self._in_head, self._in_body = True, False, False
        self._unwatch()
        self._bounds.tell(error)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:  # an error in the middle of another answer would be taken for a part of it
                self.transport.close()
                return
        body = encode(error.body())
        lines = [STATUS_LINE[error.status].rstrip(), b"content-type: application/json", b"connection: close"]
        lines.append(b"content-length: %d" % len(body))
        lines.append(b"x-request-id: " + new_id("req").encode())
        if error.retry_after is not None:
            lines.append(b"retry-after: %d" % error.retry_after)
        self.transport.write(b"\r\n".join([*lines, b"", body]))
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.flow.resume_reading()
            self.loop.call_later(_LINGER_S, self.transport.abort)
        else:  # TLS says goodbye itself
            self.transport.close()


def protocol_of(settings: Settings) -> type[asyncio.Protocol]:
    """Return what makes the protocol of each connection of this process, as uvicorn wants it."""
    return cast("type[asyncio.Protocol]", partial(BoundedProtocol, Connections(settings)))
