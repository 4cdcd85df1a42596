"""One fitting: what every kind of rung is given, and what it gives back."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from bessemer.core.types import Frozen
from bessemer.engine.rungs.artefact import AnyArray
from bessemer.engine.rungs.rung import Floats, softmax
from bessemer.ladder.lessons import Ints, Lesson, Targets, counted, folds_of, labels_of, targets_of

FOLDS = 4
_MANY = 200_000
"""Lessons times labels from which on one part of the folds is enough to calibrate on: each costs a whole fit."""


class Task:
    """Lessons that count, their labels, and the parts that out-of-fold predictions are made by."""

    def __init__(self, lessons: Sequence[Lesson], labels: Sequence[str] | None, seed: int) -> None:
        """Raises InvalidRequest when nothing can be learned."""
        self.lessons = counted(lessons)
        self.labels = labels_of(self.lessons) if labels is None else tuple(labels)
        self.targets: Targets = targets_of(self.lessons, self.labels)
        self.seed = seed

    @cached_property
    def folds(self) -> Ints:
        """The fold of each lesson."""
        return folds_of(self.lessons, FOLDS, self.seed)

    def parts(self) -> Iterator[tuple[Ints, Ints]]:
        """Yield places to learn from and places to predict, groups never on both sides."""
        many = len(self.lessons) * len(self.labels) >= _MANY
        for fold in range(1 if many else FOLDS):
            train, test = np.flatnonzero(self.folds != fold), np.flatnonzero(self.folds == fold)
            if len(train) and len(test):
                yield train, test

    @property
    def truth(self) -> Ints:
        """The place of each lesson's right label, -1 where it is not known."""
        return self.targets.truth(len(self.labels))


class Fitted(NamedTuple):
    """What a kind makes of a task."""

    kind: str
    parameters: Frozen
    arrays: Mapping[str, AnyArray]
    out_of_fold: Floats
    """[n, k] probabilities of the lessons by fits that did not see them; NaN where there are none."""
    known_share: Floats
    """[n], out of fold; NaN where there is none."""
    distance: Floats
    """[n], out of fold; NaN where there is none."""
    told: Mapping[str, Any] = {}
    """For the lineage."""


def sharpness(probabilities: Floats, task: Task) -> float:
    """Return the factor on logits that makes out-of-fold probabilities likeliest; 1 where too few labels are known.

    Temperature scaling (Guo et al. 2017, arXiv 1706.04599), with a prior at 1 that counts as ten items.
    """
    rows = np.flatnonzero((task.truth >= 0) & np.isfinite(probabilities).all(axis=1))
    if len(rows) < 20 or probabilities.shape[1] < 2:
        return 1.0
    logits = np.log(np.maximum(probabilities[rows], 1e-12))
    truth, weights = task.truth[rows], task.targets.weights[rows]

    def loss(log_factor: float) -> float:
        p = softmax(logits * np.exp(log_factor))[np.arange(len(rows)), truth]
        return -float(weights @ np.log(np.maximum(p, 1e-12))) + 10 * log_factor**2

    return float(np.exp(minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded").x))


def sharpened(probabilities: Floats, factor: float) -> Floats:
    """Return probabilities whose logits are multiplied by a factor."""
    return softmax(np.log(np.maximum(probabilities, 1e-12)) * factor)
