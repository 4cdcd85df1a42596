"""One turn of the loop from a plan: traffic, feedback, dataset, tuning, evaluation, promotion, cascade, traffic again.

A turn knows nothing of its task: questions, feedback and requests come in a `TurnPlan`. What a step is, and how one
that was interrupted goes on, is the loop's (`client.loop`).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bessemer.cli.demo.progress import ProgressLine
from bessemer.client import Client, calls
from bessemer.client.loop import ApplicationAnswer, Loop, LoopProgress, Question, Scoring, Tuned
from bessemer.core.datasets import Dataset
from bessemer.core.evaluations import CascadeResult, Evaluation
from bessemer.core.openai import FineTuningEvent
from bessemer.core.paging import ListQuery
from bessemer.core.routes import ConfidenceScore, Route
from bessemer.core.types import JSON, Frozen
from bessemer.core.wire import CascadeRule

GiveFeedback = Callable[[Question, ApplicationAnswer], Sequence[JSON]]
"""What people say about an answer: bodies of POST /v1/feedback without the inference id."""


class JobPlan(Frozen, frozen=True):
    """One fine-tuning job; it starts from the version of the job before it, the first one from the plan's model."""

    name: str
    method: JSON
    metadata: dict[str, str]
    supervised: bool = False
    """Train on demonstrations: the dataset's files end in the demonstrated answer."""
    from_base: bool = False
    """Start from the plan's model even when another job ran before."""


class Final(Frozen, frozen=True):
    """A system to ask at the end, and which questions."""

    name: str
    target: str
    """A route, model or version; `{tuned}` is the last tuned version, `{JOB}` that of the job of this name."""
    questions: tuple[Question, ...]
    cascade: bool | None = None
    """Ask only when the cascade is in force (True) or not (False); None: always."""


class CascadePlan(Frozen, frozen=True):
    """What the route becomes: as in POST /v1/cascades."""

    large: str
    rule: CascadeRule
    alpha: float
    delta: float
    score: ConfidenceScore = ConfidenceScore.CHOICE_MARGIN


class TurnPlan(Frozen, frozen=True):
    """Everything a turn asks for."""

    name: str
    seed: int
    route: str
    model: str
    """The small model that is tuned."""
    prompt: str
    questions: tuple[Question, ...]
    """Traffic, each in its split."""
    jobs: tuple[JobPlan, ...]
    scoring: Scoring
    gate_reference: str
    gate_margin: float
    cascade: CascadePlan | None
    """None: the tuned version takes the route."""
    finals: tuple[Final, ...]
    evaluated: tuple[str, ...]
    """Targets that the evaluation scores beside the tuned version."""
    require_feedback: bool = True
    """Train on judged requests alone; False: a grader judges the others too."""


class TurnResult(Frozen, frozen=True):
    """What a turn produced."""

    versions: dict[str, str]
    """Tuned version by job name."""
    jobs: dict[str, Tuned]
    events: dict[str, list[FineTuningEvent]]
    """Of each job, oldest first."""
    dataset: Dataset
    evaluation: Evaluation
    cascade: CascadeResult | None
    """None when there was none."""
    route: Route
    traffic: list[ApplicationAnswer]
    finals: dict[str, list[ApplicationAnswer]]
    seconds: dict[str, float]


class Turn:
    """Runs a plan against one server."""

    def __init__(
        self, plan: TurnPlan, feedback: GiveFeedback, client: Client, folder: Path, progress: ProgressLine
    ) -> None:
        self._plan, self._feedback, self._client, self._progress = plan, feedback, client, progress
        self._loop = Loop(client, plan.route, plan.scoring, folder, tell=self._told)

    def run(self) -> TurnResult:
        """Run every step that is not done yet. Raises LoopFailed when one does not work."""
        loop, plan = self._loop, self._plan
        traffic = self._ask("traffic", plan.questions, plan.route, {})
        asked = {question.id: question for question in plan.questions}
        loop.judge(traffic, lambda answer: self._feedback(asked[answer.question], answer))
        dataset = self._dataset(supervised=False)
        shown = self._dataset(supervised=True) if any(job.supervised for job in plan.jobs) else dataset
        jobs: dict[str, Tuned] = {}
        last = plan.model
        for job in plan.jobs:
            jobs[job.name] = loop.tune(
                shown if job.supervised else dataset,
                plan.model if job.from_base else last,
                job.method,
                metadata=job.metadata,
                seed=plan.seed,
                step=f"tuning ({job.name})",
            )
            last = jobs[job.name].version.id
        versions = {name: made.version.id for name, made in jobs.items()} | {"tuned": last}
        evaluation = loop.evaluate(
            dataset, last, plan.gate_reference, others=plan.evaluated, margin=plan.gate_margin, seed=plan.seed
        )
        cascade = self._promoted(dataset, last, evaluation)
        applied = cascade is not None and cascade.applied
        finals = {
            final.name: self._final(final, versions)
            for final in plan.finals
            if final.questions and final.cascade in (None, applied)
        }
        return TurnResult(
            versions=versions,
            jobs=jobs,
            events={name: self._events(made.job.id) for name, made in jobs.items()},
            dataset=dataset,
            evaluation=evaluation,
            cascade=cascade,
            route=self._client.send(calls.get_route(plan.route)),
            traffic=traffic,
            finals=finals,
            seconds=loop.seconds,
        )

    def _told(self, told: LoopProgress) -> None:
        if told.seconds is not None:
            self._progress.say(str(told))
            return
        if told.step != self._progress.name:
            self._progress.step(told.step)
        self._progress.notice(told.done, told.total, told.message)

    def _ask(
        self, step: str, questions: Sequence[Question], model: str, tags: Mapping[str, str]
    ) -> list[ApplicationAnswer]:
        return self._loop.ask(questions, model, step=step, tags=tags, temperature=0.0, concurrency=64)

    def _dataset(self, *, supervised: bool) -> Dataset:
        plan = self._plan
        return self._loop.collect(
            plan.prompt,
            name=plan.name + ("-demonstrations" if supervised else ""),
            supervised=supervised,
            require_feedback=plan.require_feedback or supervised,
            step="dataset of demonstrations" if supervised else "dataset",
        )

    def _promoted(self, dataset: Dataset, version: str, evaluation: Evaluation) -> CascadeResult | None:
        """A version that passed its gate becomes challenger, then champion, and the route a cascade that asks it first.

        Where there is no incumbent, the route is the version's.
        """
        gate, plan = evaluation.gate, self._plan
        if gate is None or not gate.passed:
            self._progress.say(f"not promoted: {'no gate' if gate is None else gate.rule}")
            return None
        for alias in ("challenger", "champion"):
            self._loop.promote(evaluation, alias)
        if plan.cascade is None:
            self._loop.serve(version)
            return None
        wanted = plan.cascade
        return self._loop.cascade(
            dataset,
            version,
            wanted.large,
            rule=wanted.rule,
            alpha=wanted.alpha,
            delta=wanted.delta,
            score=wanted.score,
        )

    def _events(self, job_id: str) -> list[FineTuningEvent]:
        return list(self._client.each(calls.FINE_TUNING.events(job_id, ListQuery(limit=100))))[::-1]

    def _final(self, final: Final, versions: Mapping[str, str]) -> list[ApplicationAnswer]:
        target = final.target.format_map(versions)
        return self._ask(f"final ({final.name})", final.questions, target, {"origin": "final"})
