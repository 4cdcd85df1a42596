"""Metrics of evaluation runs: each scores one output against what is known of its example, as terms.

None is unscorable: nobody said anything of the truth, or the grader gave no reward. An output that is no label or no
JSON is scored, as wrong. Where feedback says of another answer alone whether it was right, an output is worth something
between two bounds (`Unknown`): leaving such items out would leave those in where the recorded answer was right.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from bessemer.core.datasets import Example
from bessemer.core.types import as_json
from bessemer.evals.grader import Grader
from bessemer.evals.metrics import Terms, Unknown, attribute_counts, label_terms, mean_terms, parse_attributes
from bessemer.evals.truth import parse_label, truth


class Metric(ABC):
    """A named metric: Σ numerator / Σ denominator of the terms it gives."""

    name: str

    @abstractmethod
    async def score(self, output: str, example: Example) -> Terms | Unknown | None:
        """Return the terms of one output, their bounds when the truth is open, None when it cannot be scored."""


_ANYTHING = Unknown(worst=Terms(0.0, 1.0), best=Terms(1.0, 1.0))


def truth_is_open(example: Example) -> bool:
    """Return whether all that is known of the truth is that the recorded answer is not it."""
    return example.demonstration is None and example.verdict is False and example.answer is not None


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

    async def score(self, output: str, example: Example) -> Terms | Unknown | None:
        """Compare the parsed label with the truth, or with the label that is not the truth."""
        said, actual = parse_label(output, self._labels), known_truth(example, self._labels)
        if actual is not None:
            return label_terms(said, actual, self._positive)
        if not truth_is_open(example):
            return None
        claimed = said == self._positive
        if parse_label(example.answer, self._labels) == self._positive:
            return Terms(0.0, float(claimed))
        missed = Terms(0.0, 1.0)
        return Unknown(missed, Terms(2.0, 2.0) if claimed else Terms(0.0, 0.0))


class LabelAccuracy(Metric):
    """Share of right labels."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.name = "accuracy"
        self._labels = tuple(labels)

    async def score(self, output: str, example: Example) -> Terms | Unknown | None:
        """1 when the parsed label is the truth, 0 when it is not, or is no label."""
        said, actual = parse_label(output, self._labels), known_truth(example, self._labels)
        if actual is not None:
            return mean_terms(float(said == actual))
        if not truth_is_open(example):
            return None
        return mean_terms(0.0) if said in (None, parse_label(example.answer, self._labels)) else _ANYTHING


class AttributeF1(Metric):
    """Micro-F1 of attributes: output and demonstration are JSON objects of attribute values."""

    def __init__(self) -> None:
        self.name = "micro-F1 of attributes"

    async def score(self, output: str, example: Example) -> Terms | Unknown | None:
        """Count the demonstration's attributes; an open truth is taken to have as many as were recorded or are said."""
        target, said = parse_attributes(known_truth(example)), parse_attributes(output)
        if target:
            return attribute_counts(said, target).terms
        if not truth_is_open(example):
            return None
        most = 2.0 * max(1, len(said or ()), len(parse_attributes(example.answer) or ()))
        return Unknown(Terms(0.0, most), Terms(most, most)) if said else Terms(0.0, most)


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

    async def score(self, output: str, example: Example) -> Terms | Unknown | None:
        """Grade the output."""
        result = await self._grader.grade(output, item_of(example))
        if result.reward is not None:
            return mean_terms(result.reward)
        # The feedback grader settles nothing of another text than the judged one.
        judged = example.demonstration is None and example.verdict is not None
        return _ANYTHING if judged else None
