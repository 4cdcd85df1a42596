"""A kind of job for tests, whose run does what a script says."""

import threading
from collections import deque
from pathlib import Path
from typing import Any

from bessemer.core.openai import StrictWire
from bessemer.core.types import Frozen, JobStatus, as_json
from bessemer.jobs.kinds import Finished, Job, JobKind, JobRun, Lane
from bessemer.store.database import Database
from bessemer.store.job_rows import JobRow


class SlowRequest(StrictWire):
    """What is asked."""

    steps: int = 1


class Reached(Frozen, frozen=True):
    """How far it is."""

    step: int


class Script:
    """What the parts of runs do: a part without a script succeeds, steps end after as many as were asked for."""

    def __init__(self) -> None:
        self.waiting: deque[Exception | threading.Event] = deque()
        self.did: list[str] = []
        self.opened: list[SlowRun] = []

    def part(self, name: str) -> None:
        self.did.append(name)
        if self.waiting:
            said = self.waiting.popleft()
            if isinstance(said, Exception):
                raise said
            said.wait(20)


class SlowRun(JobRun[Reached]):
    """Keeps on disk how many steps it has done."""

    def __init__(self, script: Script, job: Job[SlowRequest]) -> None:
        self._script, self._job = script, job
        self._kept = job.folder / "steps"
        script.opened.append(self)

    def prepare(self) -> None:
        self._script.part("prepare")

    def step(self) -> bool:
        done = int(self._kept.read_text() if self._kept.exists() else 0) + 1
        self._script.part(f"step {done}")
        self._kept.write_text(str(done))
        self._job.tell(f"step-{done}", f"Step {done}", progress=Reached(step=done))
        return done >= self._job.request.steps

    def finish(self) -> Finished[Reached]:
        self._script.part("finish")
        return Finished(result=Reached(step=int(self._kept.read_text())))

    def close(self) -> None:
        self._script.did.append("close")


SLOW = JobKind(
    name="slow",
    path="/v1/slow",
    prefix="slow",
    lane=Lane("slow"),
    request=SlowRequest,
    progress=Reached,
    result=Reached,
    run=SlowRun,
)


def a_job(database: Database, folder: Path, **asked: Any) -> Job[SlowRequest]:
    """Return a job that is not in the database yet."""
    request = as_json(SlowRequest(**asked))
    row = JobRow(id="slow-1", kind="slow", request=request, status=JobStatus.QUEUED, created_at=1.0, key_id="key-1")
    return Job(SLOW, row, database, folder)
