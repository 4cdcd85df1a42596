"""The demo's case: which of two shops' offers are the same article, answered so far by a ten-shot incumbent."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from bessemer.cli.demo import offers
from bessemer.cli.demo.application import Answer, Question
from bessemer.cli.demo.config import toml
from bessemer.cli.demo.turn import Final, JobPlan, Plan
from bessemer.core.types import JSON, Frozen, Split
from bessemer.evals.truth import parse_label

ROUTE = "record-matching"
MODEL = "smollm2-135m"
METER = "aws-c7a-large"
"""Price of every model here: measured seconds of this machine at the hourly price of a comparable instance."""
INCUMBENT = "incumbent-ten-shot"
PROMPT = "match"
LABELS = (offers.YES, offers.NO)
METRIC: JSON = {"metric": "f1", "labels": list(LABELS), "positive": offers.YES}
_SHOTS_SEED = 1_000_003
_FIELDS = ("title", "brand")
"""What the incumbent's prompt shows; the price tells nothing about identity."""
DIFFERENCE = (
    "{{common(input.left.title, input.right.title)}}\n- {{only(input.left.title, input.right.title)}}\n"
    "+ {{only(input.right.title, input.left.title)}}\nSame?"
)
"""The small model's prompt: what the titles share, then what each has alone."""


class Scale(Frozen, frozen=True):
    """How much of everything: requests per split and the longest training time in seconds."""

    train: int = 1500
    selection: int = 160
    calibration: int = 240
    holdout: int = 400
    train_seconds: int = 345
    gate_margin: float = 0.02
    """Loss of F1 against the incumbent that still counts as not worse."""

    @classmethod
    def of(cls, train_seconds: int | None, *, smoke: bool) -> Self:
        """Return the full scale, or a tenth of its requests, with another training time if one is given."""
        full = cls()
        counts = {split.value: count // 10 if smoke else count for split, count in full.counts}
        margin = 0.5 if smoke else full.gate_margin  # a handful of items cannot show more
        return cls(**counts, train_seconds=train_seconds or full.train_seconds, gate_margin=margin)

    @property
    def counts(self) -> tuple[tuple[Split, int], ...]:
        """Requests per split."""
        return (
            (Split.TRAIN, self.train),
            (Split.SELECTION, self.selection),
            (Split.CALIBRATION, self.calibration),
            (Split.HOLDOUT, self.holdout),
        )


class Case(Frozen, frozen=True):
    """The plan and the labels that stand in for people."""

    plan: Plan
    truth: dict[str, str]

    def feedback(self, question: Question, answer: Answer) -> Sequence[JSON]:
        """A person's verdict: right or wrong, and nothing else."""
        right = parse_label(answer.text, LABELS) == self.truth[question.id]
        return [{"metric": "verdict", "value": right, "source": "human", "author": "demo (simulated)"}]


def build(seed: int, scale: Scale) -> Case:
    """Return the demo's plan for a seed."""
    pairs = iter(offers.generate(sum(count for _, count in scale.counts), seed))
    questions: list[Question] = []
    truth: dict[str, str] = {}
    for split, count in scale.counts:
        for index in range(count):
            pair = next(pairs)
            question = Question(id=f"{split.value}-{index}", input=pair.input, split=split.value)
            questions.append(question)
            truth[question.id] = pair.answer
    held_out = tuple(question for question in questions if question.split == Split.HOLDOUT)
    plan = Plan(
        name="offers",
        seed=seed,
        route=ROUTE,
        model=MODEL,
        prompt=PROMPT,
        questions=tuple(questions),
        jobs=(_job(scale),),
        metric=METRIC,
        gate_reference=INCUMBENT,
        gate_margin=scale.gate_margin,
        cascade={"large": INCUMBENT, "rule": "loss", "alpha": 0.02, "delta": 0.1},
        # Both are asked in the same way, one after the other: seconds measured in another pass do not compare.
        finals=(
            Final(name="incumbent", target=INCUMBENT, questions=held_out),
            Final(name="new route", target=ROUTE, questions=held_out),
        ),
        evaluated=(MODEL, INCUMBENT),
    )
    return Case(plan=plan, truth=truth)


def _job(scale: Scale) -> JobPlan:
    grader = {"type": "feedback", "name": "verdicts", "labels": list(LABELS)}
    return JobPlan(
        name="reinforcement",
        method={"type": "reinforcement", "reinforcement": {"grader": grader}},
        metadata={
            "bessemer.max_seconds": str(scale.train_seconds),
            "bessemer.prompt": PROMPT,
            "bessemer.metric": "f1",
            "bessemer.positive": offers.YES,
        },
    )


def configuration(weights: Path, seed: int, scale: Scale) -> str:
    """Return the registry's TOML for the demo: the small model, and itself with a long prompt as the incumbent.

    The gate's policy is the default but for a run on a handful of items.
    """
    path = str(weights.resolve())
    local = {"provider": "local", "path": path}
    return toml(
        {
            "models": {
                MODEL: {**local, "price": METER, "prompt": PROMPT},
                INCUMBENT: {**local, "price": METER, "prompt": "match-ten-shot", "context_tokens": 4096},
            },
            "prompts": {
                PROMPT: {"user": DIFFERENCE, "system": "", "choices": LABELS},
                "match-ten-shot": {"user": ten_shot(seed), "system": "", "choices": LABELS},
            },
            "routes": {ROUTE: {"targets": [INCUMBENT]}},
        }
    ) + "".join(
        ("\n[gate]\n", f"max_margin = {max(0.05, scale.gate_margin)}\n", f"min_items = {min(50, scale.holdout)}\n")
    )


def ten_shot(seed: int) -> str:
    """Return the incumbent's prompt: the rules in words and ten solved examples of products that occur nowhere else."""
    solved = offers.generate(200, _SHOTS_SEED + seed)
    matches = [pair for pair in solved if pair.answer == offers.YES][:5]
    others = [pair for pair in solved if pair.hard][:5]
    shots = [shot for two in zip(matches, others, strict=True) for shot in two]
    rules = (
        "Two shops list one offer each. Decide whether both offers are the very same article. Model number, size, "
        "generation, number of pieces and included accessories must agree; spelling, units and order may differ. "
        "Answer Yes or No."
    )
    examples = "\n\n".join(f"{_solved(pair.input)} {pair.answer}" for pair in shots)
    return f"{rules}\n\n{examples}\n\n{_question()}"


def _question() -> str:
    sides = ("left", "A"), ("right", "B")
    lines = [f"{mark}: " + " | ".join(f"{{{{input.{side}.{field}}}}}" for field in _FIELDS) for side, mark in sides]
    return "\n".join([*lines, "Same article?"])


def _solved(record: JSON) -> str:
    sides = ("left", "A"), ("right", "B")
    lines = [f"{mark}: " + " | ".join(record[side][field] for field in _FIELDS) for side, mark in sides]
    return "\n".join([*lines, "Same article?"])
