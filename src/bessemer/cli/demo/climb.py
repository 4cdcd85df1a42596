"""What the demo does, step by step, as any application does it: serve, judge, climb the ladder, serve again, tune.

What a step is, and how one that was interrupted goes on, is the loop's (`client.loop`).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from bessemer.cli.demo import scenario
from bessemer.cli.demo.progress import ProgressLine
from bessemer.client import Client, calls
from bessemer.client.loop import ApplicationAnswer, Loop, LoopProgress, Question, Tuned
from bessemer.core.datasets import Dataset
from bessemer.core.evaluations import Evaluation
from bessemer.core.ladders import LadderResult, RungRow
from bessemer.core.openai import FineTuningEvent
from bessemer.core.paging import ListQuery
from bessemer.core.routes import Route
from bessemer.core.types import Frozen
from bessemer.core.wire import ReasonBody
from bessemer.engine.rungs.head import HeadKind
from bessemer.engine.rungs.kinds import KINDS, MAJORITY

INCUMBENT = "incumbent"
"""Kind of a ladder's last row."""
_QUICK = tuple(kind for kind in KINDS if kind not in set(HeadKind))
"""Kinds that are fitted here: all but those that read a network, which takes minutes."""
_NO_CLOCK = 86_400.0
"""Seconds of the ladder's fits at most: what comes out must not depend on how busy the machine is."""
Show = Callable[[LadderResult], object]
"""Told of the first ladder as soon as it is there."""


class Joined(Frozen, frozen=True):
    """What came of the small model."""

    tuned: Tuned
    events: list[FineTuningEvent]
    """Of the fine-tuning job, oldest first."""
    alone: list[ApplicationAnswer]
    """The held-out questions, by the tuned model alone."""
    ladder: LadderResult
    served: list[ApplicationAnswer]
    """The held-out questions, by the route that asks it; empty where none does."""


class Climbed(Frozen, frozen=True):
    """What came of it all."""

    dataset: Dataset
    traffic: list[ApplicationAnswer]
    """What the incumbent answered, the held-out questions among it."""
    ladder: LadderResult
    gate: Evaluation | None
    """Of the best rung against the incumbent; None: there is no rung."""
    served: list[ApplicationAnswer]
    """The held-out questions, by the route that the ladder made."""
    base: list[ApplicationAnswer]
    """Some held-out questions, by the small model before it is tuned."""
    joined: Joined | None
    """None: it was not tuned."""
    route: Route
    seconds: dict[str, float]


def best_rung(ladder: LadderResult) -> RungRow | None:
    """Return the rung of the highest score."""
    fitted = [row for row in ladder.rungs if row.kind not in (MAJORITY, INCUMBENT) and row.quality is not None]
    return max(fitted, key=lambda row: row.quality.value if row.quality else 0.0, default=None)


class Climb:
    """Runs the demo's case against one server."""

    def __init__(self, case: scenario.Case, client: Client, folder: Path, progress: ProgressLine, show: Show) -> None:
        self._case, self._client, self._progress, self._show = case, client, progress, show
        self._loop = Loop(client, scenario.ROUTE, scenario.SCORING, folder, tell=self._told)

    def run(self) -> Climbed:
        """Take every step that is not done yet. Raises LoopFailed when one does not work."""
        loop, case = self._loop, self._case
        # One after the other: rows keep the order of arrival, and what is learned from them depends on it.
        traffic = self._ask("traffic", case.questions, scenario.ROUTE, concurrency=1)
        asked = {question.id: question for question in case.questions}
        loop.judge(traffic, lambda answer: case.feedback(asked[answer.question], answer))
        dataset = loop.collect(scenario.PROMPT)
        ladder = self._ladder(dataset, "ladder")
        self._show(ladder)
        best = best_rung(ladder)
        gate = None if best is None or best.version is None else self._gated(dataset, best.version)
        served = self._ask("the ladder's route", case.held_out, scenario.ROUTE)
        base = self._ask("small model as it is", case.held_out[: case.scale.base], scenario.MODEL)
        tune = ladder.may_pay if case.scale.tune is None else case.scale.tune
        joined = self._join(dataset, ladder) if tune else None
        return Climbed(
            dataset=dataset,
            traffic=traffic,
            ladder=ladder,
            gate=gate,
            served=served,
            base=base,
            joined=joined,
            route=self._client.send(calls.get_route(scenario.ROUTE)),
            seconds=loop.seconds,
        )

    def _join(self, dataset: Dataset, ladder: LadderResult) -> Joined:
        """Tune the small model, and let it join the rungs; the ladder says whether that pays."""
        loop, case = self._loop, self._case
        tuned = loop.tune(
            dataset, scenario.MODEL, scenario.method(case.scale), metadata=scenario.OPTIONS, seed=case.seed
        )
        version = tuned.version.id
        alone = self._ask("small model, tuned", case.held_out, version)
        fitted = [row.version for row in ladder.rungs if row.version and row.kind not in (MAJORITY, INCUMBENT)]
        again = self._ladder(dataset, "ladder with the small model", [*fitted, version])
        if again.applied and (again.usd_per_1k or 0.0) >= (ladder.usd_per_1k or 0.0):
            self._undo(again)
        route = self._client.send(calls.get_route(scenario.ROUTE))
        asks_it = any(target.model == version for target in route.targets)
        return Joined(
            tuned=tuned,
            events=list(self._client.each(calls.FINE_TUNING.events(tuned.job.id, ListQuery(limit=100))))[::-1],
            alone=alone,
            ladder=again,
            served=self._ask("the last route", case.held_out, scenario.ROUTE) if asks_it else [],
        )

    def _ladder(self, dataset: Dataset, step: str, models: Sequence[str] = ()) -> LadderResult:
        """Make a ladder of all rungs that suit, or of those that are there and more `models`."""
        scale = self._case.scale
        return self._loop.ladder(
            dataset,
            models=models,
            rungs=(MAJORITY,) if models else _QUICK,
            incumbent=scenario.INCUMBENT,
            alpha=scale.alpha,
            seconds=_NO_CLOCK,
            seed=self._case.seed,
            step=step,
        )

    def _gated(self, dataset: Dataset, version: str) -> Evaluation:
        """Ask whether the best rung may serve alone; it becomes challenger, then champion, if it may."""
        scale = self._case.scale
        evaluation = self._loop.evaluate(
            dataset, version, scenario.INCUMBENT, margin=scale.gate_margin, seed=self._case.seed
        )
        if evaluation.gate is not None and evaluation.gate.passed:
            for alias in ("challenger", "champion"):
                self._loop.promote(evaluation, alias)
        return evaluation

    def _undo(self, again: LadderResult) -> None:
        """Roll the route back to the first ladder's: a later look at the items may spend less, and so keep less."""
        if self._client.send(calls.get_route(scenario.ROUTE)).guarantee == again.guarantee:
            self._client.send(calls.rollback_route(scenario.ROUTE, ReasonBody(reason="it is no cheaper")))
            self._progress.say("route: rolled back, as the one with the small model is no cheaper")

    def _ask(
        self, step: str, questions: Sequence[Question], model: str, concurrency: int = 64
    ) -> list[ApplicationAnswer]:
        return self._loop.ask(questions, model, step=step, temperature=0.0, concurrency=concurrency)

    def _told(self, told: LoopProgress) -> None:
        if told.seconds is not None:
            self._progress.say(str(told))
            return
        if told.step != self._progress.name:
            self._progress.step(told.step)
        self._progress.notice(told.done, told.total, told.message)
