"""Builds a plan and the means to score it from a labelled task: traffic, feedback, jobs, cascade, final questions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from bessemer.cli.demo import measure
from bessemer.cli.demo.config import toml
from bessemer.client.loop import ApplicationAnswer, Question, Scoring
from bessemer.core.datasets import Split
from bessemer.core.routes import ConfidenceScore
from bessemer.core.types import JSON, Frozen
from bessemer.evals import graders
from bessemer.evals.grader import GraderServices
from bessemer.evals.metrics import Terms
from bessemer.evals.truth import parse_label
from lab import product_lines, small_answers
from lab.tasks import NO, YES, Kind, Labelled, LabelledTask, grammar, place, split_of
from lab.turn import CascadePlan, Final, JobPlan, TurnPlan

SMALL, LARGE, ROUTE, PROMPT = "small", "recorded", "task", "task"
LABELS = (YES, NO)
BASE_ITEMS = {Kind.MATCHING: 600, Kind.ATTRIBUTES: 150, Kind.WRITING: 150}
"""Test questions that the base model is asked: enough to see where it stands. Free text takes it longer."""
_CHARACTERS_PER_TOKEN = 3
"""Fewer than answers in ASCII have on average: a bound on their tokens that leaves room."""
_SHARES = {Split.SELECTION: 0.08, Split.CALIBRATION: 0.1, Split.HOLDOUT: 0.02}
_SHARES_GRADED = {Split.SELECTION: 0.06, Split.CALIBRATION: 0.18, Split.HOLDOUT: 0.02}
"""Answers that are neither right nor wrong say less each: with 0.1, one OA-Mine run of two had no threshold to show."""
_GENTLE = 0.35
"""Of the learning rate, for reinforcement of JSON answers: docs/decisions/010-credit-by-field.md."""
_MENTIONS = {"bessemer.mention_replacement": "0.25", "bessemer.mention_group": "category"}
_FEW = 500
_SHARES_OF_FEW = {Split.SELECTION: 0.15, Split.CALIBRATION: 0.2, Split.HOLDOUT: 0.15}
"""With fewer training requests than that, so that no split is left empty."""


class TaskOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One task as a flag line or a TOML section gives it; unknown keys are refused."""

    train: str | None = None
    test: str | None = None
    recorded: str | None = None
    recorded_name: str = "recorded model"
    recorded_price: str | None = None
    recorded_tokens: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Published mean of tokens per request, in and out; None: counted with the small model's tokenizer."""
    published: tuple[JSON, ...] = ()
    """Rows to print beside: `{name, f1}`."""
    generator: str | None = None
    fields: Literal["all", "titles"] = "all"
    """`all`, or `titles`: the title alone, in the prompt that the recorded model saw."""
    traffic: Annotated[int, msgspec.Meta(ge=1)] = 4000
    """Training requests at most."""
    train_seconds: Annotated[int, msgspec.Meta(ge=3)] = 600
    """Training time in seconds at most, all jobs together."""
    alpha: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.03
    """Largest share of wrong answers among those the small model keeps."""
    score: ConfidenceScore | None = None
    """What the small model's confidence is made of; None: `choice_margin` for labels, else `field_probability`."""
    model: str = "smollm2-135m"
    """The small model: a key of `flywheel.WEIGHTS`."""


class TaskCase(Frozen, frozen=True):
    """A plan, what people would say, and what is right."""

    plan: TurnPlan
    options: TaskOptions
    kind: Kind
    labelled: dict[str, Labelled]
    """By question id; the test's are read by the final score alone."""
    covered: frozenset[str]
    """Test questions that the recorded model answered."""

    @property
    def learned(self) -> tuple[Labelled, ...]:
        """The training items that nothing is chosen or calibrated on."""
        return tuple(self.labelled[q.id] for q in self.plan.questions if q.split == Split.TRAIN.value)

    def feedback(self, question: Question, answer: ApplicationAnswer) -> Sequence[JSON]:
        """Verdicts (right or wrong only) for matching, corrections otherwise; from the training labels."""
        labelled = self.labelled[question.id]
        common = {"source": "human", "author": "training labels"}
        if self.kind is Kind.MATCHING:
            right = parse_label(answer.text, LABELS) == labelled.answer
            return [{"metric": "verdict", "value": right, **common}]
        return [{"metric": "demonstration", "value": labelled.answer, **common}] if labelled.answer else []

    def scorer(self, answers: Sequence[ApplicationAnswer]) -> measure.Scorer:
        """Return the metric of the task; a grader's rewards are computed here, once."""
        if self.kind is Kind.MATCHING:
            return measure.label_scorer({key: row.answer for key, row in self.labelled.items()}, LABELS, YES)
        if self.kind is Kind.ATTRIBUTES:
            return small_answers.attribute_scorer({key: row.target or {} for key, row in self.labelled.items()})
        return _reward_scorer(answers, self.labelled)


def _reward_scorer(answers: Sequence[ApplicationAnswer], labelled: Mapping[str, Labelled]) -> measure.Scorer:
    pairs = {(answer.question, answer.text or "") for answer in answers}
    order = sorted(pairs)
    with graders.build(product_lines.grader(), GraderServices(unfenced=True)) as grader:  # our own code: on any kernel
        items = [(text, {"input": labelled[question].item.input}) for question, text in order]
        rewards = dict(zip(order, graders.grade_batch(grader, items), strict=True))

    def score(question: str, text: str | None) -> Terms | None:
        reward = rewards[question, text or ""].reward
        return None if reward is None else Terms(reward, 1.0)

    return score


def build(task: LabelledTask, options: TaskOptions, seed: int, limit: int | None) -> TaskCase:
    """Return the case of a task. `limit` bounds traffic and test questions, for a smoke run."""
    salt = f"{task.name}-{seed}"
    traffic = _traffic(task, options, salt, limit)
    test = task.test[:limit]
    labelled = {question.id: row for question, row in traffic}
    finals = [(Question(id=f"test-{i}", input=row.item.input, split="test"), row) for i, row in enumerate(test)]
    labelled |= {question.id: row for question, row in finals}
    recorded = task.recorded
    covered = frozenset(q.id for q, row in finals if recorded is not None and row.item.id in recorded.answers)
    questions = tuple(question for question, _ in finals)
    plan = TurnPlan(
        name=task.name,
        seed=seed,
        route=ROUTE,
        model=SMALL,
        prompt=PROMPT,
        questions=tuple(question for question, _ in traffic),
        jobs=_jobs(task, options),
        scoring=_scoring(task),
        gate_reference=SMALL,
        gate_margin=0.0,
        cascade=_cascade(task, options) if covered else None,
        finals=_finals(task, questions, covered),
        evaluated=(SMALL,),
        require_feedback=task.kind is not Kind.WRITING,
    )
    return TaskCase(plan=plan, options=options, kind=task.kind, labelled=labelled, covered=covered)


def _traffic(task: LabelledTask, options: TaskOptions, salt: str, limit: int | None) -> list[tuple[Question, Labelled]]:
    """Training items in an order of their own for each seed, each in the split that its hash gives."""
    rows = sorted(task.train, key=lambda row: place(row, salt + "-order"))[: limit or options.traffic]
    usual = _SHARES_GRADED if task.kind is Kind.ATTRIBUTES else _SHARES
    shares = usual if len(rows) >= _FEW else _SHARES_OF_FEW
    return [
        (Question(id=f"train-{index}", input=row.item.input, split=split_of(row, salt, shares).value), row)
        for index, row in enumerate(rows)
    ]


def _scoring(task: LabelledTask) -> Scoring:
    if task.kind is Kind.MATCHING:
        return Scoring(metric="f1", labels=LABELS, positive=YES)
    if task.kind is Kind.ATTRIBUTES:
        return Scoring(metric="attributes")
    return Scoring(metric="reward", grader=product_lines.grader())


def _jobs(task: LabelledTask, options: TaskOptions) -> tuple[JobPlan, ...]:
    common = {"bessemer.prompt": PROMPT}
    if task.kind is Kind.MATCHING:
        grader = {"type": "feedback", "name": "verdicts", "labels": list(LABELS)}
        choice = {"bessemer.metric": "f1", "bessemer.positive": YES, "bessemer.max_seconds": str(options.train_seconds)}
        return (JobPlan(name="reinforcement", method=_reinforcement(grader), metadata=common | choice),)
    if task.kind is Kind.ATTRIBUTES:
        grader = {"type": "attributes", "name": "micro-f1", "reference": "{{item.demonstration}}"}
        first = options.train_seconds // 2
    else:
        grader = product_lines.grader()
        first = options.train_seconds // 3
    attributes = task.kind is Kind.ATTRIBUTES
    times = ({"bessemer.max_seconds": str(seconds)} for seconds in (first, options.train_seconds - first))
    supervised, reinforced = (common | seconds for seconds in times)
    if attributes:
        supervised |= _MENTIONS
        reinforced |= {"bessemer.field_threshold": "auto", "bessemer.credit": "field"}
    method = _reinforcement(grader, _GENTLE if attributes else None)
    return (
        JobPlan(name="supervised", method={"type": "supervised"}, metadata=supervised, supervised=True),
        JobPlan(name="reinforcement", method=method, metadata=reinforced),
    )


def _reinforcement(grader: JSON, learning_rate_multiplier: float | None = None) -> JSON:
    hyperparameters = {"learning_rate_multiplier": learning_rate_multiplier or "auto"}
    return {"type": "reinforcement", "reinforcement": {"grader": grader, "hyperparameters": hyperparameters}}


def _cascade(task: LabelledTask, options: TaskOptions) -> CascadePlan:
    usual = ConfidenceScore.CHOICE_MARGIN if task.kind is Kind.MATCHING else ConfidenceScore.FIELD_PROBABILITY
    return CascadePlan(large=LARGE, rule="error", alpha=options.alpha, delta=0.1, score=options.score or usual)


def _finals(task: LabelledTask, questions: tuple[Question, ...], covered: frozenset[str]) -> tuple[Final, ...]:
    """The tuned model's answers on what the cascade is asked come from the cascade: its first call is recorded."""
    known = tuple(question for question in questions if question.id in covered)
    rest = tuple(question for question in questions if question.id not in covered)
    finals = [Final(name="base", target=SMALL, questions=questions[: BASE_ITEMS[task.kind]])]
    if task.kind is not Kind.MATCHING:
        finals.append(Final(name="supervised", target="{supervised}", questions=questions))
    finals.append(Final(name="incumbent", target=LARGE, questions=known))
    finals.append(Final(name="cascade", target=ROUTE, questions=known, cascade=True))
    finals.append(Final(name="tuned", target="{tuned}", questions=rest, cascade=True))
    finals.append(Final(name="tuned", target="{tuned}", questions=questions, cascade=False))
    return tuple(finals)


def _most_tokens(answer: str) -> int:
    plain = sum(character.isascii() for character in answer)
    return plain // _CHARACTERS_PER_TOKEN + len(answer.encode()) - plain


def configuration(
    task: LabelledTask, learned: Sequence[Labelled], options: TaskOptions, weights: Path, small_price: str
) -> str:
    """Return the registry's TOML: the small model, its prompt, and the recorded model with its own.

    `learned`: the items that the rules of answers are made of.
    """
    prompt: dict[str, object] = {"user": task.prompt, "system": ""}
    if task.kind is Kind.MATCHING:
        prompt["choices"] = LABELS
    elif task.kind is Kind.ATTRIBUTES:
        longest = max((_most_tokens(row.answer) for row in learned), default=0)
        prompt |= {"grammar": grammar(learned), "max_tokens": 32 + longest}
    else:
        prompt["max_tokens"] = 48
    small: dict[str, object] = {
        "provider": "local",
        "path": str(weights.resolve()),
        "price": small_price,
        "prompt": PROMPT,
    }
    models: dict[str, dict[str, object]] = {SMALL: small}
    prompts = {PROMPT: prompt}
    if task.recorded is not None:
        recorded = task.recorded
        prompts["as-recorded"] = {"user": recorded.prompt}
        models[LARGE] = {
            "provider": "recorded",
            "path": str(recorded.path.resolve()),
            "price": options.recorded_price,
            "prompt": "as-recorded",
            "recorded": {
                "prompt_field": recorded.prompt_field,
                "answer_field": recorded.answer_field,
                "key_field": recorded.key_field,
                "key": "input.id" if recorded.key_field else None,
                "tokenizer": SMALL,
                "mean_total_tokens": options.recorded_tokens,
            },
        }
    sections: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
        "models": models,
        "prompts": prompts,
        "routes": {ROUTE: {"targets": [SMALL]}},
    }
    # The gate of a run stands in for one on all of the traffic: a fiftieth of it is few items.
    return toml(sections) + "\n[gate]\nalpha = 0.2\nmin_items = 5\nmin_discordant = 0\n"
