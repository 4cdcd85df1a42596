"""The endpoints of the dialects: a body into conversations, the gateway's replies into the answer, whole or streamed.

One request may want several answers, each an inference with its own record and feedback: they are asked at once.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec
from starlette.types import ASGIApp

from bessemer.core.conversation import Conversation
from bessemer.core.decoding import decode_object
from bessemer.core.errors import BessemerError, InvalidRequest
from bessemer.core.reply import Reply, ReplyPiece
from bessemer.dialects.base import Dialect, EventWriter, WireRequest
from bessemer.gateway.attempt import SIBLING_FAILED
from bessemer.gateway.pipeline import ReplyStream
from bessemer.http.edge import Call, EventStream, JSONResponse, while_connected
from bessemer.http.paths import DEPLOYMENT

T = TypeVar("T")
_WAITING_PIECES = 64


def answering(dialect: Dialect) -> Callable[[Call], Awaitable[ASGIApp]]:
    """Return the handler of a dialect's endpoint. A client that leaves cancels the model behind it."""

    async def answer(call: Call) -> ASGIApp:
        """Answer a request, streamed or whole."""
        gateway, receive = call.services.gateway, call.request.receive
        try:
            request = await call.parsed(partial(_read, dialect, call.request.scope.get(DEPLOYMENT)))
        except BessemerError as error:
            call.services.metrics.error("unresolved", error.error_code or error.type)
            raise
        asked = _of_deployment(request.conversations, call.request.scope.get(DEPLOYMENT))
        if (writer := request.events()) is not None:
            streams = await while_connected(receive, _started(call, asked))
            names = _named(stream.head.inference_id for stream in streams)
            names += _cached(stream.cache for stream in streams)
            names += streams[-1].limits
            return EventStream(ReplyEvents(streams, writer), names)
        answered = await while_connected(receive, _together([gateway.answer(one, call.principal) for one in asked]))
        overhead = max(one.overhead_s for one in answered) * 1000
        names = _named(one.inference.id for one in answered) + _cached(one.cache for one in answered)
        body = request.whole([one.reply for one in answered])
        names += _promised([one.reply for one in answered])
        names += answered[-1].limits
        return JSONResponse(body, headers=[*names, (b"x-bessemer-overhead-ms", f"{overhead:.3f}".encode())])

    return answer


def _read(dialect: Dialect, deployment: str | None, body: bytes) -> WireRequest:
    """Read a body; one without a model is of the deployment that its path names."""
    try:
        return dialect.parse(body)
    except InvalidRequest as error:
        if deployment is None or error.error_code != "missing_required_parameter" or error.param != "model":
            raise
    return dialect.parse(msgspec.json.encode({"model": deployment} | decode_object(body)))


def _of_deployment(asked: Sequence[Conversation], deployment: str | None) -> Sequence[Conversation]:
    return asked if deployment is None else [msgspec.structs.replace(one, model=deployment) for one in asked]


def _named(inference_ids: Iterable[str]) -> list[tuple[bytes, bytes]]:
    return [(b"x-bessemer-inference-id", ",".join(inference_ids).encode())]


def _cached(outcomes: Iterable[str | None]) -> list[tuple[bytes, bytes]]:
    """Return whether the answers were kept ones: a `hit` where all of them were; nothing where the route keeps none."""
    told = set(outcomes) - {None}
    return [(b"x-bessemer-cache", b"miss" if "miss" in told else b"hit")] if told else []


def _promised(replies: Sequence[Reply]) -> list[tuple[bytes, bytes]]:
    """Return whether what the route promises holds, where it promises anything."""
    promises = [reply.guarantee for reply in replies if reply.guarantee is not None]
    return [(b"x-bessemer-guarantee", b"void" if "void" in promises else b"holds")] if promises else []


async def _started(call: Call, asked: Sequence[Conversation]) -> list[ReplyStream]:
    """Start all streams at once and wait for the first piece of each. Raises the first error, which ends the others."""
    gateway = call.services.gateway
    opened: list[ReplyStream] = []

    async def start(one: Conversation) -> ReplyStream:
        opened.append(stream := await gateway.stream(one, call.principal))
        return stream

    try:
        return await _together([start(one) for one in asked])
    except BaseException:
        for stream in opened:
            await stream.aclose()
        raise


async def _together(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Do all at once. Raises the first error, which ends the others."""
    if len(works) == 1:
        return [await works[0]]
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel(SIBLING_FAILED)
        await asyncio.gather(*tasks, return_exceptions=True)


class ReplyEvents:
    """The events of one request's streams. Close them when the client goes away, whether or not one was read."""

    def __init__(self, streams: Sequence[ReplyStream], writer: EventWriter) -> None:
        self._streams = streams
        self._events = _one(streams[0], writer) if len(streams) == 1 else _merged(streams, writer)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._events

    async def aclose(self) -> None:
        """Stop all answers. Does nothing after their end."""
        await self._events.aclose()
        for stream in self._streams:
            await stream.aclose()


async def _one(stream: ReplyStream, writer: EventWriter) -> AsyncGenerator[bytes, None]:
    yield writer.opening(0, stream.head) + writer.piece(0, stream.first)
    try:
        async for piece in stream.rest:
            if event := writer.piece(0, piece):
                yield event
    except BessemerError as error:
        # Too late for a status and for another target: one terminal event.
        yield writer.failure(error)
        return
    yield writer.closing(0, stream.reply) + writer.end()


class _Arrival(NamedTuple):
    """A piece of one stream, or its end: by a whole reply, or by an error."""

    place: int
    what: ReplyPiece | Reply | Exception


async def _merged(streams: Sequence[ReplyStream], writer: EventWriter) -> AsyncGenerator[bytes, None]:
    """Write several streams as one, each as it comes. An error in one ends all."""
    arrived: asyncio.Queue[_Arrival] = asyncio.Queue(_WAITING_PIECES)
    pumps = [asyncio.ensure_future(_pump(index, one, arrived)) for index, one in enumerate(streams)]
    running = len(pumps)
    try:
        for index, stream in enumerate(streams):
            yield writer.opening(index, stream.head)
        while running:
            index, what = await arrived.get()
            if isinstance(what, BessemerError):
                yield writer.failure(what)
                return
            if isinstance(what, Exception):
                raise what
            if isinstance(what, Reply):
                running -= 1
                yield writer.closing(index, what)
            elif event := writer.piece(index, what):
                yield event
        yield writer.end()
    finally:
        for pump in pumps:
            pump.cancel(SIBLING_FAILED)
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(index: int, stream: ReplyStream, arrived: "asyncio.Queue[_Arrival]") -> None:
    try:
        await arrived.put(_Arrival(index, stream.first))
        async for piece in stream.rest:
            await arrived.put(_Arrival(index, piece))
    except Exception as error:
        await arrived.put(_Arrival(index, error))
    else:
        await arrived.put(_Arrival(index, stream.reply))
