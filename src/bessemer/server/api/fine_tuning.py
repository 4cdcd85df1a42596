"""OpenAI's fine-tuning jobs. Handlers write job rows; the worker process runs them."""

import asyncio
import time
from typing import Final

import msgspec
from starlette.types import ASGIApp

from bessemer.core.content import canonical_json
from bessemer.core.errors import InvalidRequest, NotFound
from bessemer.core.lists import CheckpointsQuery, JobsQuery, ListQuery
from bessemer.core.openai import (
    FineTuningCheckpoint,
    FineTuningEvent,
    FineTuningJob,
    FineTuningJobRequest,
    JobExtension,
)
from bessemer.core.types import JSON, JobStatus, as_json
from bessemer.core.wire import JobEvent
from bessemer.server.fine_tuning import check_request
from bessemer.server.grading import kind_of
from bessemer.server.http import Call, JSONResponse
from bessemer.server.job_ids import job_id
from bessemer.server.lists import page, page_limit
from bessemer.store import job_rows
from bessemer.store.database import Database
from bessemer.store.job_rows import Control, JobCheckpoint, JobKind, JobRow
from bessemer.tuning.methods import read_method

_FINISHED = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)
CREATED: Final = {
    JobKind.FINE_TUNING: "job.created",
    JobKind.EVALUATION: "evaluation.created",
    JobKind.CASCADE: "cascade.created",
}
"""Audit events of a new job."""
_VERB: Final = {Control.CANCEL: "cancelled", Control.PAUSE: "paused", None: "resumed"}
_WAITING = (JobStatus.VALIDATING_FILES, JobStatus.QUEUED)


async def create(call: Call) -> ASGIApp:
    """POST /v1/fine_tuning/jobs. With an Idempotency-Key header, the same key gives the same job."""
    request = await call.body(FineTuningJobRequest)
    grader = read_method(request.method, request.hyperparameters).grader
    if grader is not None:
        # It is tried first, which is the caller's code.
        made = call.services.grading.run(call.principal.key_id, kind_of(grader), lambda: _create(call, request))
    else:
        made = asyncio.to_thread(_create, call, request)
    row, warnings = await made
    answer = wire(row, call.services.settings.organization)
    if warnings:
        answer.bessemer = JobExtension(warnings=list(warnings))
    return JSONResponse(answer)


def _create(call: Call, request: FineTuningJobRequest) -> tuple[JobRow, tuple[str, ...]]:
    services = call.services
    if not call.principal.may_ask(request.model):
        raise NotFound(f"There is no model {request.model!r} that this key may tune.", param="model")
    method, warnings = check_request(request, call.catalog, call.database, services.blobs, call.flywheel.graders)
    stored = as_json(request) | {"method": method.stored(), "seed": request.seed or 0}
    stored.pop("hyperparameters", None)
    row = JobRow(
        id=job_id(call, "ftjob"),
        kind=JobKind.FINE_TUNING,
        request=stored,
        status=JobStatus.QUEUED,
        created_at=time.time(),
        key_id=call.principal.key_id,
        project_id=call.principal.project_id,
        models=call.principal.models,
        metadata=request.metadata or {},
    )
    with call.database.transaction():
        row = insert_once(call, row)
        job_rows.append_event(
            call.database, row.id, f"Created fine-tuning job: {row.id}", event_id=f"ftevent-{row.id}-created"
        )
        for number, warning in enumerate(warnings):
            event_id = f"ftevent-{row.id}-warning-{number}"
            job_rows.append_event(call.database, row.id, warning, level="warn", event_id=event_id)
    return row, warnings


def insert_once(call: Call, row: JobRow) -> JobRow:
    """Insert a job and return it, or the one that the same Idempotency-Key made before. Raises InvalidRequest."""
    database = call.database
    with database.transaction():
        if job_rows.insert(database, row):
            call.audit(CREATED[row.kind], row.id)
        stored = job_rows.get(database, row.id)
    if canonical_json(stored.request) != canonical_json(row.request):
        raise InvalidRequest(
            f"This Idempotency-Key already made {row.id} from another request; use a new key.",
            code="idempotency_key_reused",
        )
    return stored


async def list_jobs(call: Call) -> ASGIApp:
    """GET /v1/fine_tuning/jobs: newest first."""
    query = call.query(JobsQuery)
    limit = page_limit(query.limit)
    rows = await asyncio.to_thread(_find, call, query, limit)
    organization = call.services.settings.organization
    return JSONResponse(page(rows, limit, lambda row: wire(row, organization), lambda row: row.id))


def _find(call: Call, query: JobsQuery, limit: int) -> list[JobRow]:
    """Return up to `limit` + 1 rows; metadata is compared here, so pages are read until there are enough."""
    found: list[JobRow] = []
    after = query.after
    while len(found) <= limit:
        batch = job_rows.find(call.database, kind=JobKind.FINE_TUNING, limit=limit + 1, after=after)
        found += [row for row in batch if query.metadata.items() <= row.metadata.items()]
        if len(batch) <= limit:
            break
        after = batch[-1].id
    return found


async def get(call: Call) -> ASGIApp:
    """GET /v1/fine_tuning/jobs/{job_id}: who sees it succeeded can ask for its model."""
    row = await asyncio.to_thread(_row, call)
    if row.status is JobStatus.SUCCEEDED:
        await asyncio.to_thread(call.catalog.refresh)
    return JSONResponse(wire(row, call.services.settings.organization))


async def cancel(call: Call) -> ASGIApp:
    """POST /v1/fine_tuning/jobs/{job_id}/cancel: at once when it waits, at the next step when it runs."""
    return await _steer(call, Control.CANCEL)


async def pause(call: Call) -> ASGIApp:
    """POST /v1/fine_tuning/jobs/{job_id}/pause: a running job stops at its next checkpoint."""
    return await _steer(call, Control.PAUSE)


async def resume(call: Call) -> ASGIApp:
    """POST /v1/fine_tuning/jobs/{job_id}/resume: a paused job waits for the worker again."""
    return await _steer(call, None)


async def _steer(call: Call, control: Control | None) -> ASGIApp:
    row = await asyncio.to_thread(_row, call)
    row = await asyncio.to_thread(steer, call, row, control)
    return JSONResponse(wire(row, call.services.settings.organization))


def steer(call: Call, row: JobRow, control: Control | None) -> JobRow:
    """Cancel, pause or (None) resume a job of any kind. Raises InvalidRequest when its status does not allow it,
    Forbidden when another key made it.
    """
    call.check_made(row.key_id)
    database = call.database
    with database.transaction():
        row = _steered(database, job_rows.get(database, row.id), control)
        call.audit(f"job.{_VERB[control]}", row.id)
    return row


def _steered(database: Database, row: JobRow, control: Control | None) -> JobRow:
    idle = {Control.CANCEL: (*_WAITING, JobStatus.PAUSED), Control.PAUSE: _WAITING, None: (JobStatus.PAUSED,)}[control]
    target = {Control.CANCEL: JobStatus.CANCELLED, Control.PAUSE: JobStatus.PAUSED, None: JobStatus.QUEUED}[control]
    if row.status in idle:
        job_rows.request(database, row.id, None)
        if control is None:  # the worker starts a new workflow on the same state
            result = row.result or {}
            job_rows.update(database, row.id, result=result | {"resumed": result.get("resumed", 0) + 1})
        row = job_rows.transition(database, row.id, idle, target)
        if target is JobStatus.CANCELLED:
            row = job_rows.update(database, row.id, finished_at=time.time())
    elif row.status is JobStatus.RUNNING:
        row = job_rows.request(database, row.id, control)
    else:
        raise InvalidRequest(
            f"{row.id} is {row.status.value} and cannot be {_VERB[control]}.", param="job_id", code="invalid_job_state"
        )
    return row


async def events(call: Call) -> ASGIApp:
    """GET /v1/fine_tuning/jobs/{job_id}/events: newest first."""
    query = call.query(ListQuery)
    limit = page_limit(query.limit)
    row = await asyncio.to_thread(_row, call)
    rows = await asyncio.to_thread(job_rows.events, call.database, row.id, limit=limit + 1, after=query.after)
    return JSONResponse(page(rows, limit, _event, lambda event: event.id))


async def checkpoints(call: Call) -> ASGIApp:
    """GET /v1/fine_tuning/jobs/{job_id}/checkpoints: newest first."""
    query = call.query(CheckpointsQuery)
    limit = page_limit(query.limit)
    row = await asyncio.to_thread(_row, call)
    rows = await asyncio.to_thread(job_rows.checkpoints, call.database, row.id, limit=limit + 1, after=query.after)
    return JSONResponse(page(rows, limit, _checkpoint, lambda checkpoint: checkpoint.id))


def _row(call: Call) -> JobRow:
    identifier = call.path("job_id")
    row = job_rows.get(call.database, identifier)
    if row.kind is not JobKind.FINE_TUNING:
        raise NotFound(f"No fine-tuning job {identifier!r}.", param="job_id")
    return row


def _event(row: JobEvent) -> FineTuningEvent:
    return FineTuningEvent(
        id=row.id, created_at=int(row.created_at), level=row.level, message=row.message, type=row.type, data=row.data
    )


def _checkpoint(row: JobCheckpoint) -> FineTuningCheckpoint:
    return FineTuningCheckpoint(
        id=row.id,
        created_at=int(row.created_at),
        fine_tuned_model_checkpoint=row.version,
        fine_tuning_job_id=row.job_id,
        step_number=row.step,
        metrics=row.metrics,
    )


def wire(row: JobRow, organization: str) -> FineTuningJob:
    """Return the job as OpenAI's object. `row.result` may hold fine_tuned_model, result_files, estimated_finish."""
    request, result = row.request, row.result or {}
    method = request["method"]
    return FineTuningJob(
        id=row.id,
        created_at=int(row.created_at),
        model=request["model"],
        status=row.status.value,
        training_file=request["training_file"],
        validation_file=request.get("validation_file"),
        organization_id=organization,
        seed=request["seed"],
        method=method,
        hyperparameters=method.get(method["type"], {}).get("hyperparameters", {}),
        fine_tuned_model=result.get("fine_tuned_model"),
        finished_at=None if row.finished_at is None else int(row.finished_at),
        error=row.error,
        result_files=result.get("result_files", []),
        trained_tokens=row.trained_tokens,
        estimated_finish=result.get("estimated_finish"),
        integrations=request.get("integrations"),
        metadata=row.metadata or None,
        bessemer=_extension(result),
    )


def _extension(result: JSON) -> JobExtension | msgspec.UnsetType:
    known = {name: result[name] for name in JobExtension.__struct_fields__ if result.get(name) is not None}
    return msgspec.convert(known, JobExtension) if known else msgspec.UNSET
