"""From a raw confidence score to P(correct): isotonic regression, and how well calibrated the result is."""

import numpy as np
import numpy.typing as npt

from bessemer.core.evaluations import ReliabilityBin
from bessemer.core.types import Calibration, ConfidenceScore

Array = npt.NDArray[np.float64]


def pool_adjacent_violators(values: Array, weights: Array) -> tuple[Array, npt.NDArray[np.int64]]:
    """Return the non-decreasing least-squares fit's block values, and each block's length, in order.

    Pool-adjacent-violators (Ayer et al. 1955): neighbours out of order merge into their weighted mean.
    """
    means: list[float] = []
    masses: list[float] = []
    lengths: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        means.append(value)
        masses.append(weight)
        lengths.append(1)
        while len(means) > 1 and means[-2] >= means[-1]:
            mass = masses[-2] + masses[-1]
            mean = (means[-2] * masses[-2] + means[-1] * masses[-1]) / mass
            del means[-1], masses[-1]
            means[-1], masses[-1] = mean, mass
            lengths[-2:] = [lengths[-2] + lengths[-1]]
    return np.array(means), np.array(lengths, dtype=np.int64)


def fit_isotonic(
    scores: npt.ArrayLike,
    correct: npt.ArrayLike,
    *,
    version: str,
    score: ConfidenceScore,
    dataset_sha256: str,
    weights: npt.ArrayLike | None = None,
) -> Calibration:
    """Fit P(correct | score), non-decreasing, bound to the version it was measured on.

    Centred isotonic regression (Oron & Flournoy 2017): each block of the isotonic fit holds at its mean score, linear
    in between, so that scores stay ranked where the plain fit would make steps of ties. `correct` may be graded in
    [0, 1]. Equal scores are pooled first, so that they get one value. A block of m items of which r are right holds at
    (r + 1)/(m + 2), Laplace's rule of succession: few items never show certainty, and clients read this as P(correct).
    Blocks that this puts out of order are merged. Raises ValueError for no items, or for a score that is not finite.
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(x) == 0 or not np.isfinite(x).all():
        raise ValueError("a calibration needs at least one item, and finite scores")
    unique, group = np.unique(x, return_inverse=True)
    mass: Array = np.bincount(group, weights=w).astype(np.float64)
    keep = mass > 0
    unique, mass = unique[keep], mass[keep]
    mean: Array = np.bincount(group, weights=w * y)[keep] / mass
    means, lengths = pool_adjacent_violators(mean, mass)
    values, lengths = _succession(means, np.add.reduceat(mass, np.cumsum(lengths) - lengths), lengths)
    starts = np.cumsum(lengths) - lengths
    centres = np.add.reduceat(unique * mass, starts) / np.add.reduceat(mass, starts)
    return Calibration(
        version=version,
        score=score,
        dataset_sha256=dataset_sha256,
        x=tuple(centres.tolist()),
        y=tuple(values.tolist()),
    )


def _succession(means: Array, masses: Array, lengths: npt.NDArray[np.int64]) -> tuple[Array, npt.NDArray[np.int64]]:
    """Return each block's value by the rule of succession, neighbours merged until the values rise, and its length."""
    blocks: list[tuple[float, float, int]] = []
    for mean, mass, length in zip(means.tolist(), masses.tolist(), lengths.tolist(), strict=True):
        right, all_, size = mean * mass, mass, length
        while blocks and (blocks[-1][0] + 1) / (blocks[-1][1] + 2) >= (right + 1) / (all_ + 2):
            before = blocks.pop()
            right, all_, size = right + before[0], all_ + before[1], size + before[2]
        blocks.append((right, all_, size))
    values = np.array([(right + 1) / (mass + 2) for right, mass, _ in blocks], dtype=np.float64)
    return values, np.array([size for _, _, size in blocks], dtype=np.int64)


def apply(calibration: Calibration, scores: npt.ArrayLike) -> Array:
    """Return P(correct) of raw scores: linear between the knots, constant outside."""
    x = np.asarray(scores, dtype=np.float64)
    return np.asarray(np.interp(x, np.array(calibration.x), np.array(calibration.y)))


def reliability(confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Return the non-empty bins of equal width over [0, 1]."""
    p, y = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if len(p) and (p.min() < 0 or p.max() > 1):
        raise ValueError("confidences must lie in [0, 1]")
    index = np.minimum((p * bins).astype(np.int64), bins - 1)
    table: list[ReliabilityBin] = []
    for i in range(bins):
        inside = index == i
        if inside.any():
            table.append(
                ReliabilityBin(
                    low=i / bins,
                    high=(i + 1) / bins,
                    n=int(inside.sum()),
                    confidence=float(p[inside].mean()),
                    accuracy=float(y[inside].mean()),
                )
            )
    return tuple(table)


def ece(confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 10) -> float:
    """Expected calibration error (Naeini et al. 2015): mean |accuracy − confidence| over bins, weighted by items."""
    table = reliability(confidence, correct, bins)
    n = sum(row.n for row in table)
    return sum(row.n * abs(row.accuracy - row.confidence) for row in table) / n if n else 0.0
