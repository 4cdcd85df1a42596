"""POST and GET /v1/feedback."""

import asyncio
import time

from starlette.types import ASGIApp

from bessemer.feedback.record import FeedbackRequest, parse
from bessemer.feedback.rights import check_may_judge
from bessemer.server.content import shown_feedback
from bessemer.server.http import Call, JSONResponse, decoder
from bessemer.server.lists import ListQuery, page, page_limit
from bessemer.store import feedback

_REQUEST = decoder(FeedbackRequest)


class FeedbackQuery(ListQuery):
    """Query of GET /v1/feedback."""

    inference_id: str | None = None
    metric: str | None = None
    since: float | None = None


async def create(call: Call) -> ASGIApp:
    """Record feedback on one's own inference, or as a reviewer on any; durable when the answer is sent."""
    request = await call.body(_REQUEST)
    row = parse(request, call.principal, time.time())
    if row.inference_id is not None:
        writer = call.services.writer
        await asyncio.to_thread(check_may_judge, call.database, writer, row.inference_id, call.principal)
    await call.services.writer.commit(row)
    return JSONResponse(row)


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
