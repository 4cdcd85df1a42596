"""The audit trail: who changed what, and what was refused."""

import asyncio

from starlette.types import ASGIApp

from bessemer.core.paging import AuditQuery
from bessemer.http.edge import Call, written
from bessemer.http.paging import page, page_limit
from bessemer.store import audit

_FLUSH_S = 5.0


async def list_events(call: Call) -> ASGIApp:
    """GET /v1/audit: newest first, the denials told until now included."""
    query = call.query(AuditQuery)
    limit = page_limit(query.limit)
    await asyncio.to_thread(call.services.writer.flush, _FLUSH_S)
    rows = await asyncio.to_thread(
        audit.find,
        call.database,
        action=query.action,
        actor=query.actor,
        since=query.since,
        until=query.until,
        limit=limit + 1,
        after=query.after,
    )
    return await written(lambda: page(rows, limit, lambda row: row, lambda row: row.id))
