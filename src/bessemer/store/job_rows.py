"""Jobs: the public row, its events and its checkpoints. The durable workflow behind a job keeps its own tables.

Only `transition` changes a status under a condition; a running job polls `control` for wishes to cancel or pause.
"""

import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, func, select
from sqlalchemy import insert as sql_insert
from sqlalchemy import update as sql_update

from bessemer.core.errors import Conflict, InvalidRequest, NotFound
from bessemer.core.ids import new_id
from bessemer.core.types import DEFAULT_PROJECT, JSON, Frozen, JobStatus
from bessemer.core.wire import JobEvent
from bessemer.store import paging
from bessemer.store.database import Database, insert_new, lock
from bessemer.store.schema import job_checkpoints, job_events, jobs


class JobKind(StrEnum):
    """What a job does."""

    FINE_TUNING = "fine_tuning"
    EVALUATION = "evaluation"
    CASCADE = "cascade"
    """Calibrates confidence, chooses a threshold, makes a route."""


class Control(StrEnum):
    """A wish that a running job obeys at its next step."""

    CANCEL = "cancel"
    PAUSE = "pause"


class JobRow(Frozen, frozen=True):
    """A job as clients see it."""

    id: str
    kind: JobKind
    request: JSON
    """The request's body, as it was accepted."""
    status: JobStatus
    created_at: float
    key_id: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    error: JSON | None = None
    result: JSON | None = None
    trained_tokens: int | None = None
    control: Control | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    project_id: str = DEFAULT_PROJECT
    models: tuple[str, ...] | None = None
    """Routes and models that the key that made it may ask for; None: all of its project."""


class JobCheckpoint(Frozen, frozen=True):
    """A version that a job saved on its way."""

    id: str
    job_id: str
    created_at: float
    step: int
    version: str
    metrics: JSON


def insert(database: Database, row: JobRow) -> bool:
    """Append a job and return True; a known id is left alone, so that submission is idempotent."""
    values = {
        "id": row.id,
        "created_at": row.created_at,
        "kind": row.kind.value,
        "status": row.status.value,
        "control": row.control and row.control.value,
        "body": paging.encode(row),
        "project_id": row.project_id,
    }

    def work(connection: Connection) -> bool:
        lock(connection, f"jobs.{row.id}")
        known = connection.execute(select(jobs.c.id).where(jobs.c.id == row.id)).first() is not None
        if not known:
            connection.execute(sql_insert(jobs).values(values))
        return not known

    return database.write(work)


def get(database: Database, job_id: str) -> JobRow:
    """Return one job. Raises NotFound."""
    return database.read(lambda connection: _get(database, connection, job_id))


def find(
    database: Database,
    *,
    kind: JobKind | None = None,
    statuses: Sequence[JobStatus] = (),
    limit: int | None = 100,
    after: str | None = None,
    ascending: bool = False,
) -> list[JobRow]:
    """Return jobs, newest first unless `ascending`; no statuses: any."""
    statement = select(jobs.c.body)
    if kind is not None:
        statement = statement.where(jobs.c.kind == kind.value)
    if statuses:
        statement = statement.where(jobs.c.status.in_([status.value for status in statuses]))
    within = paging.mine(database, jobs)
    rows = database.read(
        lambda c: paging.page(c, jobs, statement, within=within, after=after, limit=limit, ascending=ascending)
    )
    return [paging.decode(JobRow, row.body) for row in rows]


def statuses(database: Database, ids: Sequence[str]) -> dict[str, JobStatus]:
    """Return the status of each of the jobs that there are."""
    statement = select(jobs.c.id, jobs.c.status).where(jobs.c.id.in_(ids), paging.mine(database, jobs))
    rows = database.read(lambda connection: connection.execute(statement).all()) if ids else []
    return {row.id: JobStatus(row.status) for row in rows}


def update(
    database: Database,
    job_id: str,
    *,
    status: JobStatus | UnsetType = UNSET,
    started_at: float | UnsetType | None = UNSET,
    finished_at: float | UnsetType | None = UNSET,
    error: JSON | UnsetType | None = UNSET,
    result: JSON | UnsetType | None = UNSET,
    trained_tokens: int | UnsetType | None = UNSET,
    metadata: dict[str, str] | UnsetType = UNSET,
) -> JobRow:
    """Set the given fields of a job and return it. Raises NotFound."""

    def change(row: JobRow) -> JobRow:
        return msgspec.structs.replace(
            row,
            status=row.status if status is UNSET else status,
            started_at=row.started_at if started_at is UNSET else started_at,
            finished_at=row.finished_at if finished_at is UNSET else finished_at,
            error=row.error if error is UNSET else error,
            result=row.result if result is UNSET else result,
            trained_tokens=row.trained_tokens if trained_tokens is UNSET else trained_tokens,
            metadata=row.metadata if metadata is UNSET else metadata,
        )

    return _change(database, job_id, change)


def transition(database: Database, job_id: str, sources: Sequence[JobStatus], target: JobStatus) -> JobRow:
    """Set a job's status if it is one of `sources` now. Raises Conflict when it is not, NotFound."""

    def change(row: JobRow) -> JobRow:
        if row.status not in sources:
            raise Conflict(
                f"The job {job_id!r} is {row.status.value}; only {', '.join(s.value for s in sources)} "
                f"can become {target.value}.",
                param="status",
            )
        return msgspec.structs.replace(row, status=target)

    return _change(database, job_id, change)


def request(database: Database, job_id: str, control: Control | None) -> JobRow:
    """Leave a wish for a running job, or take it back with None. Raises NotFound."""
    return _change(database, job_id, lambda row: msgspec.structs.replace(row, control=control))


def control(database: Database, job_id: str) -> Control | None:
    """Return the wish left for a job. Raises NotFound."""
    statement = select(jobs.c.control).where(jobs.c.id == job_id, paging.mine(database, jobs))
    row = database.read(lambda connection: connection.execute(statement).first())
    if row is None:
        raise _unknown(job_id)
    return None if row.control is None else Control(row.control)


def event_prefix(kind: JobKind) -> str:
    """Return what the ids of a job's events begin with: OpenAI's `ftevent` for fine-tuning."""
    return "ftevent" if kind is JobKind.FINE_TUNING else "event"


def append_event(
    database: Database,
    job_id: str,
    message: str,
    *,
    level: Literal["info", "warn", "error"] = "info",
    type: Literal["message", "metrics"] = "message",
    data: JSON | None = None,
    event_id: str | None = None,
) -> JobEvent:
    """Append an event and return it; an `event_id` that is known returns that event. Raises NotFound for the job."""

    def work(connection: Connection) -> JobEvent:
        lock(connection, f"job_events.{job_id}")
        row = _get(database, connection, job_id)
        if event_id is not None:
            known = connection.execute(
                select(job_events.c.body).where(job_events.c.id == event_id)
            ).scalar_one_or_none()
            if known is not None:
                return paging.decode(JobEvent, known)
        last = connection.execute(
            select(func.coalesce(func.max(job_events.c.seq), 0)).where(job_events.c.job_id == job_id)
        ).scalar_one()
        event = JobEvent(
            id=event_id or new_id(event_prefix(row.kind)),
            job_id=job_id,
            seq=last + 1,
            created_at=time.time(),
            level=level,
            message=message,
            type=type,
            data=data,
        )
        values = {"job_id": job_id, "seq": event.seq, "id": event.id, "body": paging.encode(event)}
        connection.execute(sql_insert(job_events).values(values))
        return event

    return database.write(work)


def events(
    database: Database, job_id: str, *, limit: int | None = 20, after: str | None = None, ascending: bool = False
) -> list[JobEvent]:
    """Return a job's events, newest first unless `ascending`. Raises InvalidRequest for an unknown `after`."""
    c = job_events.c

    def work(connection: Connection) -> list[JobEvent]:
        statement = select(c.body).where(c.job_id == job_id)
        if after is not None:
            mark = connection.execute(select(c.seq).where(c.id == after, c.job_id == job_id)).scalar_one_or_none()
            if mark is None:
                raise InvalidRequest(f"after is {after!r}, which is not an event of {job_id!r}.", param="after")
            statement = statement.where(c.seq > mark if ascending else c.seq < mark)
        statement = statement.order_by(c.seq.asc() if ascending else c.seq.desc()).limit(limit)
        return [paging.decode(JobEvent, body) for body in connection.execute(statement).scalars()]

    return database.read(work)


def append_checkpoint(database: Database, checkpoint: JobCheckpoint) -> None:
    """Append a checkpoint; one that the job has at that step already is left alone."""
    values = {
        "job_id": checkpoint.job_id,
        "step": checkpoint.step,
        "id": checkpoint.id,
        "body": paging.encode(checkpoint),
    }
    database.write(lambda connection: insert_new(connection, job_checkpoints, [values]))


def checkpoints(
    database: Database, job_id: str, *, limit: int | None = 10, after: str | None = None
) -> list[JobCheckpoint]:
    """Return a job's checkpoints, newest first. Raises InvalidRequest for an unknown `after`."""
    c = job_checkpoints.c

    def work(connection: Connection) -> list[JobCheckpoint]:
        statement = select(c.body).where(c.job_id == job_id)
        if after is not None:
            mark = connection.execute(select(c.step).where(c.id == after, c.job_id == job_id)).scalar_one_or_none()
            if mark is None:
                raise InvalidRequest(f"after is {after!r}, which is not a checkpoint of {job_id!r}.", param="after")
            statement = statement.where(c.step < mark)
        bodies = connection.execute(statement.order_by(c.step.desc()).limit(limit)).scalars()
        return [paging.decode(JobCheckpoint, body) for body in bodies]

    return database.read(work)


def _change(database: Database, job_id: str, change: Callable[[JobRow], JobRow]) -> JobRow:
    def work(connection: Connection) -> JobRow:
        lock(connection, f"jobs.{job_id}")
        row = change(_get(database, connection, job_id))
        values = {
            "status": row.status.value,
            "control": row.control and row.control.value,
            "body": paging.encode(row),
        }
        connection.execute(sql_update(jobs).where(jobs.c.id == job_id).values(values))
        return row

    return database.write(work)


def _get(database: Database, connection: Connection, job_id: str) -> JobRow:
    body = connection.execute(
        select(jobs.c.body).where(jobs.c.id == job_id, paging.mine(database, jobs))
    ).scalar_one_or_none()
    if body is None:
        raise _unknown(job_id)
    return paging.decode(JobRow, body)


def _unknown(job_id: str) -> NotFound:
    return NotFound(f"There is no job {job_id!r}.", param="job_id")
