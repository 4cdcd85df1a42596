"""Stacks rungs that are fitted already: their out-of-fold predictions say how far each is to be believed."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

from bessemer.core.errors import InvalidRequest
from bessemer.engine.rungs.committee import KIND, CommitteeParameters, Member, evidence, pack
from bessemer.engine.rungs.rung import Floats, nothing, softmax
from bessemer.ladder.lessons import Ints, folds_of
from bessemer.ladder.task import FOLDS, Fitted, FittedMember, Task

_LEAST = 20
"""Labels known out of fold below which members are believed alike."""
_PRIOR = 1.0
"""Of the squared distance to equal belief; it counts as a few lessons."""
_SILENT = 0.02
"""Weight and vote below which a member is left out."""


def fit_committee(task: Task) -> Fitted:
    """Learn the stack of the task's members. Raises InvalidRequest for fewer than two."""
    members = list(task.members)
    if len(members) < 2:
        raise InvalidRequest("A committee needs two rungs that suit the task.", param="rungs")
    n, k = len(task.lessons), len(task.labels)
    if any(one.out_of_fold.shape != (n, k) or one.artefact.manifest.labels != task.labels for one in members):
        raise InvalidRequest("The members of a committee learn from the same lessons.", param="rungs")
    numbers = _learned(task, members, np.arange(n))
    count = len(members)
    kept = [place for place in range(count) if max(numbers[place], numbers[count + place]) > _SILENT]
    if 0 < len(kept) < count:
        members = [members[place] for place in kept]
        numbers = _learned(task, members, np.arange(n))
    return Fitted(
        kind=KIND,
        parameters=_parameters(members, numbers),
        arrays=pack([one.artefact for one in members]),
        out_of_fold=_crossed(task, members),
        known_share=nothing(n),
        distance=nothing(n),
        told={"members": [one.artefact.manifest.kind for one in members]},
    )


def _parameters(members: Sequence[FittedMember], numbers: Floats) -> CommitteeParameters:
    count = len(members)
    values = numbers.tolist()
    inside = [
        Member(
            kind=one.artefact.manifest.kind,
            parameters=one.artefact.manifest.parameters,
            scope=one.artefact.manifest.scope,
            weight=weight,
            vote=vote,
        )
        for one, weight, vote in zip(members, values[:count], values[count:], strict=False)
    ]
    return CommitteeParameters(members=tuple(inside), unanimity=values[-2], shift=values[-1])


def _evidence(members: Sequence[FittedMember], rows: Ints) -> Floats:
    told = np.array([one.out_of_fold[rows] for one in members])
    read = np.isfinite(told).all(axis=2)
    return evidence(np.where(read[:, :, None], told, 1.0 / told.shape[2]), read)


def _scored(task: Task, members: Sequence[FittedMember]) -> Ints:
    """Return the lessons of a known label that any member predicted out of fold."""
    seen = np.any([np.isfinite(one.out_of_fold).all(axis=1) for one in members], axis=0)
    return task.scored(np.where(seen[:, None], 0.0, np.nan))


def _learned(task: Task, members: Sequence[FittedMember], rows: Ints) -> Floats:
    """Return the numbers that make the right labels of these lessons likeliest.

    Members have no negative weight; the prior is equal belief.
    """
    count = len(members)
    start = np.array([1.0 / count] * count + [0.0] * (count + 2))
    rows = np.intersect1d(rows, _scored(task, members))
    if len(rows) < _LEAST or len(task.labels) < 2:
        return start
    x = _evidence(members, rows)
    truth, weights = task.truth[rows], task.targets.weights[rows]
    at = np.arange(len(rows))

    def loss(numbers: Floats) -> tuple[float, Floats]:
        p = softmax(np.tensordot(numbers, x, axes=1))
        away = numbers - start
        value = -float(weights @ np.log(np.maximum(p[at, truth], 1e-12))) + _PRIOR * float(away @ away)
        p[at, truth] -= 1.0
        gradient = np.tensordot(x, p * weights[:, None], axes=((1, 2), (0, 1))) + 2 * _PRIOR * away
        return value, gradient

    bounds = [(0.0, 50.0)] * (2 * count) + [(-10.0, 10.0)] * 2
    found: Floats = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return found


def _crossed(task: Task, members: Sequence[FittedMember]) -> Floats:
    """Return the stacked probabilities of each lesson by a stack that was learned without its group."""
    seen = np.flatnonzero(np.any([np.isfinite(one.out_of_fold).all(axis=1) for one in members], axis=0))
    folds = folds_of([task.lessons[row] for row in seen], FOLDS, task.seed + 5)
    found = np.full((len(task.lessons), len(task.labels)), np.nan)
    for fold in range(FOLDS):
        rows = seen[folds == fold]
        if len(rows):
            numbers = _learned(task, members, seen[folds != fold])
            found[rows] = softmax(np.tensordot(numbers, _evidence(members, rows), axes=1))
    return found
