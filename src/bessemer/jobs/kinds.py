"""What a kind of job says of itself, and the job as the kind's functions see it.

A kind is one declaration (`JobKind`) and one class of what runs (`JobRun`), in one file of the package that it belongs
to; the composition root lists it. This module knows none of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import msgspec

from bessemer.core.access import Action
from bessemer.core.types import JSON, Frozen, as_json
from bessemer.core.wire import JobEvent, JobObject
from bessemer.jobs.objects import Shown, as_object
from bessemer.store import job_rows
from bessemer.store.database import Database
from bessemer.store.job_rows import JobRow

S_contra = TypeVar("S_contra", contravariant=True)
"""What a kind needs of an installation: a protocol of its own, which the composition root's parts fulfil."""
Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)
R_co = TypeVar("R_co", bound=msgspec.Struct, covariant=True)
EventLevel = Literal["info", "warn", "error"]


class Lane(Frozen, frozen=True):
    """A resource that jobs use one after the other; lanes run beside each other."""

    queue: str
    """Its queue in the workflow library."""


class StopRequested(Exception):
    """The client wants the job to pause or to end: what it does is broken off, and later repeated from its state."""


class Job(Generic[Q]):
    """A job in the hands of its kind: what was asked, where its state lies, and how it tells and listens."""

    def __init__(self, kind: "JobKind[Any, Q, Any]", row: JobRow, database: Database, folder: Path) -> None:
        """`database` may be the one of all projects; `folder` is the one of all jobs' states."""
        self.kind = kind
        self.row = row
        self.id = row.id
        self.database = database.within(row.project_id)
        """As the job's project sees it."""
        self._folder = folder / row.id

    @cached_property
    def request(self) -> Q:
        """What was asked, as it was accepted."""
        return msgspec.convert(self.row.request, self.kind.request)

    @property
    def folder(self) -> Path:
        """A folder of the job's own for what it has done so far; it is removed after the job's end."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    def tell(
        self, key: str, message: str, *, level: EventLevel = "info", progress: msgspec.Struct | None = None
    ) -> JobEvent:
        """Append an event, once for each `key`: a part that is repeated after a kill tells it again.

        `progress` becomes the event's data and the job's present progress.
        """
        with self.database.transaction():
            if progress is not None:
                self.report(progress)
            return job_rows.append_event(
                self.database,
                self.id,
                message,
                level=level,
                type="message" if progress is None else "metrics",
                data=None if progress is None else as_json(progress),
                event_id=f"{self.kind.event_prefix}-{self.id}-{key}",
            )

    def report(self, progress: msgspec.Struct) -> None:
        """Keep how far the job is."""
        keep_progress(self.database, self.id, progress)

    def heed(self) -> None:
        """Raise StopRequested when the client wants the job to pause or to end."""
        if job_rows.control(self.database, self.id) is not None:
            raise StopRequested


def keep_progress(database: Database, job_id: str, progress: msgspec.Struct) -> None:
    """Keep how far a job is."""
    job_rows.change(database, job_id, lambda row: msgspec.structs.replace(row, progress=as_json(progress)))


class Told(NamedTuple):
    """An event that a new job begins with."""

    key: str
    message: str
    level: EventLevel = "info"


@dataclass(frozen=True, kw_only=True)
class Accepted(Generic[Q]):
    """A request that can run."""

    request: Q
    """With its defaults filled in."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    """For the audit event: names and settings, never content."""
    events: Sequence[Told] = ()
    warnings: Sequence[str] = ()
    """What a person should know before it runs, for the answer to the POST."""


@dataclass(frozen=True, kw_only=True)
class Finished(Generic[R_co]):
    """How a job succeeded."""

    result: R_co | None
    """None: it is kept elsewhere (`JobKind.results`)."""
    keep: Callable[[], object] = lambda: None
    """Writes what the job made, in the transaction that ends it."""


class JobRun(Protocol[R_co]):
    """One job being worked on, in the worker's memory. After a kill it is opened again, from what is on disk.

    Each method may be repeated, for a killed process does not know whether it ended; each may raise StopRequested. Any
    other error ends the job with that as its cause.
    """

    def prepare(self) -> None:
        """Do what comes first."""

    def step(self) -> bool:
        """Do some seconds of work and keep its state; return whether all is done. A kill costs one step."""
        ...

    def finish(self) -> Finished[R_co]:
        """Return what the job made."""
        ...

    def close(self) -> None:
        """Give memory and processes back: the job is over, paused, or broken off."""


def _accept_all(_: Any, job: Job[Q]) -> Accepted[Q]:
    return Accepted(request=job.request)


def _no_results(*_: Any) -> Mapping[str, JSON]:
    return {}


@dataclass(frozen=True, kw_only=True)
class JobKind(Generic[S_contra, Q, R]):
    """One kind of job. Its endpoints are `path` and what lies below it: list, one, events, cancel, pause, resume."""

    name: str
    """In job rows and audit events."""
    path: str
    prefix: str
    """Of ids."""
    lane: Lane
    request: type[Q]
    """The body of POST."""
    largest: int = 1 << 20
    """Bytes of that body."""
    result: type[R]
    run: Callable[[S_contra, Job[Q]], JobRun[R]]
    """Opens a job that is to be worked on."""
    progress: type[msgspec.Struct] | None = None
    """How far a job is, where it can say so."""
    accept: Callable[[S_contra, Job[Q]], Accepted[Q]] = _accept_all
    """Checks a request, in the API process, blocking. Raises InvalidRequest that names the field, or NotFound."""
    grader: Callable[[Q], JSON | None] = lambda _: None
    """The grader that `accept` runs, which is the caller's code and gets a thread of those."""
    results: Callable[[Database, Sequence[str]], Mapping[str, JSON]] = _no_results
    """Results that are kept elsewhere, by job."""
    render: Callable[[S_contra, Shown], msgspec.Struct] = lambda _, shown: as_object(shown)
    """The job as clients see it."""
    shown: type[msgspec.Struct] = JobObject
    """What `render` returns."""
    render_event: Callable[[JobEvent], msgspec.Struct] = lambda event: event
    shown_event: type[msgspec.Struct] = JobEvent
    """What `render_event` returns."""
    event_prefix: str = "event"
    """Of the ids of its events."""
    noun: str = "job"
    """In messages."""
    created: str = "job.created"
    """The audit event of a new job."""
    create: Action = Action.JOB_CREATE
    """What making such a job is."""
    control: Action = Action.JOB_CONTROL
    """What cancelling, pausing and resuming it is."""


__all__ = [
    "Accepted",
    "Finished",
    "Job",
    "JobKind",
    "JobObject",
    "JobRun",
    "Lane",
    "Shown",
    "StopRequested",
    "Told",
    "keep_progress",
]
