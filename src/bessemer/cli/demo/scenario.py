"""The demo's case: which of two shops' offers are the same article, answered so far by a simulated expert."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from bessemer.cli.demo import expert, offers
from bessemer.cli.demo.config import toml
from bessemer.client.loop import ApplicationAnswer, Question, Scoring
from bessemer.core.datasets import Split
from bessemer.core.models import Prompt
from bessemer.core.template import render_messages
from bessemer.core.types import JSON, Frozen
from bessemer.evals.truth import parse_label

ROUTE = "record-matching"
MODEL = "smollm2-135m"
METER = "aws-c7a-large"
"""Price of the small model: measured seconds of this machine at the hourly price of a comparable instance."""
INCUMBENT = "simulated-expert"
LIST_PRICE = "openai-gpt-4o-mini"
"""Price of the incumbent: what a user's first choice would cost, one of the lowest list prices there are."""
PROMPT = "match"
LABELS = (offers.YES, offers.NO)
SCORING = Scoring(metric="f1", labels=LABELS, positive=offers.YES)
RANK, BATCH, RATE = 32, 8, 1.5
"""Of the adapter; rows of a step; multiple of the usual learning rate: the run is short."""
DIFFERENCE = "- {{only(input.left.title, input.right.title)}}\n+ {{only(input.right.title, input.left.title)}}"
"""The small model's prompt: what each title has alone."""
RULES = (
    "Two shops list one offer each. Decide whether both offers are the very same article. Model number, size, "
    "generation, number of pieces and included accessories must agree; spelling, units and order may differ. "
    "Answer Yes or No.\n"
    "A: {{input.left.title}} | {{input.left.brand}}\nB: {{input.right.title}} | {{input.right.brand}}"
)
"""The incumbent's prompt; the price tells nothing about identity."""


class Scale(Frozen, frozen=True):
    """How much of everything: requests per split and passes over the training rows. Nothing is bounded by the clock."""

    train: int = 960
    selection: int = 180
    calibration: int = 540
    holdout: int = 600
    base: int = 40
    """Held-out questions that the small model is asked before it is tuned: enough to see where it stands."""
    passes: int = 1
    gate_margin: float = 0.1
    """Loss of F1 against the incumbent with which a rung is still let serve alone."""
    alpha: float = 0.02
    """Loss of F1 against the incumbent that the route's certificate allows."""
    tune: bool | None = None
    """Tune the small model; None: where the ladder says that it may pay."""

    @classmethod
    def of(cls, *, smoke: bool, ladder_only: bool = False) -> Self:
        """Return the full scale, or a tenth of its requests; every step is taken then, to see that it works."""
        full = cls(tune=False if ladder_only else None)
        if not smoke:
            return full
        counts = {split.value: count // 10 for split, count in full.counts}
        return cls(
            **counts, base=20, gate_margin=0.5, alpha=0.5, tune=not ladder_only
        )  # a handful of items cannot show more

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
    """Traffic, the labels that stand in for people, and what the simulated expert says to each of its prompts."""

    seed: int
    scale: Scale
    questions: tuple[Question, ...]
    """Traffic, each in its split."""
    truth: dict[str, str]
    expert: dict[str, str]

    @property
    def held_out(self) -> tuple[Question, ...]:
        """The questions that measure, and neither teach nor choose."""
        return tuple(question for question in self.questions if question.split == Split.HOLDOUT)

    def feedback(self, question: Question, answer: ApplicationAnswer) -> Sequence[JSON]:
        """A person's verdict: right or wrong, and nothing else."""
        right = parse_label(answer.text, LABELS) == self.truth[question.id]
        return [{"metric": "verdict", "value": right, "source": "human", "author": "demo (simulated)"}]


def build(seed: int, scale: Scale) -> Case:
    """Return the demo's case for a seed."""
    pairs = iter(offers.generate(sum(count for _, count in scale.counts), seed))
    prompt = Prompt(name=INCUMBENT, user=RULES)
    questions: list[Question] = []
    truth: dict[str, str] = {}
    said: dict[str, str] = {}
    for split, count in scale.counts:
        for index in range(count):
            pair = next(pairs)
            question = Question(id=f"{split.value}-{index}", input=pair.input, split=split.value)
            questions.append(question)
            truth[question.id] = pair.answer
            said[render_messages(prompt, pair.input)[-1]["content"]] = expert.verdict(pair, seed)
    return Case(seed=seed, scale=scale, questions=tuple(questions), truth=truth, expert=said)


def method(scale: Scale) -> JSON:
    """Return how the small model learns: from the expected reward of both answers, by people's verdicts."""
    hyperparameters: JSON = {
        "n_epochs": scale.passes,
        "batch_size": BATCH,
        "learning_rate_multiplier": RATE,
        "eval_interval": scale.train * scale.passes // BATCH,
    }
    grader = {"type": "feedback", "name": "verdicts", "labels": list(LABELS)}
    return {"type": "reinforcement", "reinforcement": {"grader": grader, "hyperparameters": hyperparameters}}


OPTIONS = {
    "bessemer.rank": str(RANK),
    "bessemer.prompt": PROMPT,
    "bessemer.metric": "f1",
    "bessemer.positive": offers.YES,
}
"""Of the fine-tuning job."""


def configuration(weights: Path, expert_url: str, scale: Scale) -> str:
    """Return the registry's TOML for the demo: the small model, and the simulated expert behind HTTP as the incumbent.

    The gate's policy is the default but for a run on a handful of items.
    """
    small = {"provider": "local", "path": str(weights.resolve()), "price": METER, "prompt": PROMPT}
    large = {"provider": "openai", "base_url": expert_url, "price": LIST_PRICE, "prompt": INCUMBENT}
    return toml(
        {
            "models": {MODEL: small, INCUMBENT: large},
            "prompts": {
                PROMPT: {"user": DIFFERENCE, "system": "", "choices": LABELS},
                INCUMBENT: {"user": RULES},
            },
            "routes": {ROUTE: {"targets": [INCUMBENT]}},
        }
    ) + "".join(
        (
            "\n[gate]\n",
            f"max_margin = {max(scale.gate_margin, scale.alpha)}\n",
            f"min_items = {min(50, scale.holdout)}\n",
        )
    )
