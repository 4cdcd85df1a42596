"""Evaluations and cascades as kinds of jobs.

What a run has done so far lies in the job's folder, so that a killed process repeats at most the item it was at.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec

from bessemer.core.access import Action
from bessemer.core.evaluations import CascadeResult, Evaluation
from bessemer.core.types import JSON, Frozen
from bessemer.core.wire import CascadeRequest, EvaluationRequest
from bessemer.evals import graders, runs
from bessemer.evals.grader import LARGEST_BODY
from bessemer.flywheel import cascade, evaluation
from bessemer.flywheel.services import FlywheelServices
from bessemer.jobs.kinds import Accepted, Finished, Job, JobKind, JobRun, Lane
from bessemer.store import datasets as dataset_rows
from bessemer.store import evaluations

LANE: Final = Lane("evaluations")


class HasFlywheel(Protocol):
    """What these kinds need of an installation."""

    @property
    def flywheel(self) -> FlywheelServices:
        """The flywheel's parts."""
        ...


class ItemsDone(Frozen, frozen=True):
    """How many of the items a system has answered."""

    target: str
    done: int
    total: int


def _counter(job: Job[EvaluationRequest] | Job[CascadeRequest], label: str) -> Callable[[int, int], None]:
    """Return what counts a system's answers: it tells at every tenth of the way, and raises StopRequested."""

    def count(done: int, total: int) -> None:
        job.heed()
        if done == total or done * 10 // total != (done - 1) * 10 // total:
            said = ItemsDone(target=label, done=done, total=total)
            job.tell(f"{evaluation.file_name(label)}-{done}", f"{label}: {done}/{total}", progress=said)

    return count


class _EvaluationRun(JobRun[Evaluation]):
    """Asks one system after the other."""

    def __init__(self, services: HasFlywheel, job: Job[EvaluationRequest]) -> None:
        self._job = job
        self._mine = services.flywheel.of_job(job.row)
        self._mine.catalog.refresh()  # what the API process changed before it queued the job

    def prepare(self) -> None:
        request = self._job.request
        if left_out := evaluation.left_out(self._mine, request, evaluation.check(request, self._mine)):
            told = f"{left_out} examples are left out: a system was trained on their inputs, or chosen by them."
            self._job.tell("seen", told, level="warn")
        if (lacking := evaluation.lacking(self._mine, request)) is not None:
            self._job.tell("lacking", f"The gate will not count for a promotion: {lacking}.", level="warn")

    def step(self) -> bool:
        request = self._job.request
        missing = [target for target in request.systems if not self._result(target).exists()]
        if missing:
            dataset = evaluation.check(request, self._mine)
            evaluation.enter_look(self._mine, self._job.id, request)
            target, folder = missing[0], self._job.folder
            run = evaluation.evaluate_target(self._mine, request, dataset, target, folder, _counter(self._job, target))
            partial = folder / "run.partial"
            partial.write_bytes(msgspec.json.encode(run))
            partial.replace(self._result(target))
        return len(missing) <= 1

    def finish(self) -> Finished[Evaluation]:
        mine, request, policy = self._mine, self._job.request, self._mine.catalog.gate_policy
        results = [msgspec.json.decode(self._result(target).read_bytes(), type=runs.Run) for target in request.systems]
        look = evaluation.enter_look(mine, self._job.id, request)  # the number that it was given before it asked
        left_out = evaluation.left_out(mine, request, dataset_rows.get(mine.database, request.dataset))
        subject = evaluation.candidate(mine, request)
        summary = evaluation.summarise(self._job.id, request, results, time.time(), policy, look, subject, left_out)
        if summary.gate is not None and (lacking := evaluation.lacking(mine, request)) is not None:
            rule = f"{summary.gate.rule} It does not count for a promotion as long as this is so: {lacking}."
            summary = msgspec.structs.replace(summary, gate=msgspec.structs.replace(summary.gate, rule=rule))
        return Finished(result=None, keep=lambda: evaluations.insert(mine.database, summary))

    def _result(self, target: str) -> Path:
        return self._job.folder / f"{evaluation.file_name(target)}.run.json"


class _CascadeRun(JobRun[CascadeResult]):
    """Asks the small and the large model, chooses a threshold, and makes the route."""

    def __init__(self, services: HasFlywheel, job: Job[CascadeRequest]) -> None:
        self._job = job
        self._mine = services.flywheel.of_job(job.row)
        self._mine.catalog.refresh()  # as above
        self._result: CascadeResult | None = None

    def step(self) -> bool:
        job = self._job
        self._result = cascade.build(self._mine, job.request, job.id, job.folder, lambda label: _counter(job, label))
        return True

    def finish(self) -> Finished[CascadeResult]:
        if self._result is None:  # this process has not built it: the answers are there
            self.step()
        assert self._result is not None
        mine, request, result = self._mine, self._job.request, self._result
        return Finished(result=result, keep=lambda: cascade.apply(mine, request, result, self._job.id))


def _grader(request: EvaluationRequest | CascadeRequest) -> JSON | None:
    return request.grader


def _check_grader(request: EvaluationRequest | CascadeRequest, services: FlywheelServices) -> None:
    """Refuse a grader that can never work: its formula or source is wrong, or there is no model to compare by."""
    if request.grader is not None:
        graders.check(request.grader, services.graders)


def _accept_evaluation(services: HasFlywheel, job: Job[EvaluationRequest]) -> Accepted[EvaluationRequest]:
    mine = services.flywheel.of_job(job.row)
    evaluation.check(job.request, mine)
    _check_grader(job.request, mine)
    return Accepted(request=job.request)


def _accept_cascade(services: HasFlywheel, job: Job[CascadeRequest]) -> Accepted[CascadeRequest]:
    mine = services.flywheel.of_job(job.row)
    cascade.check(job.request, mine)
    _check_grader(job.request, mine)
    return Accepted(request=job.request)


EVALUATION: Final = JobKind(
    name="evaluation",
    noun="evaluation",
    path="/v1/evaluations",
    prefix="eval",
    created="evaluation.created",
    create=Action.EVALUATION_CREATE,
    lane=LANE,
    request=EvaluationRequest,
    largest=LARGEST_BODY,
    progress=ItemsDone,
    result=Evaluation,
    accept=_accept_evaluation,
    grader=_grader,
    run=_EvaluationRun,
    results=evaluations.results,
)
CASCADE: Final = JobKind(
    name="cascade",
    noun="cascade",
    path="/v1/cascades",
    prefix="cascade",
    created="cascade.created",
    lane=LANE,
    request=CascadeRequest,
    largest=LARGEST_BODY,
    progress=ItemsDone,
    result=CascadeResult,
    create=Action.CASCADE_CREATE,
    control=Action.CASCADE_CONTROL,
    accept=_accept_cascade,
    grader=_grader,
    run=_CascadeRun,
)
