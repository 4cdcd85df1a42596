"""One fitting: what every kind of rung is given, and what it gives back."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

from bessemer.core.ladders import WrittenRule
from bessemer.core.types import Frozen
from bessemer.engine.rungs.artefact import AnyArray, Artefact
from bessemer.engine.rungs.embedding import StaticEmbedding
from bessemer.engine.rungs.head import Vectorise
from bessemer.engine.rungs.rung import Floats, Rung, softmax
from bessemer.ladder.lessons import Ints, Lesson, Targets, counted, folds_of, labels_of, targets_of

FOLDS = 4
_LEAST = 20
"""Labels known out of fold below which nothing is calibrated."""
_PRIOR = 1.0
"""Of the squared changes of log factor and shift."""
_MANY = 50_000
"""Lessons times labels from which on one part of the folds is enough to calibrate on: each costs a whole fit."""


class FittedMember(NamedTuple):
    """A rung that was fitted on the same lessons, for a committee."""

    artefact: Artefact
    out_of_fold: Floats
    """[n, k], as `fit.RungFit` has it."""


class VectorSource(NamedTuple):
    """A network that makes vectors of texts."""

    name: str
    """Of it and its weights: a head holds for no other."""
    vectors: Vectorise


class Task:
    """Lessons that count, their labels, and the parts that out-of-fold predictions are made by."""

    def __init__(
        self,
        lessons: Sequence[Lesson],
        labels: Sequence[str] | None,
        seed: int,
        *,
        start: Rung | None = None,
        static: StaticEmbedding | None = None,
        written: Sequence[WrittenRule] = (),
        members: Sequence[FittedMember] = (),
        networks: Mapping[str, VectorSource] | None = None,
    ) -> None:
        """What kinds need beside: see `fit.fit`.

        Raises InvalidRequest for no labels.
        """
        self.lessons = counted(lessons)
        self.labels = labels_of(self.lessons) if labels is None else tuple(labels)
        self.targets: Targets = targets_of(self.lessons, self.labels)
        self.seed, self.start, self.static, self.written = seed, start, static, tuple(written)
        self.members = tuple(members)
        self.networks = networks or {}

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

    def scored(self, out_of_fold: Floats) -> Ints:
        """Return the lessons whose out-of-fold prediction can be scored: another lesson shows the same label."""
        truth = self.truth
        often = np.bincount(truth[truth >= 0], minlength=len(self.labels)) > 1
        return np.flatnonzero((truth >= 0) & often[truth] & np.isfinite(out_of_fold).all(axis=1))


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


class Scaling(NamedTuple):
    """What makes logits calibrated: a factor, and of two labels what is added to the second's."""

    factor: float = 1.0
    shift: float = 0.0

    def apply(self, logits: Floats) -> Floats:
        """Return calibrated logits [n, k]."""
        scaled = logits * self.factor
        if scaled.shape[1] == 2:
            scaled[:, 1] += self.shift
        return scaled

    def probabilities(self, raw: Floats) -> Floats:
        """Return calibrated probabilities of raw ones."""
        return softmax(self.apply(np.log(np.maximum(raw, 1e-12))))


def scaling(probabilities: Floats, task: Task) -> Scaling:
    """Return the scaling that makes out-of-fold probabilities likeliest; none where too few labels are known.

    Two labels: Platt (1999). More: temperature scaling (Guo et al. 2017, arXiv 1706.04599). Both with a prior at no
    change that counts as a few items.
    """
    rows = task.scored(probabilities)
    if len(rows) < _LEAST or probabilities.shape[1] < 2:
        return Scaling()
    logits = np.log(np.maximum(probabilities[rows], 1e-12))
    truth, weights = task.truth[rows], task.targets.weights[rows]
    two = probabilities.shape[1] == 2

    def loss(changes: Floats) -> float:
        scaled = Scaling(float(np.exp(changes[0])), float(changes[1]) if two else 0.0).apply(logits)
        p = softmax(scaled)[np.arange(len(rows)), truth]
        return -float(weights @ np.log(np.maximum(p, 1e-12))) + float(_PRIOR * (changes @ changes))

    found = minimize(loss, np.zeros(2), bounds=[(-3.0, 3.0), (-10.0, 10.0)]).x
    return Scaling(float(np.exp(found[0])), float(found[1]) if two else 0.0)
