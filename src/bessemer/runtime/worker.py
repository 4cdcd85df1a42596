"""The worker process: runs queued jobs, and continues interrupted ones (`jobs.runner`)."""

import asyncio
import contextlib
import os
import signal

import structlog

from bessemer.core.settings import Settings
from bessemer.http.services import ApiServices
from bessemer.jobs.runner import POLL_S, JobRunner
from bessemer.runtime.compose import open_services
from bessemer.runtime.extensions import load_extensions
from bessemer.runtime.locks import keep_private, only_one
from bessemer.runtime.serve import OFFLINE, SHARING
from bessemer.runtime.supervise import exit_with_parent
from bessemer.store import files
from bessemer.telemetry.logs import catch_uncaught, configure

_ENGINE_IDLE_S = 60.0
"""The worker's engines serve evaluations and judges: a minute after the last answer their memory is the next job's."""
_SWEEP_S = 10.0
"""How often what ended jobs have left on disk is removed."""
_WATCH_S = 30.0
"""How often the monitors of routes read feedback that came by another way than a request, and find that none came."""
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


def _remove_expired(services: ApiServices) -> None:
    """Remove the files whose time has ended."""
    for row in files.expired(services.database):
        files.remove(services.database, row, services.blobs)


async def _work(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    services = open_services(settings, loop, engine_idle_s=_ENGINE_IDLE_S)
    runner = JobRunner(load_extensions().kinds, services, services.database, settings.data / "jobs")
    workflows = settings.database_url or f"sqlite:///{settings.data.resolve() / 'workflows.db'}"
    await asyncio.to_thread(runner.launch, workflows)
    log.info("worker.ready")
    next_sweep = next_watch = 0.0
    try:
        while not stop.is_set():
            await asyncio.to_thread(runner.fill)
            if loop.time() >= next_sweep:
                await asyncio.to_thread(runner.sweep)
                await asyncio.to_thread(_remove_expired, services)
                next_sweep = loop.time() + _SWEEP_S
            if loop.time() >= next_watch:
                await asyncio.to_thread(services.watch.sweep, services.flywheel)
                next_watch = loop.time() + _WATCH_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), POLL_S)
    finally:
        # A job in the middle of a step cannot be waited for: its state is on disk and it continues at the next start.
        # Nothing that it uses is closed before the process is gone, or the job would take that for failures.
        await asyncio.to_thread(services.writer.flush, _FLUSH_S)
        os._exit(1 if services.writer.at_risk() else 0)
