"""Jobs: the public row, its events and its checkpoints. The durable workflow behind a job keeps its own tables.

Every change of a row reads and writes it in one transaction (`change`); a running job polls `control` for wishes to
cancel or pause.
"""

import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Literal

import msgspec
from sqlalchemy import Connection, func, select
from sqlalchemy import insert as sql_insert
from sqlalchemy import update as sql_update

from bessemer.core.errors import InvalidRequest, NotFound
from bessemer.core.ids import new_id
from bessemer.core.types import DEFAULT_PROJECT, JSON, Frozen, JobStatus
from bessemer.core.wire import JobEvent
from bessemer.store import paging
from bessemer.store.database import Database, insert_new, lock
from bessemer.store.schema import job_checkpoints, job_events, jobs


class Control(StrEnum):
    """A wish that a running job obeys at its next step."""

    CANCEL = "cancel"
    PAUSE = "pause"


class JobRow(Frozen, frozen=True):
    """A job as clients see it."""

    id: str
    kind: str
    request: JSON
    """The request's body, as it was accepted."""
    status: JobStatus
    created_at: float
    key_id: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    error: JSON | None = None
    result: JSON | None = None
    progress: JSON | None = None
    """How far it is; in a row of an earlier release, `result` says so until the job has succeeded."""
    resumed: int = 0
    """How often it was resumed after a pause."""
    trained_tokens: int | None = None
    """Of an earlier release; now in the result."""
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
        "kind": row.kind,
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
    kind: str | None = None,
    statuses: Sequence[JobStatus] = (),
    limit: int | None = 100,
    after: str | None = None,
    ascending: bool = False,
) -> list[JobRow]:
    """Return jobs, newest first unless `ascending`; no statuses: any."""
    statement = select(jobs.c.body)
    if kind is not None:
        statement = statement.where(jobs.c.kind == kind)
    if statuses:
        statement = statement.where(jobs.c.status.in_([status.value for status in statuses]))
    within = paging.mine(database, jobs)
    rows = database.read(
        lambda c: paging.page(c, jobs, statement, within=within, after=after, limit=limit, ascending=ascending)
    )
    return [paging.decode(JobRow, row.body) for row in rows]


def fitting(database: Database, *, kind: str, limit: int, after: str | None = None) -> int:
    """Return how many jobs of such a page, newest first, go into one answer, see `paging.fitting`."""
    statement, within = select(jobs.c.body).where(jobs.c.kind == kind), paging.mine(database, jobs)
    return database.read(lambda c: paging.fitting(c, jobs, statement, within=within, after=after, limit=limit))


def statuses(database: Database, ids: Sequence[str]) -> dict[str, JobStatus]:
    """Return the status of each of the jobs that there are."""
    statement = select(jobs.c.id, jobs.c.status).where(jobs.c.id.in_(ids), paging.mine(database, jobs))
    rows = database.read(lambda connection: connection.execute(statement).all()) if ids else []
    return {row.id: JobStatus(row.status) for row in rows}


def change(database: Database, job_id: str, work: Callable[[JobRow], JobRow]) -> JobRow:
    """Replace a job by what `work` makes of it, while nobody else changes it, and return that. Raises NotFound."""

    def replace(connection: Connection) -> JobRow:
        lock(connection, f"jobs.{job_id}")
        before = _get(database, connection, job_id)
        row = work(before)
        if row is not before:
            values = {
                "status": row.status.value,
                "control": row.control and row.control.value,
                "body": paging.encode(row),
            }
            connection.execute(sql_update(jobs).where(jobs.c.id == job_id).values(values))
        return row

    return database.write(replace)


def control(database: Database, job_id: str) -> Control | None:
    """Return the wish left for a job. Raises NotFound."""
    statement = select(jobs.c.control).where(jobs.c.id == job_id, paging.mine(database, jobs))
    row = database.read(lambda connection: connection.execute(statement).first())
    if row is None:
        raise _unknown(job_id)
    return None if row.control is None else Control(row.control)


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
        job = _get(database, connection, job_id)
        if event_id is not None:
            known = connection.execute(
                select(job_events.c.body).where(job_events.c.id == event_id, job_events.c.job_id == job_id)
            ).scalar_one_or_none()
            if known is not None:
                return paging.decode(JobEvent, known)
        last = connection.execute(
            select(func.coalesce(func.max(job_events.c.seq), 0)).where(job_events.c.job_id == job_id)
        ).scalar_one()
        event = JobEvent(
            id=event_id or new_id("event"),
            job_id=job_id,
            seq=last + 1,
            created_at=time.time(),
            level=level,
            message=message,
            type=type,
            data=data,
        )
        values = {"job_id": job_id, "seq": event.seq, "id": event.id, "body": paging.encode(event)}
        connection.execute(sql_insert(job_events).values(values | {"project_id": job.project_id}))
        return event

    return database.write(work)


def events(
    database: Database, job_id: str, *, limit: int | None = 20, after: str | None = None, ascending: bool = False
) -> list[JobEvent]:
    """Return a job's events, newest first unless `ascending`. Raises InvalidRequest for an unknown `after`."""
    c = job_events.c

    def work(connection: Connection) -> list[JobEvent]:
        mine = paging.mine(database, job_events)
        statement = select(c.body).where(c.job_id == job_id, mine)
        if after is not None:
            mark = connection.execute(select(c.seq).where(c.id == after, c.job_id == job_id, mine)).scalar_one_or_none()
            if mark is None:
                raise InvalidRequest(f"after is {after!r}, which is not an event of {job_id!r}.", param="after")
            statement = statement.where(c.seq > mark if ascending else c.seq < mark)
        statement = statement.order_by(c.seq.asc() if ascending else c.seq.desc()).limit(limit)
        return [paging.decode(JobEvent, body) for body in connection.execute(statement).scalars()]

    return database.read(work)


def append_checkpoint(database: Database, checkpoint: JobCheckpoint) -> None:
    """Append a checkpoint; one that the job has at that step already is left alone. Raises NotFound for the job."""

    def work(connection: Connection) -> None:
        values = {
            "job_id": checkpoint.job_id,
            "step": checkpoint.step,
            "id": checkpoint.id,
            "body": paging.encode(checkpoint),
            "project_id": _get(database, connection, checkpoint.job_id).project_id,
        }
        insert_new(connection, job_checkpoints, [values])

    database.write(work)


def checkpoints(
    database: Database, job_id: str, *, limit: int | None = 10, after: str | None = None
) -> list[JobCheckpoint]:
    """Return a job's checkpoints, newest first. Raises InvalidRequest for an unknown `after`."""
    c = job_checkpoints.c

    def work(connection: Connection) -> list[JobCheckpoint]:
        mine = paging.mine(database, job_checkpoints)
        statement = select(c.body).where(c.job_id == job_id, mine)
        if after is not None:
            at = select(c.step).where(c.id == after, c.job_id == job_id, mine)
            mark = connection.execute(at).scalar_one_or_none()
            if mark is None:
                raise InvalidRequest(f"after is {after!r}, which is not a checkpoint of {job_id!r}.", param="after")
            statement = statement.where(c.step < mark)
        bodies = connection.execute(statement.order_by(c.step.desc()).limit(limit)).scalars()
        return [paging.decode(JobCheckpoint, body) for body in bodies]

    return database.read(work)


def _get(database: Database, connection: Connection, job_id: str) -> JobRow:
    body = connection.execute(
        select(jobs.c.body).where(jobs.c.id == job_id, paging.mine(database, jobs))
    ).scalar_one_or_none()
    if body is None:
        raise _unknown(job_id)
    return paging.decode(JobRow, body)


def _unknown(job_id: str) -> NotFound:
    return NotFound(f"There is no job {job_id!r}.", param="job_id")
