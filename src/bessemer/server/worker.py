"""The worker process: runs queued jobs as durable workflows, and continues interrupted ones.

Training has a lane of its own, evaluations and cascades another, each with one job at a time (`lanes`).

DBOS keeps its tables in a database of its own beside the installation's (a file next to SQLite, the schema `dbos` in
PostgreSQL). The job row is the public object: a workflow only ever gets its id.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping

import structlog
from dbos import DBOS, SetWorkflowID

from bessemer.core.settings import Settings
from bessemer.core.types import JobStatus
from bessemer.flywheel import jobs as flywheel_jobs
from bessemer.server.compose import open_services
from bessemer.server.lanes import LANES, Lane, Turns, lane_of
from bessemer.server.locks import keep_private, only_one
from bessemer.server.serve import OFFLINE, SHARING
from bessemer.server.services import Services
from bessemer.server.supervise import exit_with_parent
from bessemer.server.workflow_values import JsonValues, refuse_pickles
from bessemer.store import job_rows
from bessemer.store.job_lifecycle import sweep
from bessemer.store.job_rows import JobKind, JobRow
from bessemer.telemetry.logs import catch_uncaught, configure
from bessemer.tuning import jobs as tuning_jobs
from bessemer.tuning.run import Services as TuningServices

EXECUTOR = "worker-0"
"""Stable, so that a restarted worker recovers its own workflows (DBOS matches executor and application version)."""
APPLICATION_VERSION = "2"
"""Raise when the order of a workflow's steps or the form of their values changes: DBOS leaves the pending workflows of
other versions alone, and their jobs get new ones, made from the job rows and from what the jobs have on disk."""
_POLL_S = 0.5
_ENGINE_IDLE_S = 60.0
"""The worker's engines serve evaluations and judges: a minute after the last answer their memory is the next job's."""
_SWEEP_S = 10.0
"""How often what ended jobs have left on disk is removed."""
_FLUSH_S = 10.0
"""What the database has not taken by then waits in the journal for the next start."""
log = structlog.get_logger("bessemer.worker")


def work(settings: Settings, *, supervised: bool = False) -> None:
    """Run jobs until SIGINT or SIGTERM. Raises ConfigError, StoreError before the first job."""
    configure(settings.log_level)
    catch_uncaught()
    keep_private(settings.data)
    os.environ.update({**OFFLINE, **SHARING})
    if supervised:
        exit_with_parent()
    with only_one(settings.data / "worker.lock"):
        asyncio.run(_work(settings))


async def _work(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    services = open_services(settings, loop, engine_idle_s=_ENGINE_IDLE_S)
    workflows = await asyncio.to_thread(_launch, settings, services)
    await asyncio.to_thread(_take_over, services, workflows)
    dispatcher = _Dispatcher(services, workflows)
    log.info("worker.ready")
    next_sweep = 0.0
    try:
        while not stop.is_set():
            await asyncio.to_thread(dispatcher.fill)
            if loop.time() >= next_sweep:
                await asyncio.to_thread(sweep, services.database, settings.data / "jobs")
                next_sweep = loop.time() + _SWEEP_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _POLL_S)
    finally:
        # A job in the middle of a step cannot be waited for: its state is on disk and it continues at the next start.
        # Nothing that it uses is closed before the process is gone, or the job would take that for failures.
        await asyncio.to_thread(services.writer.flush, _FLUSH_S)
        os._exit(1 if services.writer.at_risk() else 0)


def _launch(settings: Settings, services: Services) -> Mapping[JobKind, flywheel_jobs.Workflow]:
    refuse_pickles()
    DBOS(
        config={
            "name": "bessemer",
            "system_database_url": settings.database_url or f"sqlite:///{settings.data.resolve() / 'workflows.db'}",
            "db_engine_kwargs": {"connect_args": services.database.limits},
            "application_version": APPLICATION_VERSION,
            "executor_id": EXECUTOR,
            "serializer": JsonValues(),
            "log_level": "WARNING",
            "enable_otlp": False,
        }
    )
    workflows = {
        JobKind.FINE_TUNING: tuning_jobs.install(
            TuningServices(
                database=services.database,
                blobs=services.blobs,
                catalog=services.catalog,
                graders=services.graders,
                jobs_dir=settings.data / "jobs",
                threads=settings.torch_threads,
                organization=settings.organization,
                code_commit=services.code_commit,
            )
        ),
        **flywheel_jobs.install(services.flywheel),
    }
    DBOS.launch()
    for lane in LANES:
        DBOS.register_queue(lane.queue, worker_concurrency=1, polling_interval_sec=_POLL_S)
    return workflows


def _take_over(services: Services, workflows: Mapping[JobKind, flywheel_jobs.Workflow]) -> None:
    """Give running jobs a workflow where they have none: an earlier version began them, or its tables are lost."""
    for row in job_rows.find(services.database, statuses=(JobStatus.RUNNING,), limit=None, ascending=True):
        if DBOS.get_workflow_status(workflow_id(row)) is None:
            log.info("job.taken_over", job=row.id, kind=row.kind.value, workflow=workflow_id(row))
            _hand_over(row, workflows)


class _Dispatcher:
    """Gives each lane that is free the job whose turn it is."""

    def __init__(self, services: Services, workflows: Mapping[JobKind, flywheel_jobs.Workflow]) -> None:
        self._services = services
        self._workflows = workflows
        self._turns = {lane: Turns() for lane in LANES}
        self._handed: dict[str, str] = {}
        """By job: its workflow. One that is still queued after its workflow ended is not handed over again."""

    def fill(self) -> None:
        """Hand over what there is room for. Blocking."""
        for lane in LANES:
            waiting = [row for kind in lane.kinds for row in self._waiting(kind)]
            if waiting and not _busy(lane) and (row := self._turns[lane].choose(waiting)) is not None:
                self._handed[row.id] = workflow_id(row)
                _hand_over(row, self._workflows)

    def _waiting(self, kind: JobKind) -> list[JobRow]:
        rows = job_rows.find(self._services.database, kind=kind, statuses=(JobStatus.QUEUED,), limit=None)
        return [row for row in rows if self._handed.get(row.id) != workflow_id(row)]


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


def _hand_over(row: JobRow, workflows: Mapping[JobKind, flywheel_jobs.Workflow]) -> None:
    """Hand a job to its workflow; one that is handed over twice runs once, by its workflow id."""
    with SetWorkflowID(workflow_id(row)):
        DBOS.enqueue_workflow(lane_of(row.kind).queue, workflows[row.kind], row.id)


def workflow_id(row: JobRow) -> str:
    """Return the id of the workflow that runs this job now: a resumed job is a new workflow on the same state, and so
    is one that goes on under another version."""
    return f"{row.id}.{APPLICATION_VERSION}.{(row.result or {}).get('resumed', 0)}"
