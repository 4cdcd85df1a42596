"""Intervals: the bootstrap of ratios of sums, alone and paired, the score interval of a rate; and exact binomial tails.

The bootstrap resamples items (Efron & Tibshirani 1993, percentile interval). Equal items are counted together and
drawn as one multinomial, which is the same distribution and makes 10,000 resamples of thousands of items quick.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from bessemer.core.types import Interval
from bessemer.evals.betting import ratio_bounds

Array = npt.NDArray[np.float64]
_CHUNK = 2_000_000


def resampled_sums(rows: Array, resamples: int, seed: int) -> Array:
    """Return [resamples, columns]: column sums of bootstrap resamples of the items [n, columns]."""
    rng = np.random.default_rng(seed)
    values, counts = np.unique(rows, axis=0, return_counts=True)
    n = len(rows)
    if len(values) * 8 <= n or len(values) <= 64:
        return np.asarray(rng.multinomial(n, counts / n, size=resamples) @ values, dtype=np.float64)
    sums = np.empty((resamples, rows.shape[1]))
    step = max(1, _CHUNK // n)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        picks = rng.integers(0, n, size=(size, n), dtype=np.int32)
        for column in range(rows.shape[1]):
            sums[start : start + size, column] = rows[:, column][picks].sum(axis=1)
    return sums


def bootstrap(
    rows: Array,
    statistic: Callable[[Array], Array],
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    method: str = "bootstrap",
) -> Interval:
    """Percentile interval of `statistic`, a function of column sums [..., columns] -> [...], over items [n, columns].

    Resamples in which the statistic is undefined (NaN) are left out. Raises ValueError without items, or when the
    statistic of the items themselves is undefined.
    """
    rows = np.asarray(rows, dtype=np.float64)
    if len(rows) == 0:
        raise ValueError("a bootstrap needs at least one item")
    value = float(statistic(rows.sum(axis=0)[None, :])[0])
    if math.isnan(value):
        raise ValueError("the statistic is undefined on these items")
    drawn = statistic(resampled_sums(rows, resamples, seed))
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high), level=level, method=method)


def _ratio(sums: Array) -> Array:
    out: Array = np.full(sums.shape[:-1], np.nan)
    return np.divide(sums[..., 0], sums[..., 1], out=out, where=sums[..., 1] != 0)


def ratio_interval(terms: npt.ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Bootstrap interval of Σ numerator / Σ denominator over items [n, 2] (metrics.Terms)."""
    rows = np.asarray(terms, dtype=np.float64).reshape(-1, 2)
    return bootstrap(rows, _ratio, level=level, resamples=resamples, seed=seed)


def ratio_difference(
    candidate: npt.ArrayLike, reference: npt.ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Paired bootstrap interval of candidate − reference; row i of both [n, 2] is the same item."""
    left = np.asarray(candidate, dtype=np.float64).reshape(-1, 2)
    right = np.asarray(reference, dtype=np.float64).reshape(-1, 2)
    if left.shape != right.shape:
        raise ValueError(f"paired items must be equally many, not {len(left)} and {len(right)}")
    return bootstrap(
        np.hstack([left, right]),
        lambda sums: _ratio(sums[..., :2]) - _ratio(sums[..., 2:]),
        level=level,
        resamples=resamples,
        seed=seed,
        method="paired bootstrap",
    )


def terms_interval(terms: npt.ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Interval of one system's Σ numerator / Σ denominator over items [n, 2] that never shrinks to a point.

    Wilson's for a share of right answers, the bootstrap for anything else; where its resamples are all alike, as of
    faultless answers, distribution-free bounds (`betting.ratio_bounds`) if the terms allow them.
    """
    rows = np.asarray(terms, dtype=np.float64).reshape(-1, 2)
    numerator, denominator = rows[:, 0], rows[:, 1]
    if len(rows) and (denominator == 1).all() and np.isin(numerator, (0.0, 1.0)).all():
        return _wilson(int(numerator.sum()), len(rows), level)
    found = ratio_interval(rows, level=level, resamples=resamples, seed=seed)
    if found.low < found.high or (numerator < 0).any() or (numerator > denominator).any():
        return found
    low, high = ratio_bounds(rows, float(denominator.max()), 1 - level)
    return Interval(
        value=found.value,
        low=min(low, found.value),
        high=max(high, found.value),
        level=level,
        method="betting (distribution-free)",
    )


def binomial_tail(successes: int, n: int, p: float) -> float:
    """P(X <= successes) for X ~ Binomial(n, p), summed exactly in logarithms."""
    if successes >= n or p <= 0.0:
        return 1.0
    if successes < 0 or p >= 1.0:
        return 0.0
    k = np.arange(successes + 1, dtype=np.float64)
    logs = _log_choose(n)[: successes + 1] + k * math.log(p) + (n - k) * math.log1p(-p)
    top = float(logs.max())
    return min(1.0, math.exp(top) * float(np.exp(logs - top).sum()))


def _log_choose(n: int) -> Array:
    """log C(n, k) for k = 0..n."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1, dtype=np.float64)))])
    result: Array = logs[n] - logs - logs[::-1]
    return result


def _wilson(successes: int, n: int, level: float) -> Interval:
    """Score interval of a rate (Wilson 1927): covers with about `level` on average."""
    value, z = successes / n, float(ndtri((1 + level) / 2))
    centre = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return Interval(
        value=value, low=max(0.0, centre - half), high=min(1.0, centre + half), level=level, method="Wilson"
    )
