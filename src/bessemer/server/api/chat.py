"""POST /v1/chat/completions."""

from bessemer.core.openai import ChatRequest
from bessemer.server.http import Call, EventStream, JSONResponse, decoder, while_connected
from starlette.types import ASGIApp

_REQUEST = decoder(ChatRequest)


async def completions(call: Call) -> ASGIApp:
    """Answer a chat request, streamed or whole. A client that leaves cancels the model behind it."""
    request = await call.body(_REQUEST)
    gateway = call.services.gateway
    if request.stream:
        stream = await while_connected(call.request.receive, gateway.stream(request, call.principal))
        return EventStream(stream.events, [(b"x-bessemer-inference-id", stream.inference_id.encode())])
    result = await while_connected(call.request.receive, gateway.chat(request, call.principal))
    overhead = f"{result.overhead_s * 1000:.3f}".encode()
    headers = [(b"x-bessemer-inference-id", result.inference.id.encode()), (b"x-bessemer-overhead-ms", overhead)]
    return JSONResponse(result.completion, headers=headers)
