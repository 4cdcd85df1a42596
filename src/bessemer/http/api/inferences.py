"""What was asked and answered: inferences with their calls, and usage totals."""

import asyncio

from starlette.types import ASGIApp

from bessemer.core.access import Resource, ResourceKind
from bessemer.core.errors import StoreError
from bessemer.core.inferences import Inference
from bessemer.core.paging import InferencesQuery, UsageQuery
from bessemer.http.edge import Call, JSONResponse, written
from bessemer.http.paging import envelope, page, page_limit
from bessemer.http.redaction import shown_inference
from bessemer.http.routing import Found, Item
from bessemer.store import inferences, usage

_FLUSH_S = 5.0


async def list_inferences(call: Call) -> ASGIApp:
    """GET /v1/inferences: newest first, what was answered before this request included."""
    query = call.query(InferencesQuery)
    limit = page_limit(query.limit)
    await _written(call)
    asked = {name: getattr(query, name) for name in ("route", "since", "until", "episode_id", "after")}
    limit = await asyncio.to_thread(inferences.fitting, call.database, **asked, limit=limit)
    rows = await asyncio.to_thread(inferences.find, call.database, **asked, limit=limit + 1)
    return await written(lambda: page(rows, limit, lambda row: shown_inference(call, row), lambda row: row.id))


async def get(call: Call) -> ASGIApp:
    """GET /v1/inferences/{inference_id}."""
    return await written(lambda: shown_inference(call, call.found(Inference)))


async def usage_totals(call: Call) -> ASGIApp:
    """GET /v1/usage: requests, calls, tokens, cost and seconds. Cost is null where a price is unknown."""
    query = call.query(UsageQuery)
    by = usage.parts(query.by)
    await _written(call)
    asked = {name: getattr(query, name) for name in ("since", "until", "route", "model", "key", "tag")}
    return JSONResponse(envelope(await asyncio.to_thread(usage.find, call.database, by=by, **asked)))


def _find(call: Call, inference_id: str) -> Found:
    if not call.services.writer.flush(_FLUSH_S) and inferences.key_of(call.database, inference_id) is None:
        raise StoreError("The database is behind: what was answered is still on its way to it. Try again later.")
    row = inferences.get(call.database, inference_id)
    return Found(Resource(kind=ResourceKind.INFERENCE, id=row.id, project_id=row.project_id, made_by=row.key_id), row)


INFERENCE = Item("inference_id", _find)


async def _written(call: Call) -> None:
    """Wait until what was answered before this request is in the database, or for five seconds."""
    await asyncio.to_thread(call.services.writer.flush, _FLUSH_S)
