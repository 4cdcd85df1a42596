"""Testing by betting: distribution-free evidence that a bounded mean is positive (Waudby-Smith & Ramdas 2024).

Let Z_i be independent, alike, and at least −W. If E[Z] <= 0, the wealth Π (1 + λ Z_i) of a bettor with a fixed stake
0 <= λ < 1/W has expectation at most 1, and so has the mean over many stakes. By Markov's inequality 1/wealth is a valid
p-value at any sample size, with no assumption about the distribution's form. Items in any order give the same value.
"""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_STAKES = np.geomspace(0.004, 0.98, 40)
"""Shares of the largest stake 1/W, from careful (noisy, many items) to bold (losses that are almost never seen)."""


def log_returns(z: Array, worst: float) -> Array:
    """Return [n, stakes]: log(1 + λ_j z_i), where every z_i is at least −worst and λ_j = stake_j / worst."""
    if len(z) and float(z.min()) < -worst - 1e-9:
        raise ValueError(f"an item lies at {z.min():g}, below the stated bound −{worst:g}")
    return np.asarray(np.log1p(np.maximum(z, -worst)[:, None] * (_STAKES / worst)[None, :]))


def p_values(log_wealth: Array) -> Array:
    """Return p [...] from log-wealth per stake [..., stakes]: 1 over the mean wealth, at most 1."""
    top = log_wealth.max(axis=-1, keepdims=True)
    mean = np.log(np.exp(log_wealth - top).mean(axis=-1)) + top[..., 0]
    return np.asarray(np.exp(-np.maximum(mean, 0.0)))


def positive_mean(z: Array, worst: float) -> float:
    """Return the p-value of E[Z] <= 0 for items z, each at least −worst."""
    return float(p_values(log_returns(z, worst).sum(axis=0)))


def ratio_bounds(terms: Array, largest: float, delta: float) -> tuple[float, float]:
    """Return [low, high] that holds Σ numerator / Σ denominator of the population with probability 1 − delta.

    `terms` [n, 2] with 0 <= numerator <= denominator <= `largest`. A ratio f is ruled out from below when
    E[numerator − f·denominator] > 0 is shown at delta/2, from above likewise; found by bisection (the p-values are
    monotone in f).
    """
    numerator, denominator = terms[:, 0], terms[:, 1]

    def at_least(f: float) -> bool:
        return positive_mean(numerator - f * denominator, f * largest) <= delta / 2

    def at_most(f: float) -> bool:
        return positive_mean(f * denominator - numerator, (1 - f) * largest) <= delta / 2

    low, high = 0.0, 1.0
    below, above = (1e-6, 1.0 - 1e-6), (1e-6, 1.0 - 1e-6)
    for _ in range(30):
        middle = sum(below) / 2
        below = (middle, below[1]) if at_least(middle) else (below[0], middle)
        middle = sum(above) / 2
        above = (above[0], middle) if at_most(middle) else (middle, above[1])
    low = below[0] if at_least(below[0]) else low
    high = above[1] if at_most(above[1]) else high
    return low, high
