"""The ladder as a kind of job: a step fits one rung or scores one system, so that a kill costs at most that."""

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from bessemer.core.access import Action
from bessemer.core.ladders import HandedOver, LadderResult
from bessemer.core.types import Frozen
from bessemer.core.wire import LadderRequest
from bessemer.flywheel import ladder, ladder_models, rungs, standing
from bessemer.flywheel.jobs import LANE, HasFlywheel
from bessemer.flywheel.ladder_choice import decide
from bessemer.flywheel.ladder_outcome import MODEL, FittedRung, LadderPlan, LadderSystem, ScoredSystem
from bessemer.jobs.kinds import Accepted, Finished, Job, JobKind, JobRun


class LadderProgress(Frozen, frozen=True):
    """What a ladder is at."""

    doing: str
    done: int
    total: int


class _State(Frozen, frozen=True):
    """What has been done, in the job's folder."""

    began: float
    fitted: tuple[FittedRung, ...] = ()
    scored: tuple[str, ...] = ()
    """Targets whose answers to the selection items are in their journals."""
    tested: tuple[str, ...] = ()
    """The same of the calibration items."""
    handed_over: HandedOver | None = None
    judged: bool = False
    """What is handed over, and whether a language model pays for it, has been seen."""


class _LadderRun(JobRun[LadderResult]):
    """Fits, scores, decides."""

    def __init__(self, services: HasFlywheel, job: Job[LadderRequest]) -> None:
        self._job = job
        self._mine = services.flywheel.of_job(job.row)
        self._mine.catalog.refresh()  # what the API process changed before it queued the job
        self._path = job.folder / "ladder.json"
        self._plan: LadderPlan | None = None
        self._result: LadderResult | None = None

    def prepare(self) -> None:
        if not self._path.exists():
            self._keep(_State(began=time.time()))

    def step(self) -> bool:
        state, plan = self._state(), self._planned()
        known = {one.kind for one in state.fitted}
        waiting = [kind for kind in plan.kinds if kind not in known]
        if waiting:
            self._keep(msgspec.structs.replace(state, fitted=(*state.fitted, self._fit(waiting[0], state))))
            return False
        systems = plan.systems(state.fitted)
        if missing := [system for system in systems if system.target not in state.scored]:
            self._score(plan, missing[0], test=False)
            self._keep(msgspec.structs.replace(state, scored=(*state.scored, missing[0].target)))
            return False
        if not state.judged:
            left = ladder_models.joined(plan, *self._scored(state, plan, tested=()))
            self._told(left)
            self._keep(msgspec.structs.replace(state, handed_over=left, judged=True))
            return False
        untested = [system for system in self._tested(state, plan) if system.target not in state.tested]
        if untested:
            ladder.enter_look(self._mine, self._job.id, plan)  # before the first of them is asked
            self._score(plan, untested[0], test=True)
            self._keep(msgspec.structs.replace(state, tested=(*state.tested, untested[0].target)))
            return False
        if state.handed_over is None:
            left = self._untuned(state, plan)
            self._told(left)
            self._keep(msgspec.structs.replace(state, handed_over=left))
            return False
        self._result = self._decided(state, plan)
        return True

    def finish(self) -> Finished[LadderResult]:
        if self._result is None:  # this process has not decided: the answers are there
            self._result = self._decided(self._state(), self._planned())
        mine, request, result = self._mine, self._job.request, self._result
        self._job.tell("result", result.summary)
        return Finished(result=result, keep=lambda: ladder.apply(mine, request, result, self._job.id))

    def _planned(self) -> LadderPlan:
        if self._plan is None:
            self._plan = ladder.plan(self._mine, self._job.request)
            if self._plan.left_out:
                told = f"{self._plan.left_out} examples are left out: a system was trained on their inputs."
                self._job.tell("seen", told, level="warn")
            for place, leak in enumerate(rungs.leaks_of(self._plan)):
                self._job.tell(f"leak-{place}", leak, level="warn")
        return self._plan

    def _fit(self, kind: str, state: _State) -> FittedRung:
        self._job.heed()
        plan, left = self._planned(), self._job.request.seconds - (time.time() - state.began)
        made = rungs.fit_one(self._mine, plan, kind, self._job.id, left, self._job.folder, state.fitted)
        total = len(plan.kinds)
        told = f"{kind}: {made.skipped}" if made.skipped else f"{kind}: fitted in {made.seconds:.1f} s, {made.version}"
        at = LadderProgress(doing="fit", done=len(state.fitted) + 1, total=total)
        self._job.tell(f"fit-{kind}", told, progress=at)
        return made

    def _score(self, plan: LadderPlan, system: LadderSystem, *, test: bool) -> None:
        count = self._counter(system.target, len(plan.optimise) + (len(plan.calibrate) if test else 0))
        ladder.score(self._mine, plan, system, self._job.folder, count, test=test)

    def _untuned(self, state: _State, plan: LadderPlan) -> HandedOver:
        """Say what the route hands over, and what tuning a language model for it may save."""
        scored, versions = self._scored(state, plan, tested=())
        left, some = ladder_models.by_route(plan, scored, versions, self._decided(state, plan).steps)
        incumbent = ladder_models.usd_per_1k(scored[-1].optimise)
        for name in ladder_models.tunable(self._mine, plan):
            count = self._counter(name, len(some))
            asked = rungs.score_all(
                self._mine, name, some, plan.metric, self._job.folder, count, {}, ladder_models.AT_ONCE
            )
            worth = ladder_models.untuned(plan, name, asked, left, incumbent)
            left = msgspec.structs.replace(left, models=(*left.models, worth))
        return left

    def _told(self, left: HandedOver | None) -> None:
        for one in () if left is None else left.models:
            self._job.tell(f"worth-{one.model}", f"{one.model} {one.reason}")

    def _scored(
        self, state: _State, plan: LadderPlan, tested: Sequence[LadderSystem]
    ) -> tuple[list[ScoredSystem], list[str]]:
        """Return all systems with their answers, those to the calibration items of the `tested`, and their versions."""
        systems = plan.systems(state.fitted)
        known = [
            ladder.score(self._mine, plan, one, self._job.folder, lambda *_: None, test=one in tested)
            for one in systems
        ]
        return known, [standing.means(self._mine, one.target) for one in systems]

    def _tested(self, state: _State, plan: LadderPlan) -> list[LadderSystem]:
        """Return who is asked the calibration items: of language models those that pay; nobody where none does and
        the route has a promise on these items already."""
        systems, left = plan.systems(state.fitted), state.handed_over
        dropped = set() if left is None else {one.model for one in left.models if one.pays is False}
        joined = {system.target for system in systems if system.kind == MODEL}
        if joined and joined <= dropped and ladder.promised(self._mine, plan):
            return []
        return [system for system in systems if system.target not in dropped]

    def _counter(self, target: str, total: int) -> Callable[[int, int], None]:
        def count(done: int, _: int) -> None:
            self._job.heed()
            if done == total or done * 10 // total != (done - 1) * 10 // total:
                at = LadderProgress(doing=target, done=done, total=total)
                self._job.tell(f"score-{target}-{done}", f"{target}: {done}/{total}", progress=at)

        return count

    def _decided(self, state: _State, plan: LadderPlan) -> LadderResult:
        tested = self._tested(state, plan)
        look = ladder.enter_look(self._mine, self._job.id, plan) if tested else None  # the number given before
        scored, versions = self._scored(state, plan, tested)
        return decide(plan, state.fitted, scored, versions, look, time.time() - state.began, state.handed_over)

    def _state(self) -> _State:
        return msgspec.json.decode(self._path.read_bytes(), type=_State)

    def _keep(self, state: _State) -> None:
        partial = self._path.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(state))
        partial.replace(self._path)


def _accept(services: HasFlywheel, job: Job[LadderRequest]) -> Accepted[LadderRequest]:
    ladder.check(job.request, services.flywheel.of_job(job.row))
    return Accepted(request=job.request)


LADDER: Final = JobKind(
    name="ladder",
    noun="ladder",
    path="/v1/ladders",
    prefix="ladder",
    created="ladder.created",
    create=Action.CASCADE_CREATE,
    control=Action.CASCADE_CONTROL,
    lane=LANE,
    request=LadderRequest,
    progress=LadderProgress,
    result=LadderResult,
    accept=_accept,
    run=_LadderRun,
)
