"""The client for code with an event loop: many calls at once over kept connections."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from bessemer.client.answers import EventDecoder, decode, error_of
from bessemer.client.calls import AnyEvent, AnyJob, Jobs
from bessemer.client.operation import Operation, Streamed
from bessemer.client.sending import PIECE, RETRIES, TIMEOUT_S, Form, Sender, pause_s
from bessemer.client.watch import watch
from bessemer.core.errors import BessemerError
from bessemer.core.paging import Page

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

T = TypeVar("T")
J = TypeVar("J", bound=AnyJob)
E = TypeVar("E", bound=AnyEvent)


class AsyncClient:
    """Sends calls to one server with one key, within one event loop; close it, or use it as a context manager."""

    def __init__(self, url: str, key: str, *, timeout_s: float = TIMEOUT_S, retries: int = RETRIES) -> None:
        """`timeout_s`: of silence. Raises ConfigError for a URL or a key that no request can carry."""
        self._sender = Sender(url, key)
        self._timeout_s, self._retries = timeout_s, retries
        self._session: ClientSession | None = None

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def send(self, operation: Operation[T]) -> T:
        """Send a call and return its answer. Raises the error that the server names, or Unreachable."""

        async def whole() -> bytes:
            async with self._answer(operation) as pieces:
                return await _whole(pieces)

        return decode(operation, await self._retrying(operation, whole), self._sender.url)

    @asynccontextmanager
    async def stream(self, streamed: Streamed[T]) -> AsyncIterator[AsyncIterator[T]]:
        """Send a call and iterate over its answer's events; leaving the block early ends the work behind it.

        Raises as `send`, on entering and between events; Unreachable where the answer breaks off.
        """
        operation, url = streamed.operation, self._sender.url
        async with AsyncExitStack() as opened:
            pieces = await self._retrying(operation, lambda: opened.enter_async_context(self._answer(operation)))
            yield _events(pieces, EventDecoder(operation, url))

    async def save(self, operation: Operation[bytes], to: Path) -> int:
        """Write an answer to a file as it comes, whole or not at all; return its size. Raises as `send`, or OSError."""
        fresh = to.with_name(f".{to.name}.new")

        async def write() -> int:
            async with self._answer(operation) as pieces:
                return await _written(pieces, fresh)

        try:
            size = await self._retrying(operation, write)
            fresh.replace(to)
        finally:
            fresh.unlink(missing_ok=True)
        return size

    async def each(self, operation: Operation[Page[T]]) -> AsyncIterator[T]:
        """Iterate over a list from page to page. Raises as `send`."""
        while True:
            page = await self.send(operation)
            for row in page.data:
                yield row
            if not page.has_more or page.last_id is None:
                return
            operation = operation.after(page.last_id)

    async def wait(self, jobs: Jobs[Any, J, E], job_id: str, tell: Callable[[E], object] | None = None) -> J:
        """Wait until a job has succeeded, was cancelled or paused, and return it; `tell` gets its events as they come.

        Raises BessemerError when it has failed, and as `send`.
        """
        steps, answer = watch(jobs, job_id, tell), None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            if isinstance(step, Operation):
                answer = await self.send(step)
            else:
                await asyncio.sleep(step)
                answer = None

    async def _retrying(self, operation: Operation[Any], attempt: Callable[[], Awaitable[T]]) -> T:
        tried = 0
        while True:
            try:
                return await attempt()
            except BessemerError as error:
                pause = pause_s(operation, error, tried, self._retries)
                if pause is None:
                    raise
            await asyncio.sleep(pause)
            tried += 1

    @asynccontextmanager
    async def _answer(self, operation: Operation[Any]) -> AsyncIterator[AsyncIterator[bytes]]:
        from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout
        from yarl import URL

        if self._session is None:
            silence = ClientTimeout(total=None, sock_connect=self._timeout_s, sock_read=self._timeout_s)
            self._session = ClientSession(timeout=silence)
        sender = self._sender
        prepared = sender.prepare(operation)
        url = URL(f"{sender.parts.scheme}://{sender.parts.netloc}{prepared.target}", encoded=True)
        data = _sent(prepared.body) if isinstance(prepared.body, Form) else prepared.body
        asked = self._session.request(prepared.method, url, data=data, headers=prepared.headers, allow_redirects=False)
        try:
            response = await asked
        except ClientConnectorError as error:
            raise sender.no_answer(error, arrived=False) from None
        except (ClientError, OSError) as error:  # a timeout is an OSError
            raise sender.no_answer(error, arrived=None) from None
        async with response:
            pieces = self._pieces(response)
            if response.status >= 400:
                raise error_of(response.status, await _whole(pieces), response.headers.get("retry-after"))
            yield pieces

    async def _pieces(self, response: "ClientResponse") -> AsyncIterator[bytes]:
        from aiohttp import ClientError

        try:
            async for piece in response.content.iter_chunked(PIECE):
                yield piece
        except (ClientError, OSError) as error:
            raise self._sender.no_answer(error, arrived=None) from None


async def _written(pieces: AsyncIterator[bytes], to: Path) -> int:
    with to.open("wb") as file:
        async for piece in pieces:
            await asyncio.to_thread(file.write, piece)
        return file.tell()


async def _events(pieces: AsyncIterator[bytes], decoder: EventDecoder[T]) -> AsyncIterator[T]:
    async for piece in pieces:
        for event in decoder.feed(piece):
            yield event
    decoder.end()


async def _whole(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def _sent(form: Form) -> AsyncIterator[bytes]:
    pieces = iter(form)
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece
