"""Durable workflows of evaluations and cascades: the only place of the flywheel that knows DBOS.

Each workflow is a few idempotent steps: what a step has done so far lies in the job's folder, so a
killed process repeats at most the item it was at.
"""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from dbos import DBOS

from bessemer.core.types import as_json
from bessemer.core.wire import CascadeRequest, EvaluationRequest
from bessemer.evals import runs
from bessemer.flywheel import cascade, evaluation
from bessemer.flywheel.services import Services
from bessemer.store import datasets as dataset_rows
from bessemer.store import evaluations, job_rows
from bessemer.store.job_lifecycle import attempt, begin, finish, obey

Workflow = Callable[[str], None]


class _WishLeft(Exception):
    """The client has left a wish for the job: what it is doing is broken off, and the step that catches this obeys."""


def progress_events(services: Services, job_id: str, label: str) -> Callable[[int, int], None]:
    """Return a progress callback that appends an event at every tenth of the way and raises _WishLeft at a wish."""

    def report(done: int, total: int) -> None:
        if job_rows.control(services.database, job_id) is not None:
            raise _WishLeft
        if done == total or done * 10 // total != (done - 1) * 10 // total:
            job_rows.append_event(
                services.database,
                job_id,
                f"{label}: {done}/{total}",
                type="metrics",
                data={"target": label, "done": done, "total": total},
                event_id=f"event-{job_id}-{evaluation.file_name(label)}-{done}",
            )

    return report


def install(services: Services) -> dict[job_rows.JobKind, Workflow]:
    """Declare the workflows; call once, before DBOS is launched."""
    return {
        job_rows.JobKind.EVALUATION: _install_evaluation(services),
        job_rows.JobKind.CASCADE: _install_cascade(services),
    }


def _folder(services: Services, job_id: str) -> Path:
    folder = services.jobs_dir / job_id
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _install_evaluation(services: Services) -> Workflow:
    def start(job_id: str) -> list[str]:
        row = begin(services.database, job_id)
        if row is None:
            return []
        services.catalog.refresh()  # what the API process changed before it queued the job
        request = msgspec.convert(row.request, EvaluationRequest)
        mine = services.of_job(row)
        dataset = evaluation.check(request, mine)
        if left_out := evaluation.left_out(mine, request, dataset):
            told = f"{left_out} examples are left out: a system was trained on their inputs, or chosen by them."
            job_rows.append_event(services.database, job_id, told, level="warn", event_id=f"event-{job_id}-seen")
        if (lacking := evaluation.lacking(mine, request)) is not None:
            told = f"The gate will not count for a promotion: {lacking}."
            job_rows.append_event(services.database, job_id, told, level="warn", event_id=f"event-{job_id}-lacking")
        return list(request.systems)

    def ask_target(job_id: str, target: str) -> bool:
        if obey(services.database, job_id):
            return False
        row = job_rows.get(services.database, job_id)
        mine, request = services.of_job(row), msgspec.convert(row.request, EvaluationRequest)
        dataset = evaluation.check(request, mine)
        evaluation.enter_look(mine, job_id, request)
        folder, progress = _folder(services, job_id), progress_events(services, job_id, target)
        try:
            run = evaluation.evaluate_target(mine, request, dataset, target, folder, progress)
        except _WishLeft:
            obey(services.database, job_id)
            return False
        path = folder / f"{evaluation.file_name(target)}.run.json"
        path.write_bytes(msgspec.json.encode(run))
        return True

    def conclude(job_id: str) -> None:
        if obey(services.database, job_id):
            return
        row = job_rows.get(services.database, job_id)
        mine, request = services.of_job(row), msgspec.convert(row.request, EvaluationRequest)
        folder = _folder(services, job_id)
        results = [
            msgspec.json.decode((folder / f"{evaluation.file_name(target)}.run.json").read_bytes(), type=runs.Run)
            for target in request.systems
        ]
        look = evaluation.enter_look(mine, job_id, request)  # the number that it was given before it asked
        left_out = evaluation.left_out(mine, request, dataset_rows.get(mine.database, request.dataset))
        subject, policy = evaluation.candidate(mine, request), mine.catalog.gate_policy
        summary = evaluation.summarise(job_id, request, results, time.time(), policy, look, subject, left_out)
        if summary.gate is not None and (lacking := evaluation.lacking(mine, request)) is not None:
            rule = f"{summary.gate.rule} It does not count for a promotion as long as this is so: {lacking}."
            summary = msgspec.structs.replace(summary, gate=msgspec.structs.replace(summary.gate, rule=rule))
        with services.database.transaction():
            evaluations.insert(mine.database, summary)
            finish(services.database, job_id, None)

    @DBOS.step(name="evaluation.start")
    def evaluation_start(job_id: str) -> list[str]:
        return attempt(services.database, job_id, lambda: start(job_id)) or []

    @DBOS.step(name="evaluation.target")
    def evaluation_target(job_id: str, target: str) -> bool:
        return attempt(services.database, job_id, lambda: ask_target(job_id, target)) or False

    @DBOS.step(name="evaluation.finish")
    def evaluation_finish(job_id: str) -> None:
        attempt(services.database, job_id, lambda: conclude(job_id))

    @DBOS.workflow(name="evaluation")
    def evaluation_workflow(job_id: str) -> None:
        systems = evaluation_start(job_id)
        if systems and all(evaluation_target(job_id, target) for target in systems):
            evaluation_finish(job_id)

    return evaluation_workflow


def _install_cascade(services: Services) -> Workflow:
    def calibrate(job_id: str) -> None:
        row = begin(services.database, job_id)
        if row is None:
            return
        services.catalog.refresh()
        mine, request = services.of_job(row), msgspec.convert(row.request, CascadeRequest)
        try:
            result = cascade.build(
                mine,
                request,
                job_id,
                _folder(services, job_id),
                lambda label: progress_events(services, job_id, label),
            )
        except _WishLeft:
            obey(services.database, job_id)
            return
        if obey(services.database, job_id):  # the last moment before the route goes live
            return
        cascade.apply(mine, request, result, job_id)
        finish(services.database, job_id, as_json(result))

    @DBOS.step(name="cascade.run")
    def cascade_run(job_id: str) -> None:
        attempt(services.database, job_id, lambda: calibrate(job_id))

    @DBOS.workflow(name="cascade")
    def cascade_workflow(job_id: str) -> None:
        cascade_run(job_id)

    return cascade_workflow
