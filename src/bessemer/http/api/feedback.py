"""POST and GET /v1/feedback."""

import asyncio
import contextlib
import time

from starlette.types import ASGIApp

from bessemer.core.lists import FeedbackQuery
from bessemer.core.wire import FeedbackRequest
from bessemer.feedback.record import parse
from bessemer.feedback.rights import check_asked, check_stored
from bessemer.http.content import shown_feedback
from bessemer.http.edge import Call, JSONResponse
from bessemer.http.lists import page, page_limit
from bessemer.store import feedback

_PULSE_S = 0.5
_PATIENCE_S = 3.0


async def create(call: Call) -> ASGIApp:
    """Record feedback on one's own inference, or as a reviewer on any; durable when the answer is sent."""
    request = await call.body(FeedbackRequest)
    row = parse(request, call.principal, time.time())
    if row.inference_id is not None:
        await _check(call, row.inference_id)
    await call.services.writer.commit(row)
    return JSONResponse(row)


async def _check(call: Call, inference_id: str) -> None:
    """Refuse what the caller may not judge. A database that does not answer holds nothing up: the join checks again."""
    asker = call.services.gateway.asker(inference_id)
    if asker is not None:
        check_asked(call.principal, inference_id, asker)
        return
    with contextlib.suppress(TimeoutError):
        if await asyncio.wait_for(call.services.pulse.beats(), _PULSE_S):
            looking = asyncio.to_thread(check_stored, call.database, call.services.writer, inference_id, call.principal)
            await asyncio.wait_for(looking, _PATIENCE_S)


async def list_feedback(call: Call) -> ASGIApp:
    """List feedback, newest first."""
    query = call.query(FeedbackQuery)
    limit = page_limit(query.limit)
    rows = await asyncio.to_thread(
        feedback.find,
        call.database,
        metric=query.metric,
        since=query.since,
        inference_id=query.inference_id,
        limit=limit + 1,
        after=query.after,
    )
    return JSONResponse(page(rows, limit, lambda row: shown_feedback(row, call.principal), lambda row: row.id))
