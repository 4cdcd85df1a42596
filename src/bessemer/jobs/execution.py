"""Does the parts of jobs in this process, and says of each what comes then. Knows no workflow library.

Errors end a job inside the part that met them: their causes never pass through a workflow's tables.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, TypeVar

from bessemer.core.types import JobStatus
from bessemer.jobs import lifecycle
from bessemer.jobs.kinds import Job, JobKind, JobRun, Lane, StopRequested
from bessemer.store import job_rows
from bessemer.store.database import Database

S = TypeVar("S")
_RUNNING: Final = (JobStatus.RUNNING,)


class Then(StrEnum):
    """What comes after a part of a job."""

    STEP = "step"
    FINISH = "finish"
    NOTHING = "nothing"
    """The job does not run any more."""


class _Opened(NamedTuple):
    job_id: str
    run: JobRun[Any]


class Execution(Generic[S]):
    """Jobs at work, one of each lane at a time."""

    def __init__(
        self, kinds: Mapping[str, JobKind[S, Any, Any]], services: S, database: Database, folder: Path
    ) -> None:
        self._kinds = kinds
        self._services = services
        self._database = database
        self._folder = folder
        self._opened: dict[Lane, _Opened] = {}
        """What this process has in memory; its state is on disk, this saves loading it for every step."""

    def prepare(self, job_id: str) -> Then:
        """Mark the job as running and do what comes first."""

        def work(job: Job[Any]) -> Then:
            if not lifecycle.begin(job):
                return Then.NOTHING
            self._run_of(job).prepare()
            return Then.STEP

        return self._part(job_id, work, lifecycle.CAN_RUN)

    def step(self, job_id: str) -> Then:
        """Do one step of the job, unless the client wants it to stop."""

        def work(job: Job[Any]) -> Then:
            if lifecycle.obey(job) is not None:
                return Then.NOTHING
            return Then.FINISH if self._run_of(job).step() else Then.STEP

        return self._part(job_id, work)

    def finish(self, job_id: str) -> Then:
        """Keep what the job made; with that it has ended."""

        def work(job: Job[Any]) -> Then:
            lifecycle.finish(job, self._run_of(job).finish())
            return Then.NOTHING

        return self._part(job_id, work)

    def _part(self, job_id: str, work: Callable[[Job[Any]], Then], statuses: Sequence[JobStatus] = _RUNNING) -> Then:
        """Do a part of a job that has one of the statuses: one that is repeated after a kill may come too late."""
        row = job_rows.get(self._database, job_id)
        job = Job(self._kinds[row.kind], row, self._database, self._folder)
        then = Then.NOTHING
        try:
            if row.status in statuses:
                then = work(job)
        except StopRequested:
            self._close(job.kind.lane)  # what is half done is not continued
            then = Then.STEP if lifecycle.obey(job) is None else Then.NOTHING
        except Exception as error:
            lifecycle.fail(job, error)
        if then is Then.NOTHING:
            self._close(job.kind.lane)
        return then

    def _run_of(self, job: Job[Any]) -> JobRun[Any]:
        """Return the run of a job, continued from its saved state unless it is the one in memory."""
        lane = job.kind.lane
        opened = self._opened.get(lane)
        if opened is None or opened.job_id != job.id:
            self._close(lane)
            self._opened[lane] = opened = _Opened(job.id, job.kind.run(self._services, job))
        return opened.run

    def _close(self, lane: Lane) -> None:
        """Give back what a run holds: one that is over, or paused, holds no memory."""
        if (opened := self._opened.pop(lane, None)) is not None:
            opened.run.close()
            del opened
            gc.collect()  # the parts of a run may know each other
