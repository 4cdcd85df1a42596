"""Bessemer's own graders: `feedback` reads what people said about an answer, `attributes` scores JSON values."""

from collections.abc import Sequence

import msgspec

from bessemer.core.types import JSON
from bessemer.evals.grader import Grader, GraderErrors, GradeResult, Unscorable, fill, scope_of
from bessemer.evals.metrics import attribute_counts, parse_attributes
from bessemer.evals.truth import parse_label, plain, truth

_OPEN = GraderErrors(unresponsive_reward_error=True)


class ItemFeedback(msgspec.Struct, frozen=True):
    """What an item says that people said: an answer with its verdict, a demonstration if there is one."""

    answer: str | None = None
    verdict: bool | None = None
    demonstration: str | None = None


def feedback_reward(output: str, learned: ItemFeedback, labels: Sequence[str] = ()) -> float | None:
    """Reward of an output by the feedback on another answer to the same input; None when it settles nothing.

    With labels, an output that is none of them is wrong wherever there is feedback. Without labels, only a
    demonstration or the judged answer itself is known: another text may be just as right.
    """
    answer, verdict, demonstration = learned.answer, learned.verdict, learned.demonstration
    right = truth(answer, verdict, demonstration, labels)
    if labels:
        said = parse_label(output, labels)
        known_wrong = parse_label(answer, labels) if verdict is False and answer is not None else None
        if right is not None:
            return float(said == right)
        if known_wrong is None:
            return None
        return 0.0 if said in (None, known_wrong) else None
    if demonstration is not None:
        return float(plain(output) == plain(demonstration))
    if answer is None or verdict is None or plain(output) != plain(answer):
        return None
    return float(verdict)


class FeedbackGrader(Grader):
    """`{"type": "feedback", "labels": [...]}`: the reward is what the feedback says about this very output."""

    def __init__(self, name: str, *, text: str, labels: Sequence[str]) -> None:
        super().__init__(name, "feedback")
        self._text, self._labels = text, tuple(labels)

    async def grade(self, sample: str, item: JSON) -> GradeResult:
        """1.0 right, 0.0 wrong; unscorable (unresponsive_reward_error) when the feedback does not settle it."""
        try:
            learned = msgspec.convert(item, ItemFeedback)
            reward = feedback_reward(fill(self._text, scope_of(sample, item)), learned, self._labels)
        except msgspec.ValidationError:
            errors = GraderErrors(invalid_variable_error=True)
            return GradeResult(name=self.name, type=self.type, reward=None, errors=errors)
        except Unscorable as problem:
            return self.unscored(problem)
        why = GraderErrors() if reward is not None else _OPEN
        return GradeResult(name=self.name, type=self.type, reward=reward, errors=why, unknown=reward is None)


class AttributesGrader(Grader):
    """`{"type": "attributes"}`: F1 of the item's annotated attributes; an output that is no JSON object scores 0."""

    def __init__(self, name: str, *, text: str, reference: str) -> None:
        super().__init__(name, "attributes")
        self._text, self._reference = text, reference

    async def grade(self, sample: str, item: JSON) -> GradeResult:
        """Score; unscorable when the item has no annotated attribute."""
        scope = scope_of(sample, item)
        try:
            target = parse_attributes(fill(self._reference, scope))
            predicted = parse_attributes(fill(self._text, scope))
        except Unscorable as problem:
            return self.unscored(problem)
        counts = attribute_counts(predicted, target or {})
        reward = counts.reward
        return GradeResult(
            name=self.name,
            type=self.type,
            reward=reward,
            errors=_OPEN if reward is None else GraderErrors(),
            scores=dict(counts._asdict().items()),
            unknown=reward is None,
        )
