"""The durable workflow of a fine-tuning job: prepare, train in chunks, register. The only place that knows DBOS here.

A chunk is some seconds of optimizer steps and then a saved state. A killed process continues from the last state; steps
repeated after a kill give the same events under the same ids, so nothing is told twice. An error ends the job inside
the step that met it, so that its cause never passes through the workflow's tables.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass

from dbos import DBOS

from bessemer.core.types import JobStatus
from bessemer.store import job_rows
from bessemer.store.job_lifecycle import attempt, begin, finish, obey
from bessemer.tuning.run import Services, TuningRun
from bessemer.tuning.wishes import BrokenOff


@dataclass
class Live:
    """The run that this process has in memory; training state is on disk, this saves loading it for every chunk."""

    services: Services
    run: TuningRun | None = None

    def of(self, job_id: str) -> TuningRun:
        """Return the run of a job, continued from its saved state unless it is the one in memory."""
        if self.run is None or self.run.job_id != job_id:
            self.release()
            self.run = TuningRun.open(self.services, job_id)
        return self.run

    def release(self) -> None:
        """Give back model, optimizer and grader: a run that is over, or paused, holds no memory."""
        if self.run is not None:
            self.run.close()
            self.run = None
            gc.collect()  # engine and tuner know each other

    def guarded(self, job_id: str, work: Callable[[str], JobStatus]) -> str:
        """Do a step's work and return the job's status; keep the run only while it is running."""
        status = attempt(self.services.database, job_id, lambda: work(job_id)) or JobStatus.FAILED
        if status is not JobStatus.RUNNING:
            self.release()
        return status.value


def install(services: Services) -> Callable[[str], None]:
    """Declare the workflow; call once, before DBOS is launched."""
    live = Live(services)

    def prepare(job_id: str) -> JobStatus:
        if begin(services.database, job_id) is None:
            return JobStatus.CANCELLED
        try:
            live.of(job_id).announce()
        except BrokenOff:
            live.release()
            return obey(services.database, job_id) or JobStatus.RUNNING
        return JobStatus.RUNNING

    def train(job_id: str) -> JobStatus:
        stopped = obey(services.database, job_id)
        if stopped is not None:
            return stopped
        try:
            done = live.of(job_id).train_chunk()
        except BrokenOff:
            live.release()  # what is half done is not continued
            return obey(services.database, job_id) or JobStatus.RUNNING
        if not done:
            return JobStatus.RUNNING
        _register(services, live.of(job_id))
        return JobStatus.SUCCEEDED

    @DBOS.step(name="fine_tuning.prepare")
    def prepare_step(job_id: str) -> str:
        return live.guarded(job_id, prepare)

    @DBOS.step(name="fine_tuning.train")
    def train_step(job_id: str, chunk: int) -> str:
        del chunk  # tells the steps of one workflow apart
        return live.guarded(job_id, train)

    @DBOS.workflow(name="fine_tuning")
    def fine_tuning(job_id: str) -> None:
        outcome, chunk = prepare_step(job_id), 0
        while outcome == JobStatus.RUNNING.value:
            outcome = train_step(job_id, chunk)
            chunk += 1

    return fine_tuning


def _register(services: Services, run: TuningRun) -> None:
    result, tokens = run.register()
    finish(services.database, run.job_id, result, trained_tokens=tokens)
    job_rows.append_event(
        services.database,
        run.job_id,
        f"New fine-tuned model created: {result['fine_tuned_model']}",
        event_id=f"ftevent-{run.job_id}-created-model",
    )
