"""What was asked and answered: inferences with their calls, and usage totals."""

import asyncio

from starlette.types import ASGIApp

from bessemer.core.lists import InferencesQuery, UsageQuery
from bessemer.http.content import shown_inference
from bessemer.http.edge import Call, JSONResponse
from bessemer.http.lists import envelope, page, page_limit
from bessemer.store import inferences

_FLUSH_S = 5.0


async def list_inferences(call: Call) -> ASGIApp:
    """GET /v1/inferences: newest first, what was answered before this request included."""
    query = call.query(InferencesQuery)
    limit = page_limit(query.limit)
    await _written(call)
    rows = await asyncio.to_thread(
        inferences.find,
        call.database,
        route=query.route,
        since=query.since,
        until=query.until,
        episode_id=query.episode_id,
        limit=limit + 1,
        after=query.after,
    )
    return JSONResponse(page(rows, limit, lambda row: shown_inference(row, call.principal), lambda row: row.id))


async def get(call: Call) -> ASGIApp:
    """GET /v1/inferences/{inference_id}."""
    await _written(call)
    row = await asyncio.to_thread(inferences.get, call.database, call.path("inference_id"))
    return JSONResponse(shown_inference(row, call.principal))


async def usage(call: Call) -> ASGIApp:
    """GET /v1/usage: calls, tokens, cost and seconds per route and version. Cost is null where a price is unknown."""
    query = call.query(UsageQuery)
    await _written(call)
    rows = await asyncio.to_thread(
        inferences.usage, call.database, since=query.since, until=query.until, route=query.route
    )
    return JSONResponse(envelope(rows))


async def _written(call: Call) -> None:
    """Wait until what was answered before this request is in the database, or for five seconds."""
    await asyncio.to_thread(call.services.writer.flush, _FLUSH_S)
