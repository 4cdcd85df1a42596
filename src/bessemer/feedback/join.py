"""What was learned about one input: the feedback on its inferences and their episodes, reduced to one verdict, one
demonstration and scores.

Where people disagree, the most trusted voice counts, and of equally trusted ones the last. Feedback of no trust is left
out.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bessemer.core.types import Feedback, FeedbackKind, Inference


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
    """Return the most trusted feedback, of equally trusted ones the last; None when none is trusted at all.

    The last is the one with the greatest id: ids grow in the order of arrival even where the clock is set back.
    """
    return max((row for row in rows if row.trust > 0), key=lambda row: (row.trust, row.id), default=None)


def learn(
    group: Sequence[Inference], feedback: Mapping[str, Sequence[Feedback]], *, metric: str, as_one: bool
) -> list[Learned]:
    """Reduce the inferences of one input: to one row, or (not `as_one`) to one per inference.

    `feedback` is by inference id, that of its episode included. A verdict or score is about an answer, so it counts for
    all inferences that gave this answer; a demonstration is about the input and counts for all of them. In rows of
    their own, what was said of the inference itself counts first.
    """
    by_answer: dict[str | None, list[Feedback]] = {}
    for one in group:
        by_answer.setdefault(one.output, []).extend(feedback.get(one.id, ()))
    of_all = [row for one in group for row in feedback.get(one.id, ())]
    rows = []
    for one in group:
        own = () if as_one else feedback.get(one.id, ())
        rows.append(
            _learned(one, _numbers(by_answer[one.output]) | _numbers(own), _shown(own) or _shown(of_all), metric)
        )
    if not as_one:
        return rows
    # The row that says most stands for the input; of equal ones the latest.
    return [max(rows, key=lambda row: (row.verdict is not None, bool(row.scores), row.inference.id))]


def _shown(rows: Iterable[Feedback]) -> Feedback | None:
    return winner(row for row in rows if row.kind is FeedbackKind.DEMONSTRATION)


def _numbers(rows: Iterable[Feedback]) -> dict[str, Feedback]:
    """The winning boolean or float of each metric."""
    by_metric: dict[str, list[Feedback]] = {}
    for row in rows:
        if row.kind in (FeedbackKind.BOOLEAN, FeedbackKind.FLOAT):
            by_metric.setdefault(row.metric, []).append(row)
    best = {name: winner(found) for name, found in sorted(by_metric.items())}
    return {name: row for name, row in best.items() if row is not None}


def _learned(one: Inference, numbers: dict[str, Feedback], shown: Feedback | None, metric: str) -> Learned:
    verdict = numbers.pop(metric, None)
    if verdict is not None and verdict.kind is not FeedbackKind.BOOLEAN:
        verdict = None
    decisive = shown or verdict
    return Learned(
        inference=one,
        verdict=None if verdict is None else bool(verdict.value),
        demonstration=None if shown is None else str(shown.value),
        scores={name: float(row.value) for name, row in numbers.items()},
        weight=1.0 if decisive is None else decisive.trust,
    )
