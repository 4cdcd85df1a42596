"""Testing by betting: distribution-free evidence that a bounded mean is positive (Waudby-Smith & Ramdas 2024).

Let Z_1, Z_2, … be independent, alike, and at least −W. A bettor stakes 0 <= λ_i < 1/W on each next item, knowing only
the ones before. If E[Z] <= 0, the wealth Π (1 + λ_i Z_i) is a non-negative supermartingale from 1, so by Ville's
inequality 1/max wealth is a valid p-value for any stakes, at any sample size, whatever the distribution's form. Stakes
only decide the power: the predictable plug-in sqrt(2 log(1/δ) / (n·variance so far)), at most a part of 1/W.

Items must come in an order that says nothing about their values; callers shuffle with a fixed seed.
"""

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CAREFUL, BOLD = 0.75, 0.98
"""Largest stakes, of 1/W. One item at the bound -W leaves the bold a fiftieth: for items that are seldom that bad."""
_COIN = 0.25
"""Variance of a coin between 0 and 1, the least that is presumed: a small W says nothing of how far items reach up."""
_FIXED_STAKES = np.geomspace(0.004, 0.98, 40)
"""Shares of the largest stake 1/W, for the mixture of constant bettors."""


def _checked(z: Array, worst: float) -> Array:
    if z.size and float(z.min()) < -worst - 1e-9:
        raise ValueError(f"an item lies at {z.min():g}, below the stated bound −{worst:g}")
    return np.maximum(z, -worst)


def stakes(z: Array, worst: float, delta: float, boldest: float = CAREFUL) -> Array:
    """Return λ [n, ...] for items z [n, ...]; row i depends on the rows before it alone."""
    n = len(z)
    seen = np.arange(1, n + 1, dtype=np.float64).reshape(-1, *[1] * (z.ndim - 1)) + 1.0
    prior = max((worst / 2) ** 2, _COIN)
    mean = np.cumsum(z, axis=0) / seen
    variance = (prior + np.cumsum((z - mean) ** 2, axis=0)) / seen
    before = np.concatenate([np.full_like(z[:1], prior), variance[:-1]])
    return np.asarray(np.minimum(np.sqrt(2 * math.log(1 / delta) / (n * before)), boldest / worst))


def log_wealth(z: Array, stake: Array, worst: float) -> Array:
    """Return the logarithm of the wealth after each item, [n, ...]."""
    return np.asarray(np.cumsum(np.log1p(stake * _checked(z, worst)), axis=0))


def p_value(wealth: Array) -> Array:
    """Return 1 over the largest wealth on the way, at most 1, from log-wealth [n, ...]."""
    return np.asarray(np.exp(-np.maximum(wealth.max(axis=0), 0.0)))


def positive_mean(z: Array, worst: float, delta: float, boldest: float = CAREFUL) -> Array:
    """Return p-values [...] of E[Z] <= 0 for items z [n, ...], each at least −worst; stakes are tuned for delta."""
    return p_value(log_wealth(z, stakes(z, worst, delta, boldest), worst))


def _mixture(z: Array, counts: Array, worst: float) -> float:
    """P-value of E[Z] <= 0 from a mixture of constant bettors: monotone in z, whatever the order of items."""
    wealth = counts @ np.log1p(_checked(z, worst)[:, None] * (_FIXED_STAKES / worst)[None, :])
    top = float(wealth.max())
    return min(1.0, math.exp(-(top + math.log(float(np.exp(wealth - top).mean())))))


def ratio_bounds(terms: Array, largest: float, delta: float) -> tuple[float, float]:
    """Return [low, high] that holds Σ numerator / Σ denominator of the population with probability 1 − delta.

    `terms` [n, 2] with 0 <= numerator <= denominator <= `largest`. A ratio f is ruled out from below when
    E[numerator − f·denominator] > 0 is shown at delta/2, from above likewise. The mixture's p-values are monotone in
    f, so that bisection finds the ends.
    """
    distinct, repeats = np.unique(terms, axis=0, return_counts=True)
    numerator, denominator, counts = distinct[:, 0], distinct[:, 1], repeats.astype(np.float64)

    def too_low(f: float) -> bool:
        return _mixture(numerator - f * denominator, counts, f * largest) <= delta / 2

    def too_high(f: float) -> bool:
        return _mixture(f * denominator - numerator, counts, (1 - f) * largest) <= delta / 2

    ruled_out, open_below = 0.0, 1.0
    open_above, ruled_out_above = 0.0, 1.0
    for _ in range(24):
        middle = (ruled_out + open_below) / 2
        ruled_out, open_below = (middle, open_below) if too_low(middle) else (ruled_out, middle)
        middle = (open_above + ruled_out_above) / 2
        open_above, ruled_out_above = (open_above, middle) if too_high(middle) else (middle, ruled_out_above)
    return ruled_out, ruled_out_above
