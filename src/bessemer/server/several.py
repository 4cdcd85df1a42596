"""Several answers to one chat request (`n`): n inferences, each with its own record and feedback, told as n choices.

Whole or streamed. The prompt is counted once, as OpenAI does; the cost is that of all. A seed rises by one for each.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from bessemer.core.errors import InvalidRequest
from bessemer.core.openai import ChatCompletion, ChatRequest, Usage
from bessemer.core.totals import total
from bessemer.core.types import JSON
from bessemer.gateway.attempt import SIBLING_FAILED
from bessemer.gateway.pipeline import ChatResult, StreamResult
from bessemer.gateway.wire import DONE, event_of
from bessemer.server.http import Call

T = TypeVar("T")
MAX_N = 16
_WAITING_EVENTS = 64


class _Arrival(NamedTuple):
    """An event of one stream; None: its end, by an error or not."""

    choice: int
    event: bytes | None
    error: Exception | None = None


def is_several(request: ChatRequest) -> bool:
    """Say whether more than one answer is asked for. Raises InvalidRequest for a number that is not 1 to 16."""
    count = 1 if request.n is None else request.n
    if not 1 <= count <= MAX_N:
        raise InvalidRequest(f"'n' must be 1 to {MAX_N}; got {count}.", param="n")
    return count > 1


async def whole(call: Call, request: ChatRequest) -> list[ChatResult]:
    """Ask `n` times at once. Raises the first error, which ends the others."""
    gateway = call.services.gateway
    return await _together([gateway.chat(one, call.principal) for one in _each(request)])


async def streamed(call: Call, request: ChatRequest) -> list[StreamResult]:
    """Start `n` streams at once and wait for the first piece of each. Raises the first error, which ends the others."""
    gateway = call.services.gateway
    opened: list[StreamResult] = []

    async def start(one: ChatRequest) -> StreamResult:
        opened.append(stream := await gateway.stream(one, call.principal))
        return stream

    try:
        return await _together([start(one) for one in _each(request)])
    except BaseException:
        for stream in opened:
            await stream.events.aclose()
        raise


def _each(request: ChatRequest) -> list[ChatRequest]:
    seed = request.seed
    return [
        msgspec.structs.replace(request, n=None, seed=None if seed is None else seed + index)
        for index in range(request.n or 1)
    ]


async def _together(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel(SIBLING_FAILED)
        await asyncio.gather(*tasks, return_exceptions=True)


def merged(parts: Sequence[ChatCompletion]) -> ChatCompletion:
    """Return one completion of several."""
    choices = [msgspec.structs.replace(part.choices[0], index=index) for index, part in enumerate(parts)]
    usages = [part.usage for part in parts if part.usage is not None]
    usage = None
    if len(usages) == len(parts):
        prompt, completion = usages[0].prompt_tokens, sum(usage.completion_tokens for usage in usages)
        usage = Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)
    extensions = [part.bessemer for part in parts if part.bessemer is not None]
    extension = msgspec.structs.replace(
        extensions[0],
        inference_ids=[one.inference_id for one in extensions],
        cost_usd=total([one.cost_usd for one in extensions]),
    )
    return msgspec.structs.replace(parts[0], choices=choices, usage=usage, bessemer=extension)


class MergedEvents:
    """The events of several streams as one stream, each as it comes, told apart by `index`.

    `bessemer.inference_id` of a choice's first and last event is the choice's own. An error in one ends all.
    """

    def __init__(self, streams: Sequence[StreamResult]) -> None:
        self._streams = streams
        self._events = self._make()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._events)

    async def aclose(self) -> None:
        """Stop all answers. Does nothing after their end."""
        await self._events.aclose()
        for stream in self._streams:
            await stream.events.aclose()

    async def _make(self) -> AsyncGenerator[bytes, None]:
        arrived: asyncio.Queue[_Arrival] = asyncio.Queue(_WAITING_EVENTS)
        pumps = [asyncio.ensure_future(_pump(index, one, arrived)) for index, one in enumerate(self._streams)]
        name: str | None = None
        usages: list[JSON] = []
        running = len(pumps)
        try:
            while running:
                choice, event, error = await arrived.get()
                if error is not None:
                    raise error
                if event is None:
                    running -= 1
                elif event != DONE:
                    value = msgspec.json.decode(event.removeprefix(b"data: "))
                    if "error" in value:
                        yield event
                        return
                    name = name or value["id"]
                    if value["choices"]:
                        value["choices"][0]["index"] = choice
                        yield event_of(value | {"id": name})
                    else:
                        usages.append(value)
            if usages and len(usages) == len(pumps):
                yield event_of(usages[0] | {"id": name, "usage": _summed([value["usage"] for value in usages])})
            yield DONE
        finally:
            for pump in pumps:
                pump.cancel(SIBLING_FAILED)
            await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(choice: int, stream: StreamResult, arrived: "asyncio.Queue[_Arrival]") -> None:
    try:
        async for event in stream.events:
            await arrived.put(_Arrival(choice, event))
    except Exception as error:
        await arrived.put(_Arrival(choice, None, error))
    else:
        await arrived.put(_Arrival(choice, None))


def _summed(usages: Sequence[JSON]) -> JSON:
    completion = sum(usage["completion_tokens"] for usage in usages)
    return usages[0] | {
        "completion_tokens": completion,
        "total_tokens": usages[0]["prompt_tokens"] + completion,
    }
