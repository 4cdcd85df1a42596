"""Erasure: by id, tag, route and time; the answer says what is gone and what was derived from it."""

import asyncio

from starlette.types import ASGIApp

from bessemer.core.feedback import Feedback
from bessemer.core.inferences import Inference
from bessemer.core.wire import Erasure, ErasureRequest
from bessemer.feedback.erasure import erase
from bessemer.http.edge import Call, JSONResponse


async def create(call: Call) -> ASGIApp:
    """POST /v1/erasures."""
    return JSONResponse(await asyncio.to_thread(_erase, call, await call.body(ErasureRequest)))


async def delete_inference(call: Call) -> ASGIApp:
    """DELETE /v1/inferences/{inference_id}: with its calls and the feedback on it."""
    request = ErasureRequest(inference_ids=[call.found(Inference).id])
    return JSONResponse(await asyncio.to_thread(_erase, call, request))


async def delete_feedback(call: Call) -> ASGIApp:
    """DELETE /v1/feedback/{feedback_id}."""
    request = ErasureRequest(feedback_ids=[call.found(Feedback).id])
    return JSONResponse(await asyncio.to_thread(_erase, call, request))


def _erase(call: Call, request: ErasureRequest) -> Erasure:
    services = call.services
    erased = erase(call.database, services.blobs, services.writer, request, call.principal.key_id)
    if not request.dry_run:
        services.answers.clear()  # the other processes hear of it a moment later
    return erased
