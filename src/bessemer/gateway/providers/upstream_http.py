"""HTTP/1.1 to upstreams: pooled connections, one request at a time on each, parsed by llhttp.

What a gateway needs of a client and no more: no redirects, no cookies, no proxies, nothing sent that was not given. A
request costs a few callbacks and one future, where a general client spends a third of what the whole gateway does.
"""

import asyncio
import ssl
import time
import zlib
from collections import deque
from collections.abc import Mapping
from functools import cache
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

import httptools

from bessemer.core.errors import ProviderError

_IDLE_S: Final = 60.0
"""A connection that has been idle for longer is not used again."""
_HIGH_WATER: Final = 256 * 1024
"""Bytes of an answer that wait for their reader; then the server waits."""
_WRITTEN_AT_ONCE: Final = 256 * 1024
"""Of a longer request a piece is written at a time, between which others have their turn."""
_MAX_HEADER_BYTES: Final = 256 * 1024
_INFLATED_AT_ONCE: Final = 1024 * 1024
_ENCODED: Final = ("gzip", "x-gzip", "deflate")


class UpstreamLost(ConnectionError):
    """There is no connection, or it ended before an answer began."""


class UpstreamBroke(ConnectionError):
    """An answer broke off, or is not HTTP."""


class _Origin(NamedTuple):
    host: str
    port: int
    tls: bool


class _Address(NamedTuple):
    origin: _Origin
    start: bytes
    """Of a request: its first line and the Host header."""


class UpstreamResponse:
    """An answer whose headers have arrived. Close it when its end is not wanted."""

    __slots__ = ("_broken", "_connection", "_ended", "_inflater", "_received", "_size", "_waiter", "headers", "status")

    def __init__(self, connection: "_Connection") -> None:
        self._connection = connection
        self.status = 0
        self.headers: dict[str, str] = {}
        """By their names in lower case; of several the last."""
        self._received: list[bytes] = []
        self._size = 0
        self._ended = False
        self._broken: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._inflater: zlib._Decompress | None = None

    async def readany(self) -> bytes:
        """Return what has arrived, at least a byte, none at the end. Raises UpstreamBroke, or what `fail` was given."""
        while not self._received:
            if self._broken is not None:
                raise self._broken
            if self._ended:
                return b""
            self._waiter = self._connection.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = self._received[0] if len(self._received) == 1 else b"".join(self._received)
        self._received.clear()
        self._size = 0
        if not self._ended:
            self._connection.wanted()
        return data

    def fail(self, error: Exception) -> None:
        """Let the reader fail, now or when it reads next."""
        if self._broken is None and not self._ended:
            self._broken = error
            self._wake()

    def close(self) -> None:
        """End an answer that has not ended: its connection with it. Does nothing at its end."""
        if not self._ended:
            self._ended = True
            self._connection.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- called by the connection -------------------------------------------------------------------------------------

    def begins(self) -> None:
        if self.headers.get("content-encoding", "").strip().lower() in _ENCODED:
            self._inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)

    def receive(self, data: bytes) -> bool:
        """Take a piece of the body; say whether the reader has enough."""
        if self._inflater is None:
            self._received.append(data)
            self._size += len(data)
        else:
            self._inflate(self._inflater, data)
        self._wake()
        return self._size > _HIGH_WATER

    def _inflate(self, inflater: "zlib._Decompress", data: bytes) -> None:
        while data:
            try:
                piece = inflater.decompress(data, _INFLATED_AT_ONCE)
            except zlib.error:
                self.fail(UpstreamBroke("the body is not what its Content-Encoding says"))
                return
            data = inflater.unconsumed_tail
            if piece:
                self._received.append(piece)
                self._size += len(piece)
            if self._size > _HIGH_WATER * 512:  # 128 MiB: more than any answer may have, so that it fails at once
                self.fail(UpstreamBroke("the body is too large"))
                return

    def ends(self) -> None:
        self._ended = True
        self._wake()


class _Connection(asyncio.Protocol):
    """One connection; at most one answer is on its way over it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.idle_since = 0.0
        self.lost = False
        self.used = False
        """It has carried an answer before."""
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._response: UpstreamResponse | None = None
        self._head: asyncio.Future[UpstreamResponse] | None = None
        """Done when the headers have arrived."""
        self._header_bytes = 0
        self._paused = False
        self._delimited = False
        """The headers say where the body ends; otherwise it ends with the connection."""
        self._full: asyncio.Future[None] | None = None
        """Done when the transport takes more to write."""
        self._written = False
        """The request has been handed to the transport as a whole."""
        self._pool: _Pool | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its type

    async def ask(self, head: bytes, body: bytes, pool: "_Pool") -> UpstreamResponse:
        """Send a request and return the answer once its headers are there."""
        transport = self._transport
        assert transport is not None, "it is connected"
        self._pool, self._header_bytes, self._delimited = pool, 0, False
        self._response = response = UpstreamResponse(self)
        arrived: asyncio.Future[UpstreamResponse] = self.loop.create_future()
        self._head = arrived
        self._written = len(body) <= _WRITTEN_AT_ONCE
        try:
            if self._written:
                transport.write(head + body)
            else:
                await self._write(transport, head, body)
            return await arrived
        except BaseException:
            response.close()
            raise

    async def _write(self, transport: asyncio.Transport, head: bytes, body: bytes) -> None:
        transport.write(head)
        view = memoryview(body)
        for start in range(0, len(body), _WRITTEN_AT_ONCE):
            await (asyncio.sleep(0) if self._full is None else self._full)
            if self.lost or self._head is None or self._head.done():
                return  # there is an answer already, or none will come: it does not want the rest
            transport.write(view[start : start + _WRITTEN_AT_ONCE])
        self._written = True

    def wanted(self) -> None:
        """Go on reading where that was stopped."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """End the connection at once."""
        self._response, self.lost = None, True
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio's callbacks ------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        self._full = self.loop.create_future()

    def resume_writing(self) -> None:
        if self._full is not None and not self._full.done():
            self._full.set_result(None)
        self._full = None

    def data_received(self, data: bytes) -> None:
        if self._response is None:  # nobody asked: what a server says to that belongs to no request
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(UpstreamBroke("it wants another protocol"))
        except httptools.HttpParserError as error:
            self._fail(UpstreamBroke(f"it is not HTTP: {error}"))
        if self._header_bytes > _MAX_HEADER_BYTES:
            self._fail(UpstreamBroke("its headers are too large"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.resume_writing()
        if self._pool is not None:
            self._pool.forget(self)
        response = self._response
        if response is None:
            return
        if self._head is not None and not self._head.done():
            self._fail(UpstreamLost("the connection ended before an answer"))
        elif self._delimited or exc is not None:
            self._fail(UpstreamBroke("the connection ended within an answer"))
        else:
            self._response = None
            response.ends()

    def _fail(self, error: Exception) -> None:
        response = self._response
        if self._head is not None and not self._head.done():
            self._head.set_exception(error)
            self._head.exception()  # whoever waits for it may have left
        elif response is not None:
            response.fail(error)
        self.abort()

    # -- the parser's callbacks ---------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._response is not None and self._header_bytes <= _MAX_HEADER_BYTES:
            self._response.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        response, status = self._response, self._parser.get_status_code()
        if response is None:
            return
        if 100 <= status < 200:  # only says that the answer is still to come
            response.headers.clear()
            return
        headers = response.headers
        self._delimited = (
            "content-length" in headers or "transfer-encoding" in headers or status in {204, 304}
        )  # fmt: skip
        response.status = status
        response.begins()
        if self._head is not None and not self._head.done():
            self._head.set_result(response)

    def on_body(self, data: bytes) -> None:
        response = self._response
        if response is not None and response.receive(data) and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        response = self._response
        if response is None or not response.status:
            return
        self._response = None
        self._head = None
        self.used = True
        response.ends()
        self.wanted()
        if self._pool is not None:
            self._pool.put(self, keep=self._parser.should_keep_alive() and self._written and self._full is None)

    def eof_received(self) -> bool:
        self.lost = True  # the transport closes itself, and nobody is to be given it until then
        return False


class _Pool:
    """The connections to one origin."""

    def __init__(self, origin: _Origin, limit: int) -> None:
        self._origin = origin
        self._limit = limit
        self._open: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._connecting = 0

    async def get(self, connect_s: float, *, fresh: bool = False) -> _Connection:
        """Return a connection that nobody uses. Raises UpstreamLost, TimeoutError."""
        while True:
            oldest = time.monotonic() - _IDLE_S
            while self._idle and not fresh:
                connection = self._idle.pop()
                if not connection.lost and connection.idle_since >= oldest:
                    return connection
                connection.abort()
            if len(self._open) + self._connecting < self._limit:
                return await self._connect(connect_s)
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except BaseException:
                if turn.done() and not turn.cancelled():
                    self._next()
                raise

    async def _connect(self, connect_s: float) -> _Connection:
        loop = asyncio.get_running_loop()
        host, port, tls = self._origin
        self._connecting += 1
        try:
            async with asyncio.timeout(connect_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(loop), host, port, ssl=_tls() if tls else None,
                    server_hostname=host if tls else None,
                )  # fmt: skip
        except TimeoutError:
            self._next()
            raise
        except OSError as error:
            self._next()
            raise UpstreamLost(str(error)) from error
        except BaseException:
            self._next()
            raise
        finally:
            self._connecting -= 1
        self._open.add(connection)
        return connection

    def put(self, connection: _Connection, *, keep: bool) -> None:
        """Take back a connection whose answer has ended."""
        if not keep or connection.lost:
            connection.abort()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        while self._idle[0].idle_since < connection.idle_since - _IDLE_S:
            self._idle.pop(0).abort()
        self._next()

    def forget(self, connection: _Connection) -> None:
        """Note that a connection has ended."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._next()

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def close(self) -> None:
        """End all connections."""
        for connection in list(self._open):
            connection.abort()


class UpstreamClient:
    """Asks upstreams. Belongs to one event loop."""

    def __init__(self, limit: int) -> None:
        """`limit`: connections to one origin; further requests wait for one."""
        self._limit = limit
        self._pools: dict[_Origin, _Pool] = {}

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], connect_s: float) -> UpstreamResponse:
        """Send a request and return its answer once the headers have arrived.

        A kept connection that the server has closed meanwhile is replaced once. Raises UpstreamLost, UpstreamBroke,
        TimeoutError after `connect_s` without a connection, ProviderError for headers that cannot be.
        """
        address = _address(url)
        head = _head(address, headers, len(body))
        pool = self._pools.get(address.origin)
        if pool is None:
            pool = self._pools[address.origin] = _Pool(address.origin, self._limit)
        connection = await pool.get(connect_s)
        try:
            return await connection.ask(head, body, pool)
        except UpstreamLost:
            if not connection.used:
                raise
        connection = await pool.get(connect_s, fresh=True)
        return await connection.ask(head, body, pool)

    def close(self) -> None:
        """End all connections."""
        for pool in self._pools.values():
            pool.close()


def _head(address: _Address, headers: Mapping[str, str], length: int) -> bytes:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        raise ProviderError("A header to the upstream holds a line end.", retryable=False)
    return b"%b%bContent-Length: %d\r\n\r\n" % (address.start, lines.encode("latin-1"), length)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@cache
def _address(url: str) -> _Address:
    parts = urlsplit(url)
    assert parts.hostname is not None, "the configuration was checked"
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    path = parts.path or "/"
    host = parts.netloc.rpartition("@")[2]
    start = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n"
    return _Address(_Origin(parts.hostname, port, tls), start.encode("ascii"))
