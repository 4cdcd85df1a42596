"""What a rung learns from: items with verdicts on an answer to them, in groups that no split may part."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bessemer.core.content import sha256_hex
from bessemer.core.errors import InvalidRequest
from bessemer.engine.rungs.rung import Floats, RungItem, text_of

Ints = npt.NDArray[np.int64]
MOST_LABELS = 1000


class Lesson(NamedTuple):
    """An item and what feedback says of one answer to it."""

    item: RungItem
    answer: str
    """The label that was demonstrated, or that was shown and judged."""
    right: float = 1.0
    """1: the answer is the label; 0: it is another one."""
    weight: float = 1.0
    """Trust, times class weight; 0 is as if the row were not there."""
    group: str = ""
    """Rows of one group are never on both sides of a split; "": what is spelled alike is one."""


class Targets(NamedTuple):
    """The lessons as numbers: the place of each answer among the labels, whether it is right, what the row counts."""

    answers: Ints
    right: Floats
    weights: Floats

    def rows(self, places: Ints) -> "Targets":
        """Return those of some lessons."""
        return Targets(self.answers[places], self.right[places], self.weights[places])

    def truth(self, count: int) -> Ints:
        """Return the place of the right label among `count`, -1 where it is not known."""
        other = 1 - self.answers if count == 2 else np.full(len(self.answers), -1)
        return np.where(self.right > 0.5, self.answers, other)


def counted(lessons: Sequence[Lesson]) -> list[Lesson]:
    """Return the lessons that count: those of weight 0 are as if they were not there."""
    return [one for one in lessons if one.weight > 0]


def labels_of(lessons: Sequence[Lesson]) -> tuple[str, ...]:
    """Return the labels that any lesson names, sorted. Raises InvalidRequest for none or too many."""
    found = sorted({one.answer for one in lessons})
    if not found:
        raise InvalidRequest("No row says what is right or wrong: give feedback first.", param="dataset")
    if len(found) > MOST_LABELS:
        raise InvalidRequest(
            f"{len(found)} different answers: a rung chooses among at most {MOST_LABELS} labels.", param="labels"
        )
    return tuple(found)


def settled(lessons: Sequence[Lesson]) -> list[str | None]:
    """Return each lesson's right label; None where a wrong verdict leaves it open: between two labels it does not."""
    names = sorted({one.answer for one in lessons})
    other = {names[0]: names[1], names[1]: names[0]} if len(names) == 2 else {}
    return [one.answer if one.right > 0.5 else other.get(one.answer) for one in lessons]


def targets_of(lessons: Sequence[Lesson], labels: Sequence[str]) -> Targets:
    """Return the lessons as numbers; weights are scaled to a mean of 1, so that their unit does not count."""
    places = {label: place for place, label in enumerate(labels)}
    weights = np.array([one.weight for one in lessons], dtype=np.float64)
    return Targets(
        np.array([places[one.answer] for one in lessons], dtype=np.int64),
        np.array([one.right for one in lessons], dtype=np.float64),
        weights / weights.mean() if len(weights) else weights,
    )


def folds_of(lessons: Sequence[Lesson], count: int, seed: int) -> Ints:
    """Return the fold of each lesson: groups stay together, placed by their hash, whatever the order of rows."""
    keys = [one.group or text_of(one.item) for one in lessons]
    return np.array([int(sha256_hex(f"{seed}\0{key}".encode())[:12], 16) % count for key in keys], dtype=np.int64)
