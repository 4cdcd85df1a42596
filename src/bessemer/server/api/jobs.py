"""Evaluations and cascades: each POST writes a job row for the worker; the row's result is the outcome."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.types import ASGIApp

from bessemer.core.errors import NotFound
from bessemer.core.lists import ListQuery
from bessemer.core.types import JSON, JobStatus, as_json
from bessemer.core.wire import CascadeRequest, EvaluationRequest, JobObject
from bessemer.flywheel import cascade, evaluation
from bessemer.server.api.fine_tuning import insert_once, steer
from bessemer.server.http import Call, JSONResponse
from bessemer.server.job_ids import job_id
from bessemer.server.lists import page, page_limit
from bessemer.store import evaluations, job_rows
from bessemer.store.job_rows import Control, JobKind, JobRow

Handler = Callable[[Call], Awaitable[ASGIApp]]

_NO_RESULTS: Mapping[str, JSON] = {}
_PREFIX = {JobKind.EVALUATION: "eval", JobKind.CASCADE: "cascade"}


async def create_evaluation(call: Call) -> ASGIApp:
    """POST /v1/evaluations."""
    request = await call.body(EvaluationRequest)
    await asyncio.to_thread(evaluation.check, request, call.flywheel)
    return await _create(call, JobKind.EVALUATION, as_json(request))


async def create_cascade(call: Call) -> ASGIApp:
    """POST /v1/cascades."""
    request = await call.body(CascadeRequest)
    await asyncio.to_thread(cascade.check, request, call.flywheel)
    return await _create(call, JobKind.CASCADE, as_json(request))


async def _create(call: Call, kind: JobKind, request: JSON) -> ASGIApp:
    row = JobRow(
        id=job_id(call, _PREFIX[kind]),
        kind=kind,
        request=request,
        status=JobStatus.QUEUED,
        created_at=time.time(),
        key_id=call.principal.key_id,
        project_id=call.principal.project_id,
        models=call.principal.models,
    )
    return JSONResponse(_wire(await asyncio.to_thread(insert_once, call, row)))


def lister(kind: JobKind) -> Handler:
    """Return the handler that lists jobs of a kind, newest first."""

    async def list_jobs(call: Call) -> ASGIApp:
        query = call.query(ListQuery)
        limit = page_limit(query.limit)
        rows, results = await asyncio.to_thread(_find, call, kind, limit, query.after)
        return JSONResponse(page(rows, limit, lambda row: _wire(row, results), lambda row: row.id))

    return list_jobs


def getter(kind: JobKind) -> Handler:
    """Return the handler that shows one job of a kind: who sees it ended meets what it changed, the route included."""

    async def get(call: Call) -> ASGIApp:
        row = await asyncio.to_thread(_row, call, kind)
        results: dict[str, JSON] = {}
        if row.status is JobStatus.SUCCEEDED:
            await asyncio.to_thread(call.catalog.refresh)
            results = await asyncio.to_thread(_results, call, [row])
        return JSONResponse(_wire(row, results))

    return get


def canceller(kind: JobKind) -> Handler:
    """Return the handler that cancels one job of a kind."""

    async def cancel(call: Call) -> ASGIApp:
        row = await asyncio.to_thread(_row, call, kind)
        return JSONResponse(_wire(await asyncio.to_thread(steer, call, row, Control.CANCEL)))

    return cancel


def eventer(kind: JobKind) -> Handler:
    """Return the handler that lists the events of one job of a kind, newest first."""

    async def events(call: Call) -> ASGIApp:
        query = call.query(ListQuery)
        limit = page_limit(query.limit)
        row = await asyncio.to_thread(_row, call, kind)
        rows = await asyncio.to_thread(job_rows.events, call.database, row.id, limit=limit + 1, after=query.after)
        return JSONResponse(page(rows, limit, lambda event: event, lambda event: event.id))

    return events


def _find(call: Call, kind: JobKind, limit: int, after: str | None) -> tuple[list[JobRow], dict[str, JSON]]:
    """Return up to `limit` + 1 rows after the cursor, and the results that are not kept with them."""
    rows = job_rows.find(call.database, kind=kind, limit=limit + 1, after=after)
    return rows, _results(call, rows)


def _results(call: Call, rows: Sequence[JobRow]) -> dict[str, JSON]:
    """Return the results of evaluations by id: what was measured is kept once, as the evaluation."""
    ids = [row.id for row in rows if row.kind is JobKind.EVALUATION and row.status is JobStatus.SUCCEEDED]
    return evaluations.results(call.database, ids)


def _row(call: Call, kind: JobKind) -> JobRow:
    identifier = call.path("job_id")
    row = job_rows.get(call.database, identifier)
    if row.kind is not kind:
        raise NotFound(f"No {kind.value} {identifier!r}.", param="job_id")
    return row


def _wire(row: JobRow, results: Mapping[str, JSON] = _NO_RESULTS) -> JobObject:
    """Return a job as clients see it; one of an earlier release has its own result."""
    result = row.result or results.get(row.id)
    return JobObject(
        id=row.id,
        kind=row.kind.value,
        status=row.status.value,
        created_at=int(row.created_at),
        request=row.request,
        started_at=None if row.started_at is None else int(row.started_at),
        finished_at=None if row.finished_at is None else int(row.finished_at),
        error=row.error,
        result=result if row.status is JobStatus.SUCCEEDED else None,
    )
