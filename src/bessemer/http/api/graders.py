"""OpenAI's grader endpoints."""

import asyncio

import msgspec
from starlette.types import ASGIApp

from bessemer.core.errors import GraderError, InvalidRequest
from bessemer.core.wire import GraderBody, GraderRunBody
from bessemer.evals import graders
from bessemer.evals.grader import GradeResult, GraderServices
from bessemer.http.edge import Call, JSONResponse
from bessemer.http.grading import kind_of

MAX_SAMPLE = 1 << 20
"""Characters of `model_sample`."""


async def validate(call: Call) -> ASGIApp:
    """POST /v1/fine_tuning/alpha/graders/validate: the grader itself when it is sound."""
    body = await call.body(GraderBody)
    services = call.flywheel.graders
    await call.services.grading.run(
        call.principal.key_id, kind_of(body.grader), lambda: graders.check(body.grader, services)
    )
    return JSONResponse({"grader": body.grader})


async def run(call: Call) -> ASGIApp:
    """POST /v1/fine_tuning/alpha/graders/run: grade one sample."""
    body = await call.body(GraderRunBody)
    if len(body.model_sample) > MAX_SAMPLE:
        raise InvalidRequest(
            f"'model_sample' has {len(body.model_sample)} characters; one that is graded may have {MAX_SAMPLE}.",
            param="model_sample",
        )
    services = msgspec.structs.replace(call.flywheel.graders, texts=call.services.grading.texts.grade)
    result = await call.services.grading.run(
        call.principal.key_id, kind_of(body.grader), lambda: _grade(body, services)
    )
    if result.errors.truncated_observation_error and (failure := result.failure):
        raise GraderError(failure.message, param="model_sample", code=failure.code)
    return JSONResponse(result.wire())


def _grade(body: GraderRunBody, services: GraderServices) -> GradeResult:
    with graders.build(body.grader, services) as grader:
        return asyncio.run(grader.grade(body.model_sample, body.item))
