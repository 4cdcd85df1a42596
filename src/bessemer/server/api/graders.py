"""OpenAI's grader endpoints."""

import asyncio

from starlette.types import ASGIApp

from bessemer.evals import graders
from bessemer.server.http import Call, JSONResponse, decoder
from bessemer.server.wire import GraderBody, GraderRunBody

_VALIDATE = decoder(GraderBody)
_RUN = decoder(GraderRunBody)


async def validate(call: Call) -> ASGIApp:
    """POST /v1/fine_tuning/alpha/graders/validate: the grader itself when it is sound."""
    body = await call.body(_VALIDATE)
    await asyncio.to_thread(graders.check, body.grader, call.flywheel.graders)
    return JSONResponse({"grader": body.grader})


async def run(call: Call) -> ASGIApp:
    """POST /v1/fine_tuning/alpha/graders/run: grade one sample."""
    body = await call.body(_RUN)
    with await asyncio.to_thread(graders.build, body.grader, call.flywheel.graders) as grader:
        result = await grader.grade(body.model_sample, body.item)
    return JSONResponse(result.wire())
