"""Erasure: by id, tag, route and time; the answer says what is gone and what was derived from it."""

import asyncio

from starlette.types import ASGIApp

from bessemer.core.errors import NotFound
from bessemer.core.wire import Erasure, ErasureRequest
from bessemer.feedback.erasure import erase
from bessemer.http.edge import Call, JSONResponse


async def create(call: Call) -> ASGIApp:
    """POST /v1/erasures."""
    return JSONResponse(await asyncio.to_thread(_erase, call, await call.body(ErasureRequest)))


async def delete_inference(call: Call) -> ASGIApp:
    """DELETE /v1/inferences/{inference_id}: with its calls and the feedback on it."""
    name = call.path("inference_id")
    done = await asyncio.to_thread(_erase, call, ErasureRequest(inference_ids=[name]))
    if not done.inferences:
        raise NotFound(f"There is no inference {name!r}.", param="inference_id")
    return JSONResponse(done)


async def delete_feedback(call: Call) -> ASGIApp:
    """DELETE /v1/feedback/{feedback_id}."""
    name = call.path("feedback_id")
    done = await asyncio.to_thread(_erase, call, ErasureRequest(feedback_ids=[name]))
    if not done.feedback:
        raise NotFound(f"There is no feedback {name!r}.", param="feedback_id")
    return JSONResponse(done)


def _erase(call: Call, request: ErasureRequest) -> Erasure:
    services = call.services
    return erase(call.database, services.blobs, services.writer, request, call.principal.key_id)
