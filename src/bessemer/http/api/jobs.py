"""Jobs of every kind: a POST writes a row for the worker, whose state and outcome the other endpoints show."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from starlette.types import ASGIApp

from bessemer.core.access import Action, Resource, ResourceKind
from bessemer.core.content import content_hash
from bessemer.core.errors import InvalidRequest, NotFound
from bessemer.core.ids import new_id
from bessemer.core.paging import JobsQuery, ListQuery, Page
from bessemer.core.types import JSON, JobStatus, as_json
from bessemer.http.edge import Call, JSONResponse, written
from bessemer.http.grading import kind_of
from bessemer.http.paging import page, page_limit
from bessemer.http.routing import Endpoint, Found, Handler, Item
from bessemer.http.services import ApiServices
from bessemer.jobs import lifecycle
from bessemer.jobs.kinds import Job, JobKind
from bessemer.jobs.objects import Shown
from bessemer.store import job_rows, paging
from bessemer.store.job_rows import Control, JobRow

_Kind = JobKind[ApiServices, Any, Any]
_DOES: Final = {
    Control.CANCEL: "Cancel a job: at once while it waits, at its next step while it runs.",
    Control.PAUSE: "Pause a job: at once while it waits, at its next step while it runs.",
    None: "Let a paused job wait for the worker again; it goes on where it was.",
}


def endpoints(kind: _Kind) -> tuple[Endpoint, ...]:
    """Return the endpoints of a kind."""
    path, one, shows, job = kind.path, kind.path + "/{job_id}", _Endpoints(kind), job_of(kind)
    page_of: Any = Page
    many, told = page_of[kind.shown], page_of[kind.shown_event]
    return (
        Endpoint(
            "POST",
            path,
            shows.create,
            kind.create,
            kind.shown,
            body=kind.request,
            largest=kind.largest,
            events=(kind.created,),
        ),
        Endpoint("GET", path, shows.list_jobs, Action.OBJECT_VIEW, many, query=JobsQuery),
        Endpoint("GET", one, shows.get, Action.OBJECT_VIEW, kind.shown, job),
        Endpoint(
            "POST",
            one + "/cancel",
            shows.control(Control.CANCEL),
            kind.control,
            kind.shown,
            job,
            events=("job.cancelled",),
        ),
        Endpoint(
            "POST", one + "/pause", shows.control(Control.PAUSE), kind.control, kind.shown, job, events=("job.paused",)
        ),
        Endpoint("POST", one + "/resume", shows.control(None), kind.control, kind.shown, job, events=("job.resumed",)),
        Endpoint("GET", one + "/events", shows.events, Action.OBJECT_VIEW, told, job, query=ListQuery),
    )


class _Endpoints:
    """The handlers of one kind."""

    def __init__(self, kind: _Kind) -> None:
        self._kind = kind

    async def create(self, call: Call) -> ASGIApp:
        """Queue a job. With an Idempotency-Key header, the same key gives the same job."""
        return self._answer(call, await create(call, self._kind))

    async def list_jobs(self, call: Call) -> ASGIApp:
        """Jobs, newest first."""
        query = call.query(JobsQuery)
        found, limit = await asyncio.to_thread(self._find, call, query, page_limit(query.limit))
        render = partial(self._kind.render, call.services)
        return await written(lambda: page(found, limit, render, lambda one: one.row.id))

    async def get(self, call: Call) -> ASGIApp:
        """Return one job: who sees it ended meets what it made and changed."""
        return self._answer(call, await asyncio.to_thread(self._get, call))

    def control(self, wish: Control | None) -> Handler:
        """Return the handler that cancels, pauses or (None) resumes a job."""

        async def controlled(call: Call) -> ASGIApp:
            return self._answer(call, Shown(await asyncio.to_thread(self._control, call, wish)))

        controlled.__doc__ = _DOES[wish]
        return controlled

    async def events(self, call: Call) -> ASGIApp:
        """Return what a job told, newest first."""
        query = call.query(ListQuery)
        limit = page_limit(query.limit)
        job_id = call.found(JobRow).id
        rows = await asyncio.to_thread(job_rows.events, call.database, job_id, limit=limit + 1, after=query.after)
        return await written(lambda: page(rows, limit, self._kind.render_event, lambda event: event.id))

    def _answer(self, call: Call, shown: Shown) -> ASGIApp:
        return JSONResponse(self._kind.render(call.services, shown))

    def _find(self, call: Call, query: JobsQuery, limit: int) -> tuple[list[Shown], int]:
        """Return the jobs of a page and, where there are more, the next one; and how many the page has.

        Metadata is compared here, so batches are read until there are enough jobs, or more than one answer holds.
        """
        database, kind = call.database, self._kind.name
        found: list[JobRow] = []
        size, after = 0, query.after
        while len(found) <= limit:
            fit = job_rows.fitting(database, kind=kind, limit=limit + 1, after=after)
            batch = job_rows.find(database, kind=kind, limit=fit, after=after)
            for row in batch:
                if query.metadata.items() <= row.metadata.items():
                    size += len(paging.encode(row))
                    if found and size > paging.ANSWER_CHARACTERS:
                        return self._shown(call, [*found, row]), len(found)
                    found.append(row)
            if len(batch) < fit:
                break
            after = batch[-1].id
        return self._shown(call, found), limit

    def _get(self, call: Call) -> Shown:
        row = call.found(JobRow)
        if row.status is JobStatus.SUCCEEDED:
            call.catalog.refresh()
        return self._shown(call, [row])[0]

    def _control(self, call: Call, wish: Control | None) -> JobRow:
        return lifecycle.control(call.database, call.found(JobRow).id, wish, call.principal.key_id)

    def _shown(self, call: Call, rows: Sequence[JobRow]) -> list[Shown]:
        ended = [row.id for row in rows if row.status is JobStatus.SUCCEEDED]
        results = self._kind.results(call.database, ended)
        return [Shown(row, results.get(row.id)) for row in rows]


def job_of(kind: _Kind) -> Item:
    """Return the finder of a kind's jobs; one of another kind is not found."""

    def find(call: Call, job_id: str) -> Found:
        row = job_rows.get(call.database, job_id)
        if row.kind != kind.name:
            raise NotFound(f"No {kind.noun} {job_id!r}.", param="job_id")
        resource = Resource(kind=ResourceKind.JOB, id=row.id, project_id=row.project_id, made_by=row.key_id)
        return Found(resource, row)

    return Item("job_id", find)


async def create(call: Call, kind: _Kind) -> Shown:
    """Check the body of a call and queue its job; blocking work is done in threads. Raises as `JobKind.accept`."""
    request = await call.body(kind.request)
    work = partial(_create, call, kind, as_json(request))
    grader = kind.grader(request)
    if grader is not None:
        return await call.services.grading.run(call.principal.key_id, kind_of(grader), work)
    return await asyncio.to_thread(work)


def _create(call: Call, kind: _Kind, request: JSON) -> Shown:
    who = call.principal
    row = JobRow(
        id=_job_id(call, kind.prefix),
        kind=kind.name,
        request=request,
        status=JobStatus.QUEUED,
        created_at=time.time(),
        key_id=who.key_id,
        project_id=who.project_id,
        models=who.models,
    )
    job = Job(kind, row, call.database, Path())
    accepted = kind.accept(call.services, job)
    return Shown(lifecycle.create(job, accepted, who.key_id), warnings=tuple(accepted.warnings))


def _job_id(call: Call, prefix: str) -> str:
    """Return the id of the job that this call makes. Keys of different callers never meet."""
    key = call.request.headers.get("idempotency-key")
    if key is None:
        return new_id(prefix)
    if not 1 <= len(key) <= 255:
        raise InvalidRequest("The Idempotency-Key header must have 1 to 255 characters.", param="idempotency-key")
    return f"{prefix}-{content_hash([call.principal.key_id, prefix, key])[:32]}"
