"""Liveness, readiness, metrics. Liveness asks nothing but the process; readiness asks the database."""

import asyncio

from starlette.types import ASGIApp

from bessemer.core.errors import StoreError
from bessemer.server.http import BytesResponse, Call, JSONResponse


async def live(_call: Call) -> ASGIApp:
    """GET /healthz: the process answers. A database that is down does not change it."""
    return JSONResponse({"status": "ok"})


async def ready(call: Call) -> ASGIApp:
    """GET /readyz: 503 while the database does not answer; says so per part."""
    try:
        await asyncio.to_thread(call.services.database.ping)
    except StoreError:  # the reason may name hosts and users: it is in the log, not here
        return JSONResponse({"status": "unavailable", "database": "unavailable"}, 503)
    return JSONResponse({"status": "ok", "database": "ok"})


async def metrics(call: Call) -> ASGIApp:
    """GET /metrics in Prometheus' text format."""
    return BytesResponse(call.services.metrics.expose(), call.services.metrics.content_type)
