"""The ladder as a kind of job: a step fits one rung or scores one system, so that a kill costs at most that."""

import time
from collections.abc import Callable
from typing import Final

import msgspec

from bessemer.core.access import Action
from bessemer.core.ladders import LadderResult
from bessemer.core.types import Frozen
from bessemer.core.wire import LadderRequest
from bessemer.flywheel import ladder, rungs, standing
from bessemer.flywheel.jobs import LANE, HasFlywheel
from bessemer.flywheel.ladder_choice import decide
from bessemer.flywheel.ladder_outcome import FittedRung, LadderPlan
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
    """Targets whose answers are all in their journals."""


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
        missing = [system for system in systems if system.target not in state.scored]
        if missing:
            ladder.enter_look(self._mine, self._job.id, plan)  # before the first of them is asked
            count = self._counter(missing[0].target, len(plan.optimise) + len(plan.calibrate))
            ladder.score(self._mine, plan, missing[0], self._job.folder, count)
            self._keep(msgspec.structs.replace(state, scored=(*state.scored, missing[0].target)))
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

    def _counter(self, target: str, total: int) -> Callable[[int, int], None]:
        def count(done: int, _: int) -> None:
            self._job.heed()
            if done == total or done * 10 // total != (done - 1) * 10 // total:
                at = LadderProgress(doing=target, done=done, total=total)
                self._job.tell(f"score-{target}-{done}", f"{target}: {done}/{total}", progress=at)

        return count

    def _decided(self, state: _State, plan: LadderPlan) -> LadderResult:
        systems = plan.systems(state.fitted)
        look = ladder.enter_look(self._mine, self._job.id, plan)  # the number that it was given before
        scored = [ladder.score(self._mine, plan, one, self._job.folder, lambda *_: None) for one in systems]
        versions = [standing.means(self._mine, one.target) for one in systems]
        return decide(plan, state.fitted, scored, versions, look, time.time() - state.began)

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
