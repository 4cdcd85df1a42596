"""The life of a job, the same for every kind: it is made, controlled, begun, and ends once.

Each change is one transaction with its audit event and what is told of it.
"""

import shutil
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from bessemer.core.content import canonical_json
from bessemer.core.errors import BessemerError, InvalidRequest, told
from bessemer.core.ids import new_id
from bessemer.core.types import JobStatus, as_json
from bessemer.jobs.kinds import Accepted, Finished, Job
from bessemer.store import audit, job_rows
from bessemer.store.database import Database
from bessemer.store.job_rows import Control, JobRow

ENDED: Final = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)
"""None of these can go on."""
UNFINISHED: Final = tuple(status for status in JobStatus if status not in ENDED)
_WAITING: Final = (JobStatus.VALIDATING_FILES, JobStatus.QUEUED)
CAN_RUN: Final = (*_WAITING, JobStatus.RUNNING)
"""What the worker takes."""
_VERB: Final = {Control.CANCEL: "cancelled", Control.PAUSE: "paused", None: "resumed"}
_AT_ONCE: Final = {Control.CANCEL: (*_WAITING, JobStatus.PAUSED), Control.PAUSE: _WAITING, None: (JobStatus.PAUSED,)}
"""By wish: the statuses in which it is carried out at once."""
_BECOMES: Final = {Control.CANCEL: JobStatus.CANCELLED, Control.PAUSE: JobStatus.PAUSED, None: JobStatus.QUEUED}


def create(job: Job[Any], accepted: Accepted[Any], actor: str) -> JobRow:
    """Queue a job and return it, or the one that has its id: the same Idempotency-Key made it before.

    Raises InvalidRequest when that one was asked for otherwise.
    """
    row = msgspec.structs.replace(
        job.row, request=as_json(accepted.request), metadata=dict(accepted.metadata), status=JobStatus.QUEUED
    )
    with job.database.transaction():
        if job_rows.insert(job.database, row):
            audit.append(job.database, actor, job.kind.created, row.id, dict(accepted.detail))
            for event in accepted.events:
                job.tell(event.key, event.message, level=event.level)
        stored = job_rows.get(job.database, row.id)
    if canonical_json(stored.request) != canonical_json(row.request):
        raise InvalidRequest(
            f"This Idempotency-Key already made {row.id} from another request; use a new key.",
            code="idempotency_key_reused",
        )
    return stored


def control(database: Database, job_id: str, wish: Control | None, actor: str) -> JobRow:
    """Cancel, pause or (None) resume a job: at once where it waits, at its next step where it runs.

    Raises InvalidRequest when its status does not allow it, NotFound.
    """
    with database.transaction():
        row = job_rows.change(database, job_id, lambda row: _controlled(row, wish))
        audit.append(database, actor, f"job.{_VERB[wish]}", row.id)
    return row


def _controlled(row: JobRow, wish: Control | None) -> JobRow:
    if row.status is JobStatus.RUNNING:
        return msgspec.structs.replace(row, control=wish)
    if row.status not in _AT_ONCE[wish]:
        raise InvalidRequest(
            f"{row.id} is {row.status.value} and cannot be {_VERB[wish]}.", param="job_id", code="invalid_job_state"
        )
    return msgspec.structs.replace(
        row,
        status=_BECOMES[wish],
        control=None,
        resumed=row.resumed + (wish is None),  # the worker starts a new workflow on the same state
        finished_at=time.time() if wish is Control.CANCEL else row.finished_at,
    )


def begin(job: Job[Any]) -> bool:
    """Mark a job as running and return whether it may run: not when it was cancelled or has ended. Idempotent."""

    def begun(row: JobRow) -> JobRow:
        if row.status not in CAN_RUN:
            return row
        return msgspec.structs.replace(row, status=JobStatus.RUNNING, started_at=row.started_at or time.time())

    return job_rows.change(job.database, job.id, begun).status is JobStatus.RUNNING


def obey(job: Job[Any]) -> JobStatus | None:
    """Carry out a wish to cancel or pause; returns the new status, None without a wish."""
    if job_rows.control(job.database, job.id) is None:
        return None
    with job.database.transaction():
        return _obey(job)


def _obey(job: Job[Any]) -> JobStatus | None:
    """Do so within a transaction, to whose end nobody else changes the job."""
    wishes: list[Control] = []

    def stopped(row: JobRow) -> JobRow:
        if row.control is None:
            return row
        wishes.append(row.control)
        finished_at = time.time() if row.control is Control.CANCEL else None
        return msgspec.structs.replace(row, status=_BECOMES[row.control], control=None, finished_at=finished_at)

    row = job_rows.change(job.database, job.id, stopped)
    if not wishes:
        return None
    message = f"The job is {row.status.value}."
    event_id = new_id(job.kind.event_prefix)
    job_rows.append_event(job.database, job.id, message, level="warn", event_id=event_id)
    if row.status is JobStatus.CANCELLED:
        _finished(job, row)
    return row.status


def finish(job: Job[Any], outcome: Finished[Any]) -> JobStatus:
    """Keep what a job made and mark it as succeeded, unless the client wants it to stop: that is still obeyed."""

    def succeeded(row: JobRow) -> JobRow:
        result = None if outcome.result is None else as_json(outcome.result)
        return msgspec.structs.replace(
            row, status=JobStatus.SUCCEEDED, finished_at=time.time(), result=result, progress=None
        )

    with job.database.transaction():
        if (stopped := _obey(job)) is not None:
            return stopped
        outcome.keep()
        _finished(job, job_rows.change(job.database, job.id, succeeded))
    return JobStatus.SUCCEEDED


def fail(job: Job[Any], error: Exception) -> None:
    """Mark a job as failed and say why, under the error's own code; what is not a named error is an internal one."""
    code, param = (error.error_code, error.param) if isinstance(error, BessemerError) else (None, None)
    unnamed = "invalid_request" if isinstance(error, InvalidRequest) else "internal_error"
    body = {"code": code or unnamed, "message": told(error), "param": param}

    def failed(row: JobRow) -> JobRow:
        return msgspec.structs.replace(row, status=JobStatus.FAILED, finished_at=time.time(), error=body, control=None)

    with job.database.transaction():
        job.tell("failed", f"Failed: {told(error)}", level="error")
        _finished(job, job_rows.change(job.database, job.id, failed))


def _finished(job: Job[Any], row: JobRow) -> None:
    detail = {"kind": row.kind, "status": row.status.value, "on_behalf_of": row.key_id}
    # A part that is repeated after a kill tells it once, by its id.
    audit.append(job.database, audit.SYSTEM, "job.finished", row.id, detail, event_id=f"audit-{row.id}-finished")


def sweep(database: Database, folder: Path) -> int:
    """Remove what ended jobs have left in the folder of jobs' states, one folder each; return of how many.

    Queued, running and paused jobs keep theirs: they go on from it. Results are rows and blobs.
    """
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    ended = [name for name, status in job_rows.statuses(database, names).items() if status in ENDED]
    for name in ended:
        shutil.rmtree(folder / name, ignore_errors=True)
    return len(ended)
