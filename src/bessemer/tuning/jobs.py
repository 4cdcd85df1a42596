"""The durable workflow of a fine-tuning job: prepare, train in chunks, register. The only place that knows DBOS here.

A chunk is some seconds of optimizer steps and then a saved state. A killed process continues from the last state; steps
repeated after a kill give the same events under the same ids, so nothing is told twice.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dbos import DBOS

from bessemer.core.types import JobStatus
from bessemer.store import job_rows
from bessemer.store.job_lifecycle import begin, fail, finish, obey
from bessemer.tuning.run import Services, TuningRun


@dataclass
class _Live:
    """The run that this process has in memory; training state is on disk, this saves loading it for every chunk."""

    run: TuningRun | None = None

    def of(self, services: Services, job_id: str) -> TuningRun:
        if self.run is None or self.run.job_id != job_id:
            self.run = TuningRun.open(services, job_id)
        return self.run


def install(services: Services) -> Callable[[str], None]:
    """Declare the workflow; call once, before DBOS is launched."""
    live = _Live()

    @DBOS.step(name="fine_tuning.prepare")
    def prepare(job_id: str) -> bool:
        if begin(services.database, job_id) is None:
            return False
        live.of(services, job_id).announce()
        return True

    @DBOS.step(name="fine_tuning.train")
    def train(job_id: str, chunk: int) -> str:
        del chunk  # tells the steps of one workflow apart
        stopped = obey(services.database, job_id)
        if stopped is not None:
            return stopped.value
        return JobStatus.SUCCEEDED.value if live.of(services, job_id).train_chunk() else JobStatus.RUNNING.value

    @DBOS.step(name="fine_tuning.register")
    def register(job_id: str) -> None:
        run = live.of(services, job_id)
        result, tokens = run.register()
        live.run = None
        finish(services.database, job_id, result, trained_tokens=tokens)
        job_rows.append_event(
            services.database,
            job_id,
            f"New fine-tuned model created: {result['fine_tuned_model']}",
            event_id=f"ftevent-{job_id}-created-model",
        )

    @DBOS.workflow(name="fine_tuning")
    def fine_tuning(job_id: str) -> None:
        try:
            if not prepare(job_id):
                return
            chunk = 0
            while (outcome := train(job_id, chunk)) == JobStatus.RUNNING.value:
                chunk += 1
            if outcome == JobStatus.SUCCEEDED.value:
                register(job_id)
        except Exception as error:
            live.run = None
            fail(services.database, job_id, error)

    return fine_tuning
