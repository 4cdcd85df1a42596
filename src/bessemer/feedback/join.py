"""What was learned about one input: the feedback on its inferences and their episodes, reduced to one verdict, one
demonstration and scores.

Whose voice counts is decided by rights, not by claims: a person's (a reviewer's key that speaks for one) before a
program's, then the key's trust, then the last. What a client claims of itself can only make its voice lighter; feedback
of no weight is left out.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

from bessemer.core.feedback import Feedback, FeedbackKind, FeedbackSource
from bessemer.core.inferences import Inference


class JoinedFeedback(NamedTuple):
    """An inference that stands for its input, and what was learned."""

    inference: Inference
    verdict: bool | None
    demonstration: str | None
    scores: dict[str, float]
    weight: float
    """That of the demonstration, or else of the verdict; 1 without either."""

    @property
    def empty(self) -> bool:
        """Whether nothing was learned that can be trained on or scored."""
        return self.verdict is None and self.demonstration is None and not self.scores


def winner(rows: Iterable[Feedback], own: Container[str] = ()) -> Feedback | None:
    """Return the feedback that counts; None when none has any weight.

    A person's first; of equal ones that on the inference itself (`own`: ids), the most trusted, the last. The last is
    the one with the greatest id: ids grow in the order of arrival even where the clock is set back.
    """
    return max(
        (row for row in rows if _weight(row) > 0),
        key=lambda row: (_by_person(row), row.id in own, row.trust, row.id),
        default=None,
    )


def learn(
    group: Sequence[Inference], feedback: Mapping[str, Sequence[Feedback]], *, metric: str, as_one: bool
) -> list[JoinedFeedback]:
    """Reduce the inferences of one input: to one row, or (not `as_one`) to one per inference.

    `feedback` is by inference id, that of its episode included. A verdict or score is about an answer, so it counts for
    all inferences that gave this answer; a demonstration is about the input and counts for all of them: a reviewer's
    for those of every key, another key's for its own. In rows of their own, what was said of the inference itself
    counts first. Where keys without a reviewer's right disagree about an input, the one that asked it first is heard.
    """
    shared = _Shared()
    for one in group:
        for row in feedback.get(one.id, ()):
            shared.add(one, row)
    rows = []
    for one in group:
        own = () if as_one else {row.id for row in feedback.get(one.id, ())}
        numbers = _numbers(shared.about_answer(one), own)
        rows.append(_learned(one, numbers, _shown(shared.about_input(one), own), metric))
    if not as_one:
        return [row for row, _ in rows]
    first: dict[str, str] = {}
    for one in sorted(group, key=lambda one: one.id):
        first.setdefault(one.key_id, one.id)
    order = {key: -place for place, key in enumerate(first)}

    def says(learned: tuple[JoinedFeedback, int]) -> tuple[int, bool, int, bool, bool, str]:
        """The row that says most stands for the input; of equal ones the latest."""
        row, by_person = learned
        asker = order[row.inference.key_id]
        return by_person, not row.empty, asker, row.verdict is not None, bool(row.scores), row.inference.id

    return [max(rows, key=says)[0]]


class _Shared:
    """Feedback on the inferences of one input, by whom it counts for: everybody (None), or the key that gave it."""

    def __init__(self) -> None:
        self._of_input: dict[str | None, list[Feedback]] = {}
        self._of_answer: dict[tuple[str | None, str | None], list[Feedback]] = {}

    def add(self, one: Inference, row: Feedback) -> None:
        reach = None if row.reviewer else one.key_id
        self._of_input.setdefault(reach, []).append(row)
        self._of_answer.setdefault((reach, one.output), []).append(row)

    def about_input(self, one: Inference) -> list[Feedback]:
        return [*self._of_input.get(None, ()), *self._of_input.get(one.key_id, ())]

    def about_answer(self, one: Inference) -> list[Feedback]:
        found = self._of_answer
        return [*found.get((None, one.output), ()), *found.get((one.key_id, one.output), ())]


def _by_person(row: Feedback | None) -> bool:
    """Whether a person said it, as a reviewer's key vouches."""
    return row is not None and bool(row.reviewer) and row.source is FeedbackSource.HUMAN


def _weight(row: Feedback) -> float:
    return row.trust * (1.0 if row.claimed_trust is None else row.claimed_trust)


def _shown(rows: Iterable[Feedback], own: Container[str]) -> Feedback | None:
    return winner((row for row in rows if row.kind is FeedbackKind.DEMONSTRATION), own)


def _numbers(rows: Iterable[Feedback], own: Container[str]) -> dict[str, Feedback]:
    """The winning boolean or float of each metric."""
    by_metric: dict[str, list[Feedback]] = {}
    for row in rows:
        if row.kind in (FeedbackKind.BOOLEAN, FeedbackKind.FLOAT):
            by_metric.setdefault(row.metric, []).append(row)
    best = {name: winner(found, own) for name, found in sorted(by_metric.items())}
    return {name: row for name, row in best.items() if row is not None}


def _learned(
    one: Inference, numbers: dict[str, Feedback], shown: Feedback | None, metric: str
) -> tuple[JoinedFeedback, int]:
    """Return what was learned, and how much of verdict and demonstration a person decided."""
    verdict = numbers.pop(metric, None)
    if verdict is not None and verdict.kind is not FeedbackKind.BOOLEAN:
        verdict = None
    decisive = shown or verdict
    learned = JoinedFeedback(
        inference=one,
        verdict=None if verdict is None else bool(verdict.value),
        demonstration=None if shown is None else str(shown.value),
        scores={name: float(row.value) for name, row in numbers.items()},
        weight=1.0 if decisive is None else _weight(decisive),
    )
    return learned, _by_person(shown) + _by_person(verdict)
