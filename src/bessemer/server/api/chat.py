"""POST /v1/chat/completions."""

import asyncio

import msgspec
from starlette.types import ASGIApp

from bessemer.core.errors import InvalidRequest
from bessemer.core.openai import ChatCompletion, ChatRequest, Usage
from bessemer.core.totals import total
from bessemer.gateway.pipeline import ChatResult
from bessemer.server.http import Call, EventStream, JSONResponse, decoder, while_connected

_REQUEST = decoder(ChatRequest)
_MAX_N = 16


async def completions(call: Call) -> ASGIApp:
    """Answer a chat request, streamed or whole. A client that leaves cancels the model behind it."""
    request = await call.body(_REQUEST)
    gateway = call.services.gateway
    if request.stream:
        stream = await while_connected(call.request.receive, gateway.stream(request, call.principal))
        return EventStream(stream.events, [(b"x-bessemer-inference-id", stream.inference_id.encode())])
    if request.n not in {None, 1}:
        return _answer(await while_connected(call.request.receive, _several(call, request)))
    return _answer([await while_connected(call.request.receive, gateway.chat(request, call.principal))])


async def _several(call: Call, request: ChatRequest) -> list[ChatResult]:
    """Ask `n` times at once: n inferences, each with its own record and feedback. A seed is raised by one for each."""
    count = 1 if request.n is None else request.n
    if not 1 <= count <= _MAX_N:
        raise InvalidRequest(f"'n' must be 1 to {_MAX_N}; got {count}.", param="n")
    requests = [
        msgspec.structs.replace(request, n=None, seed=None if request.seed is None else request.seed + index)
        for index in range(count)
    ]
    tasks = [asyncio.ensure_future(call.services.gateway.chat(one, call.principal)) for one in requests]
    try:
        return list(await asyncio.gather(*tasks))
    finally:  # the first failure, or a client that left, ends the others
        for task in tasks:
            task.cancel()


def _answer(results: list[ChatResult]) -> ASGIApp:
    completion = results[0].completion if len(results) == 1 else _merged([result.completion for result in results])
    identifiers = ",".join(result.inference.id for result in results)
    overhead = max(result.overhead_s for result in results) * 1000
    headers = [
        (b"x-bessemer-inference-id", identifiers.encode()),
        (b"x-bessemer-overhead-ms", f"{overhead:.3f}".encode()),
    ]
    return JSONResponse(completion, headers=headers)


def _merged(parts: list[ChatCompletion]) -> ChatCompletion:
    """Return one completion of several: the prompt is counted once, as OpenAI does, the cost is that of all."""
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
