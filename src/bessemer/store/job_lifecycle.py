"""The life of a running job, shared by every kind: begin, stop on a wish, finish, fail with a named cause."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bessemer.core.errors import BessemerError, Conflict, InvalidRequest, told
from bessemer.core.types import JSON, JobStatus
from bessemer.store import audit, job_rows
from bessemer.store.database import Database
from bessemer.store.job_rows import Control, JobRow

_Result = TypeVar("_Result")
_CAN_RUN = (JobStatus.VALIDATING_FILES, JobStatus.QUEUED, JobStatus.RUNNING)


ENDED = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)
"""None of these can go on."""


def sweep(database: Database, folder: Path) -> int:
    """Remove what ended jobs have left in the folder of jobs' states, one folder each; return of how many.

    Queued, running and paused jobs keep theirs: they go on from it. Results are rows and blobs.
    """
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    ended = [name for name, status in job_rows.statuses(database, names).items() if status in ENDED]
    for name in ended:
        shutil.rmtree(folder / name, ignore_errors=True)
    return len(ended)


def begin(database: Database, job_id: str) -> JobRow | None:
    """Mark a job as running and return it; None when it may not run any more (cancelled, finished). Idempotent."""
    try:
        row = job_rows.transition(database, job_id, _CAN_RUN, JobStatus.RUNNING)
    except Conflict:
        return None
    if row.started_at is None:
        row = job_rows.update(database, job_id, started_at=time.time())
    return row


def obey(database: Database, job_id: str) -> JobStatus | None:
    """Carry out a wish to cancel or pause; returns the new status, None without a wish."""
    with database.transaction():
        wish = job_rows.control(database, job_id)
        if wish is None:
            return None
        status = JobStatus.CANCELLED if wish is Control.CANCEL else JobStatus.PAUSED
        job_rows.request(database, job_id, None)
        finished_at = time.time() if status is JobStatus.CANCELLED else None
        row = job_rows.update(database, job_id, status=status, finished_at=finished_at)
        job_rows.append_event(database, job_id, f"The job is {status.value}.", level="warn")
        if status is JobStatus.CANCELLED:
            _finished(database, row)
    return status


def finish(database: Database, job_id: str, result: JSON | None, *, trained_tokens: int | None = None) -> None:
    """Mark a job as succeeded with its result; None: it is kept elsewhere, as an evaluation's is."""
    with database.transaction():
        row = job_rows.update(
            database,
            job_id,
            status=JobStatus.SUCCEEDED,
            finished_at=time.time(),
            result=result,
            trained_tokens=trained_tokens,
        )
        _finished(database, row)


def fail(database: Database, job_id: str, error: Exception) -> None:
    """Mark a job as failed and say why, under the error's own code; what is not a named error is an internal one."""
    code, param = (error.error_code, error.param) if isinstance(error, BessemerError) else (None, None)
    unnamed = "invalid_request" if isinstance(error, InvalidRequest) else "internal_error"
    body = {"code": code or unnamed, "message": told(error), "param": param}
    with database.transaction():
        event_id = f"{job_rows.event_prefix(job_rows.get(database, job_id).kind)}-{job_id}-failed"
        job_rows.append_event(database, job_id, f"Failed: {told(error)}", level="error", event_id=event_id)
        row = job_rows.update(database, job_id, status=JobStatus.FAILED, finished_at=time.time(), error=body)
        _finished(database, row)


def attempt(database: Database, job_id: str, work: Callable[[], _Result]) -> _Result | None:
    """Do a part of a job; an error ends the job here, with its cause, and None is returned.

    None as well for a job that has ended: a part that is repeated after a kill finds its state on disk removed.

    Errors are told before a workflow's tables see them: what those make of an error is not what was raised.
    """
    try:
        return None if job_rows.get(database, job_id).status in ENDED else work()
    except Exception as error:
        fail(database, job_id, error)
        return None


def _finished(database: Database, row: JobRow) -> None:
    detail = {"kind": row.kind.value, "status": row.status.value, "on_behalf_of": row.key_id}
    # A step that is repeated after a kill tells it once, by its id.
    own = database.within(row.project_id)
    audit.append(own, audit.SYSTEM, "job.finished", row.id, detail, event_id=f"audit-{row.id}-finished")
