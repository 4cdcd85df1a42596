"""POST and GET /v1/feedback."""

import asyncio
import contextlib
import time
from functools import partial

from starlette.types import ASGIApp

from bessemer.core.access import Action, Resource, ResourceKind
from bessemer.core.paging import FeedbackQuery
from bessemer.core.wire import FeedbackRequest, WantedBody, WantedFeedback
from bessemer.feedback.datasets import WANTED
from bessemer.feedback.record import found_wrong, parse
from bessemer.feedback.rights import check_asked, check_stored
from bessemer.flywheel.wanted import wanted_of
from bessemer.http.edge import Call, JSONResponse, written
from bessemer.http.paging import envelope, page, page_limit
from bessemer.http.redaction import shown_feedback
from bessemer.http.routing import Found, Item
from bessemer.store import feedback
from bessemer.store.writer import Durability

_PROBE_S = 0.5
_PATIENCE_S = 3.0
_FLUSH_S = 5.0


async def create(call: Call) -> ASGIApp:
    """Record feedback on one's own inference, or as a reviewer on any; durable when the answer is sent."""
    request = await call.body(FeedbackRequest)
    reviewer = call.may(Action.FEEDBACK_REVIEW, call.project)
    row = parse(request, call.principal, time.time(), reviewer=reviewer)
    if row.inference_id is not None:
        await _check(call, row.inference_id)
    durability = await call.services.writer.commit(row)
    if row.inference_id is not None and found_wrong(row):
        call.services.answers.evict(row.inference_id)
    watched = call.services.watch.concerned(call.flywheel, row)
    if watched and durability is Durability.COMMITTED:  # an alarm is acted upon before this is acknowledged
        await asyncio.to_thread(call.services.watch.heed_all, call.flywheel, watched)
    return JSONResponse(row)


def _find(call: Call, feedback_id: str) -> Found:
    call.services.writer.flush(_FLUSH_S)  # it was acknowledged: it may be on its way
    row = feedback.get(call.database, feedback_id)
    resource = Resource(kind=ResourceKind.FEEDBACK, id=row.id, project_id=row.project_id, made_by=row.key_id)
    return Found(resource, row)


FEEDBACK = Item("feedback_id", _find)


async def _check(call: Call, inference_id: str) -> None:
    """Refuse what the caller may not judge. A database that does not answer holds nothing up: the join checks again."""
    asker = call.services.gateway.asker(inference_id)
    if asker is not None:
        check_asked(call.services.policy, call.principal, inference_id, asker)
        return
    with contextlib.suppress(TimeoutError):
        if await asyncio.wait_for(call.services.database_probe.answers(), _PROBE_S):
            services = call.services
            work = partial(check_stored, call.database, services.writer, services.policy, inference_id, call.principal)
            await asyncio.wait_for(asyncio.to_thread(work), _PATIENCE_S)


async def list_wanted(call: Call) -> ASGIApp:
    """POST /v1/feedback/wanted: the requests to judge next. What is learned of them teaches, and measures nothing."""
    body = await call.body(WantedBody)
    call.check_named(Action.OBJECT_VIEW, body.route)
    found = await asyncio.to_thread(_wanted, call, body)
    return JSONResponse(envelope(found, ids=[one.inference_id for one in found]))


def _wanted(call: Call, body: WantedBody) -> list[WantedFeedback]:
    call.services.writer.flush(_FLUSH_S)
    found = wanted_of(call.flywheel, body.route, body.limit)
    if found:
        call.audit(WANTED, body.route, {"inferences": [one.inference_id for one in found]})
    return found


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
    return await written(lambda: page(rows, limit, lambda row: shown_feedback(call, row), lambda row: row.id))
