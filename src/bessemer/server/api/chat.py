"""POST /v1/chat/completions."""

from collections.abc import Iterable

from starlette.types import ASGIApp

from bessemer.core.openai import ChatRequest
from bessemer.gateway.pipeline import ChatResult
from bessemer.server import several
from bessemer.server.http import Call, EventStream, JSONResponse, while_connected


async def completions(call: Call) -> ASGIApp:
    """Answer a chat request, streamed or whole. A client that leaves cancels the model behind it."""
    request = await call.body(ChatRequest)
    gateway, receive = call.services.gateway, call.request.receive
    if several.is_several(request):
        if request.stream:
            streams = await while_connected(receive, several.streamed(call, request))
            return EventStream(several.MergedEvents(streams), _named(stream.inference_id for stream in streams))
        return _answer(await while_connected(receive, several.whole(call, request)))
    if request.stream:
        stream = await while_connected(receive, gateway.stream(request, call.principal))
        return EventStream(stream.events, _named([stream.inference_id]))
    return _answer([await while_connected(receive, gateway.chat(request, call.principal))])


def _answer(results: list[ChatResult]) -> ASGIApp:
    completion = (
        results[0].completion if len(results) == 1 else several.merged([result.completion for result in results])
    )
    overhead = max(result.overhead_s for result in results) * 1000
    names = _named(result.inference.id for result in results)
    return JSONResponse(completion, headers=[*names, (b"x-bessemer-overhead-ms", f"{overhead:.3f}".encode())])


def _named(inference_ids: Iterable[str]) -> list[tuple[bytes, bytes]]:
    return [(b"x-bessemer-inference-id", ",".join(inference_ids).encode())]
