"""Which examples teach and which measure: what was drawn at random measures, what was picked for learning teaches.

Feedback that was asked for because it teaches much is about hard requests, and would bias whatever is measured on it.
An audit's draw stands for all requests of its route; once there are enough of its items they alone measure, since who
gives feedback unasked is no random part.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from bessemer.core.datasets import Example
from bessemer.core.feedback import Stream
from bessemer.evals.asking import uses

ENOUGH: Final = 100
"""Audited items from which on they alone measure."""


class MeasuredExamples(NamedTuple):
    """What is measured on."""

    examples: tuple[Example, ...]
    weights: tuple[float, ...] | None
    """How much of the traffic each stands for, at most 1; None: all alike."""
    filter: str
    """What an item had to fulfil, in words."""


def is_audited(example: Example) -> bool:
    """Whether an audit drew it."""
    return example.asked is not None and example.asked.stream is Stream.AUDIT


def fitted_on(examples: Sequence[Example]) -> tuple[Example, ...]:
    """Return the examples that may teach."""
    return tuple(examples[place] for place in uses([example.asked for example in examples]).fitting)


def measured_on(examples: Sequence[Example]) -> MeasuredExamples:
    """Return the examples that may measure: of an audit when there are enough, else all that nobody picked."""
    found = uses([example.asked for example in examples])
    if len(found.measuring) >= ENOUGH:
        even = bool((found.weights == 1.0).all())
        drawn = tuple(examples[place] for place in found.measuring)
        return MeasuredExamples(drawn, None if even else tuple(found.weights.tolist()), "audit stream")
    rest = tuple(one for one in examples if one.asked is None or is_audited(one))
    return MeasuredExamples(rest, None, "with feedback")
