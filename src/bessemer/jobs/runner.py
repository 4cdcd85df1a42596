"""Runs jobs as durable workflows, one workflow for every kind, and continues interrupted ones.

The workflow library, DBOS, keeps its tables in a database of its own beside the installation's (a file next to SQLite,
the schema `dbos` in PostgreSQL). The job row is the public object: a workflow only ever gets its id, and its steps
say what comes then.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import structlog
from dbos import DBOS, SetWorkflowID

from bessemer.core.errors import StoreError
from bessemer.core.types import JobStatus
from bessemer.jobs import lifecycle
from bessemer.jobs.execution import Execution, Then
from bessemer.jobs.kinds import JobKind, Lane
from bessemer.jobs.queue import Turns
from bessemer.jobs.values import JsonValues, refuse_pickles
from bessemer.store import job_rows
from bessemer.store.database import Database
from bessemer.store.job_rows import JobRow

S = TypeVar("S")
EXECUTOR: Final = "worker-0"
"""Stable, so that a restarted worker recovers its own workflows (DBOS matches executor and application version)."""
APPLICATION_VERSION: Final = "3"
"""Raise when the order of the workflow's steps or the form of their values changes: DBOS leaves the pending workflows
of other versions alone, and their jobs get new ones, made from the job rows and from what the jobs have on disk."""
WORKFLOW: Final = "job"
POLL_S: Final = 0.5
_PATIENT: Final[Mapping[str, Any]] = {
    "retries_allowed": True,
    "should_retry": lambda error: isinstance(error, StoreError),
    "interval_seconds": 5.0,
    "backoff_rate": 1.0,
    "max_attempts": 1_000_000,
}
"""Only the database's failure gets out of a part of a job, for nobody could be told: the part is repeated until the
database is back."""
log = structlog.get_logger("bessemer.jobs")


class JobRunner(Generic[S]):
    """The jobs of an installation at work. One for a process, and one process for an installation."""

    def __init__(self, kinds: Sequence[JobKind[S, Any, Any]], services: S, database: Database, folder: Path) -> None:
        """`folder`: for the states of jobs, a folder each."""
        self._kinds: Mapping[str, JobKind[S, Any, Any]] = {kind.name: kind for kind in kinds}
        self._database = database
        self._folder = folder
        self._execution = Execution(self._kinds, services, database, folder)
        self._turns = {lane: Turns() for lane in dict.fromkeys(kind.lane for kind in kinds)}
        self._handed: dict[str, str] = {}
        """By job: its workflow. One that is still queued after its workflow ended is not handed over again."""
        self._workflow: Callable[[str], None] | None = None

    def launch(self, url: str) -> None:
        """Start the workflow library on its database: interrupted workflows of this version go on.

        Running jobs without one get a new one: an earlier version began them, or the library's tables are lost.
        """
        refuse_pickles()
        DBOS(
            config={
                "name": "bessemer",
                "system_database_url": url,
                "db_engine_kwargs": {"connect_args": self._database.limits},
                "application_version": APPLICATION_VERSION,
                "executor_id": EXECUTOR,
                "serializer": JsonValues(),
                "log_level": "WARNING",
                "enable_otlp": False,
            }
        )
        self._workflow = _declare(self._execution)
        DBOS.launch()
        for lane in self._turns:
            DBOS.register_queue(lane.queue, worker_concurrency=1, polling_interval_sec=POLL_S)
        for row in job_rows.find(self._database, statuses=(JobStatus.RUNNING,), limit=None, ascending=True):
            if row.kind in self._kinds and DBOS.get_workflow_status(workflow_id(row)) is None:
                log.info("job.taken_over", job=row.id, kind=row.kind, workflow=workflow_id(row))
                self._hand_over(row)

    def fill(self) -> None:
        """Hand over the job whose turn it is, in each lane that has room. Blocking; call every POLL_S."""
        for lane, turns in self._turns.items():
            waiting = [row for kind in self._kinds.values() if kind.lane == lane for row in self._waiting(kind)]
            if waiting and not _busy(lane) and (row := turns.choose(waiting)) is not None:
                self._handed[row.id] = workflow_id(row)
                self._hand_over(row)

    def sweep(self) -> None:
        """Remove what ended jobs have left on disk."""
        lifecycle.sweep(self._database, self._folder)

    def _waiting(self, kind: JobKind[S, Any, Any]) -> list[JobRow]:
        rows = job_rows.find(self._database, kind=kind.name, statuses=(JobStatus.QUEUED,), limit=None)
        return [row for row in rows if self._handed.get(row.id) != workflow_id(row)]

    def _hand_over(self, row: JobRow) -> None:
        """Hand a job to its workflow; one that is handed over twice runs once, by its workflow id."""
        assert self._workflow is not None
        with SetWorkflowID(workflow_id(row)):
            DBOS.enqueue_workflow(self._kinds[row.kind].lane.queue, self._workflow, row.id)


def _declare(execution: Execution[Any]) -> Callable[[str], None]:
    """Declare the workflow of every job."""

    @DBOS.step(name="job.prepare", **_PATIENT)
    def prepare(job_id: str) -> str:
        return execution.prepare(job_id).value

    @DBOS.step(name="job.step", **_PATIENT)
    def step(job_id: str) -> str:
        return execution.step(job_id).value

    @DBOS.step(name="job.finish", **_PATIENT)
    def finish(job_id: str) -> str:
        return execution.finish(job_id).value

    @DBOS.workflow(name=WORKFLOW)
    def job(job_id: str) -> None:
        then = prepare(job_id)
        while then != Then.NOTHING.value:
            then = step(job_id) if then == Then.STEP.value else finish(job_id)

    return job


def _busy(lane: Lane) -> bool:
    """Return whether a job of the lane runs, or is about to."""
    return bool(
        DBOS.list_workflows(
            queue_name=lane.queue,
            status=["ENQUEUED", "PENDING"],
            app_version=APPLICATION_VERSION,
            limit=1,
            load_input=False,
            load_output=False,
        )
    )


def workflow_id(row: JobRow) -> str:
    """Return the id of the workflow that runs this job now: a resumed job is a new workflow on the same state, and so
    is one that goes on under another version."""
    return f"{row.id}.{APPLICATION_VERSION}.{row.resumed}"
