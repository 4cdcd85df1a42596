"""Liveness, readiness, metrics. Liveness asks nothing but the process; readiness asks the database."""

from starlette.types import ASGIApp

from bessemer.server.http import BytesResponse, Call, JSONResponse


async def live(_call: Call) -> ASGIApp:
    """GET /healthz: the process answers. A database that is down does not change it."""
    return JSONResponse({"status": "ok"})


async def ready(call: Call) -> ASGIApp:
    """GET /readyz: 503 while the database does not answer; says so per part, and what keeps graders' code in."""
    if not await call.services.pulse.beats():  # the reason may name hosts and users: it is in the log, not here
        return JSONResponse({"status": "unavailable", "database": "unavailable"}, 503)
    return JSONResponse({"status": "ok", "database": "ok", "graders": call.services.graders_fence})


async def metrics(call: Call) -> ASGIApp:
    """GET /metrics in Prometheus' text format."""
    return BytesResponse(call.services.metrics.expose(), call.services.metrics.content_type)
