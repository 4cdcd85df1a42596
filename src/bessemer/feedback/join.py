"""What was learned about one input: the feedback on its inferences and their episodes, reduced to one verdict, one
demonstration and scores.

Where people disagree, the most trusted voice counts, and of equally trusted ones the last. Feedback of no trust is left
out.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bessemer.core.types import Feedback, FeedbackKind, Inference

ORIGIN = "origin"
"""Tag of inferences that Bessemer made itself (evaluations, judges)."""


class Learned(NamedTuple):
    """An inference that stands for its input, and what was learned."""

    inference: Inference
    verdict: bool | None
    demonstration: str | None
    scores: dict[str, float]
    weight: float
    """Trust of the demonstration, or else of the verdict; 1 without either."""

    @property
    def empty(self) -> bool:
        """Whether nothing was learned that can be trained on or scored."""
        return self.verdict is None and self.demonstration is None and not self.scores


def winner(rows: Iterable[Feedback]) -> Feedback | None:
    """Return the most trusted feedback, of equally trusted ones the last; None when none is trusted at all."""
    return max(
        (row for row in rows if row.trust > 0), key=lambda row: (row.trust, row.created_at, row.id), default=None
    )


def learn(
    group: Sequence[Inference], feedback: Mapping[str, Sequence[Feedback]], *, metric: str, as_one: bool
) -> list[Learned]:
    """Reduce the inferences of one input: to one row, or (not `as_one`) to one per inference.

    `feedback` is by inference id, that of its episode included. A verdict or score is about an answer, so it counts for
    all inferences that gave this answer; a demonstration is about the input and counts for all of them.
    """
    demonstration = winner(
        row for one in group for row in feedback.get(one.id, ()) if row.kind is FeedbackKind.DEMONSTRATION
    )
    by_answer: dict[str | None, list[Feedback]] = {}
    for one in group:
        by_answer.setdefault(one.output, []).extend(feedback.get(one.id, ()))
    rows = [_learned(one, by_answer[one.output], demonstration, metric) for one in group]
    if not as_one:
        return rows
    # The row that says most stands for the input; of equal ones the latest.
    return [max(rows, key=lambda row: (row.verdict is not None, bool(row.scores), row.inference.id))]


def _learned(one: Inference, about: Sequence[Feedback], demonstration: Feedback | None, metric: str) -> Learned:
    numbers: dict[str, list[Feedback]] = {}
    for row in about:
        if row.kind in (FeedbackKind.BOOLEAN, FeedbackKind.FLOAT):
            numbers.setdefault(row.metric, []).append(row)
    verdict = winner(row for row in numbers.pop(metric, ()) if row.kind is FeedbackKind.BOOLEAN)
    best = {name: winner(rows) for name, rows in sorted(numbers.items())}
    decisive = demonstration or verdict
    return Learned(
        inference=one,
        verdict=None if verdict is None else bool(verdict.value),
        demonstration=None if demonstration is None else str(demonstration.value),
        scores={name: float(row.value) for name, row in best.items() if row is not None},
        weight=1.0 if decisive is None else decisive.trust,
    )
