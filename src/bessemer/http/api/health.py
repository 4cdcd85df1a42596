"""Liveness, readiness, metrics. Liveness asks nothing but the process; readiness asks the database and the journal."""

from starlette.types import ASGIApp

from bessemer.http.edge import BytesResponse, Call, JSONResponse


async def live(_call: Call) -> ASGIApp:
    """GET /healthz: the process answers. A database that is down does not change it."""
    return JSONResponse({"status": "ok"})


async def ready(call: Call) -> ASGIApp:
    """GET /readyz: 503 while the database does not answer or the journal cannot be written; says so per part.

    `graders` says what keeps graders' code in.
    """
    parts = {
        "database": await call.services.database_probe.answers(),
        "journal": call.services.writer.journal_works(),
    }
    # Why it is so may name hosts, users and folders: that is in the log, not here.
    told = {part: "ok" if works else "unavailable" for part, works in parts.items()}
    works = all(parts.values())
    answer = {"status": "ok" if works else "unavailable", **told, "graders": call.services.graders_fence}
    return JSONResponse(answer, 200 if works else 503)


async def metrics(call: Call) -> ASGIApp:
    """GET /metrics in Prometheus' text format: of all projects, so for keys of the default one alone."""
    return BytesResponse(call.services.metrics.expose(), call.services.metrics.content_type)
