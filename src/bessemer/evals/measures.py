"""Metrics of evaluation runs: each scores one output against what is known of its example, as terms.

None is unscorable: the truth is not known, or the grader gave no reward. An output that is no label or no JSON is
scored, as wrong.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from bessemer.core.types import Example, as_json
from bessemer.evals.grader import Grader
from bessemer.evals.metrics import Terms, attribute_counts, label_terms, mean_terms, parse_attributes
from bessemer.evals.truth import parse_label, truth


class Metric(ABC):
    """A named metric: Σ numerator / Σ denominator of the terms it gives."""

    name: str

    @abstractmethod
    async def score(self, output: str, example: Example) -> Terms | None:
        """Return the terms of one output, None when it cannot be scored."""


def known_truth(example: Example, labels: Sequence[str] = ()) -> str | None:
    """Return the right answer to an example when its feedback settles it."""
    return truth(example.answer, example.verdict, example.demonstration, labels)


class LabelF1(Metric):
    """F1 of a positive label."""

    def __init__(self, labels: Sequence[str], positive: str) -> None:
        if positive not in labels:
            raise ValueError(f"the positive label {positive!r} is not one of {list(labels)}")
        self.name = f"F1 of {positive!r}"
        self._labels, self._positive = tuple(labels), positive

    async def score(self, output: str, example: Example) -> Terms | None:
        """Compare the parsed label with the truth."""
        actual = known_truth(example, self._labels)
        return None if actual is None else label_terms(parse_label(output, self._labels), actual, self._positive)


class LabelAccuracy(Metric):
    """Share of right labels."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.name = "accuracy"
        self._labels = tuple(labels)

    async def score(self, output: str, example: Example) -> Terms | None:
        """1 when the parsed label is the truth, else 0."""
        actual = known_truth(example, self._labels)
        return None if actual is None else mean_terms(float(parse_label(output, self._labels) == actual))


class AttributeF1(Metric):
    """Micro-F1 of attributes: output and demonstration are JSON objects of attribute values."""

    def __init__(self) -> None:
        self.name = "micro-F1 of attributes"

    async def score(self, output: str, example: Example) -> Terms | None:
        """Count the demonstration's attributes."""
        target = parse_attributes(known_truth(example))
        return attribute_counts(parse_attributes(output), target).terms if target else None


def item_of(example: Example) -> dict[str, object]:
    """Return what graders see of an example as `item`: its fields, and those of its structured input beside them.

    An imported row's own fields stand for themselves, whatever their names.
    """
    fields = as_json(example)
    own = fields.pop("item")
    return {**(example.input or {}), **fields, **own}


class GraderReward(Metric):
    """Mean reward of a grader."""

    def __init__(self, grader: Grader) -> None:
        self.name = f"mean reward of {grader.name}"
        self._grader = grader

    async def score(self, output: str, example: Example) -> Terms | None:
        """Grade the output."""
        result = await self._grader.grade(output, item_of(example))
        return None if result.reward is None else mean_terms(result.reward)
