"""Isotonic regression of P(correct) on a score, and how well calibrated confidences are."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bessemer.core.evaluations import ReliabilityBin
from bessemer.core.routes import Calibration

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


def centred_isotonic(
    scores: npt.ArrayLike, correct: npt.ArrayLike, weights: npt.ArrayLike | None = None, *, succession: bool = False
) -> tuple[Array, Array]:
    """Return knots of P(correct | score), non-decreasing, linear in between and constant outside.

    Centred isotonic regression (Oron & Flournoy 2017): each block of the isotonic fit holds at its mean score, so that
    scores stay ranked where the plain fit would make steps of ties. `correct` may be graded in [0, 1]. Equal scores are
    pooled first, so that they get one value. With `succession` a block of m items of which r are right holds at
    (r + 1)/(m + 2), Laplace's rule: few items never show certainty; blocks that this puts out of order are merged.
    Raises ValueError for no items, or for a score that is not finite.
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
    values, lengths = pool_adjacent_violators(mean, mass)
    if succession:
        values, lengths = _succession(values, np.add.reduceat(mass, np.cumsum(lengths) - lengths), lengths)
    starts = np.cumsum(lengths) - lengths
    return np.add.reduceat(unique * mass, starts) / np.add.reduceat(mass, starts), values


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


class CalibrationError(NamedTuple):
    """How far confidences are from what is so, with what a sample of n items says of it."""

    debiased: float
    low: float
    high: float
    """Ends of its 95 % interval (bootstrap)."""
    plain: float
    brier: float
    n: int


def calibration_error(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, *, bins: int = 15, resamples: int = 200, seed: int = 0
) -> CalibrationError:
    """Return the expected calibration error over bins of equal mass, without the bias that chance alone gives it.

    In a bin of m items (accuracy − confidence)² is by chance a(1 − a)/(m − 1) too large, on average, a the accuracy:
    that is subtracted, and the root of the mean over bins taken (Kumar, Liang & Ma 2019; Roelofs et al. 2022, arXiv
    2012.08668). The root mean square is never below the mean of the distances. Never choose a threshold on the items
    that this is shown of. Raises ValueError for no items.
    """
    p, y = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if not len(p) or p.shape != y.shape:
        raise ValueError("a calibration error needs items, each with a confidence and whether it was right")
    plain, debiased = _binned_error(p, y, bins)
    rng = np.random.default_rng(seed)
    drawn = [_binned_error(p[i], y[i], bins)[1] for i in rng.integers(len(p), size=(resamples, len(p)))]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return CalibrationError(
        debiased, min(float(low), debiased), max(float(high), debiased), plain, float(((p - y) ** 2).mean()), len(p)
    )


def _binned_error(p: Array, y: Array, bins: int) -> tuple[float, float]:
    """Return the plain and the debiased error."""
    order = np.argsort(p, kind="stable")
    starts = np.unique((np.arange(min(bins, len(p))) * len(p)) // min(bins, len(p)))
    mass = np.diff(np.append(starts, len(p))).astype(np.float64)
    said, so = (np.add.reduceat(part[order], starts) / mass for part in (p, y))
    chance = so * (1 - so) / np.maximum(mass - 1, 1)
    squared = float(mass @ ((so - said) ** 2 - chance) / len(p))
    return float(mass @ np.abs(so - said) / len(p)), max(0.0, squared) ** 0.5
