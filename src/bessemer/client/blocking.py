"""The client for code without an event loop; on the standard library alone, so that it starts at once."""

import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bessemer.client.answers import EventDecoder, decode, error_of
from bessemer.client.calls import AnyEvent, AnyJob, Jobs
from bessemer.client.operation import Operation, Streamed
from bessemer.client.sending import PIECE, RETRIES, TIMEOUT_S, Sender, pause_s
from bessemer.client.watch import watch
from bessemer.core.errors import BessemerError
from bessemer.core.paging import Page

T = TypeVar("T")
J = TypeVar("J", bound=AnyJob)
E = TypeVar("E", bound=AnyEvent)


class Client:
    """Sends calls to one server with one key. Each call has a connection of its own, so threads may share a client."""

    def __init__(self, url: str, key: str, *, timeout_s: float = TIMEOUT_S, retries: int = RETRIES) -> None:
        """`timeout_s`: of silence. Raises ConfigError for a URL or a key that no request can carry."""
        self._sender = Sender(url, key)
        self._timeout_s, self._retries = timeout_s, retries

    def send(self, operation: Operation[T]) -> T:
        """Send a call and return its answer. Raises the error that the server names, or Unreachable."""

        def whole() -> bytes:
            with self._answer(operation) as pieces:
                return b"".join(pieces)

        return decode(operation, self._retrying(operation, whole), self._sender.url)

    @contextmanager
    def stream(self, streamed: Streamed[T]) -> Iterator[Iterator[T]]:
        """Send a call and iterate over its answer's events; leaving the block early ends the work behind it.

        Raises as `send`, on entering and between events; Unreachable where the answer breaks off.
        """
        operation, url = streamed.operation, self._sender.url
        with ExitStack() as opened:
            pieces = self._retrying(operation, lambda: opened.enter_context(self._answer(operation)))
            yield _events(pieces, EventDecoder(operation, url))

    def save(self, operation: Operation[bytes], to: Path) -> int:
        """Write an answer to a file as it comes, whole or not at all; return its size. Raises as `send`, or OSError."""
        fresh = to.with_name(f".{to.name}.new")

        def write() -> int:
            with self._answer(operation) as pieces, fresh.open("wb") as file:
                file.writelines(pieces)
                return file.tell()

        try:
            size = self._retrying(operation, write)
            fresh.replace(to)
        finally:
            fresh.unlink(missing_ok=True)
        return size

    def each(self, operation: Operation[Page[T]]) -> Iterator[T]:
        """Iterate over a list from page to page. Raises as `send`."""
        while True:
            page = self.send(operation)
            yield from page.data
            if not page.has_more or page.last_id is None:
                return
            operation = operation.after(page.last_id)

    def wait(self, jobs: Jobs[Any, J, E], job_id: str, tell: Callable[[E], object] | None = None) -> J:
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
                answer = self.send(step)
            else:
                time.sleep(step)
                answer = None

    def _retrying(self, operation: Operation[Any], attempt: Callable[[], T]) -> T:
        tried = 0
        while True:
            try:
                return attempt()
            except BessemerError as error:
                pause = pause_s(operation, error, tried, self._retries)
                if pause is None:
                    raise
            time.sleep(pause)
            tried += 1

    @contextmanager
    def _answer(self, operation: Operation[Any]) -> Iterator[Iterator[bytes]]:
        sender = self._sender
        parts, prepared = sender.parts, sender.prepare(operation)
        assert parts.hostname is not None
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname, parts.port, timeout=self._timeout_s)
        arrived: bool | None = False
        try:
            try:
                connection.connect()
                arrived = None
                connection.request(prepared.method, prepared.target, prepared.body, dict(prepared.headers))
                response = connection.getresponse()
                refusal = response.read() if response.status >= 400 else None
            except (OSError, http.client.HTTPException) as error:
                raise sender.no_answer(error, arrived=arrived) from None
            if refusal is not None:
                raise error_of(response.status, refusal, response.headers.get("retry-after"))
            yield self._pieces(response)
        finally:
            connection.close()

    def _pieces(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        try:
            # What comes in chunks is given as it comes: an event is not kept until there are more.
            while piece := response.read1(PIECE) if response.chunked else response.read(PIECE):
                yield piece
            if response.length:  # reading piece by piece tells of no early end
                raise http.client.IncompleteRead(b"", response.length)
        except (OSError, http.client.HTTPException) as error:
            raise self._sender.no_answer(error, arrived=None) from None


def _events(pieces: Iterator[bytes], decoder: EventDecoder[T]) -> Iterator[T]:
    for piece in pieces:
        yield from decoder.feed(piece)
    decoder.end()
