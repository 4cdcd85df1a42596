"""What a system's own logged answers say of it, where a route drew it at random: weighted by recorded propensities.

With verdicts alone the truth of an item is open wherever a system now answers otherwise than the one that was judged,
so the evaluation has bounds. Where the route drew this very version with known probabilities, the verdicts on what it
answered then are a sample of all items, and their weighted mean estimates its share of right answers (self-normalised
inverse propensity weighting: Swaminathan & Joachims, The Self-Normalized Estimator for Counterfactual Learning, 2015).
"""

import math
from collections.abc import Sequence

import numpy as np

from bessemer.core.datasets import Example
from bessemer.core.types import Interval
from bessemer.evals.statistics import terms_interval

METHOD = "self-normalised inverse propensity weighting of logged verdicts"
_LEAST = 30
"""Logged answers below which nothing is said."""
_ERRORS = 4.0
"""Standard errors by which the weights may miss the number of items before the draw is taken for no random one."""


def logged_accuracy(examples: Sequence[Example], version: str, *, seed: int = 0) -> Interval | None:
    """Return a version's share of right answers by the verdicts on what it answered when a route drew it.

    None where the estimate is not valid: an item without a recorded propensity, fewer than 30 judged answers, or a draw
    that could not have fallen on this version everywhere. The last is seen in the weights: 1/p over the answers of the
    version must sum to the number of items, within four standard errors. In a cascade, where the confidence decides
    who answers, it does not.
    """
    if any(example.propensity is None for example in examples):
        return None
    own = [(example.propensity or 0.0, example.verdict) for example in examples if example.version == version]
    if len(own) < _LEAST or any(verdict is None or not 0 < p <= 1 for p, verdict in own):
        return None
    weights = np.array([1 / p for p, _ in own])
    error = math.sqrt(float(np.sum(weights * (weights - 1))))
    if abs(float(weights.sum()) - len(examples)) > _ERRORS * error:
        return None
    right = np.array([bool(verdict) for _, verdict in own], dtype=np.float64)
    found = terms_interval(np.column_stack([weights * right, weights]), seed=seed)
    return Interval(value=found.value, low=found.low, high=found.high, level=found.level, method=METHOD)
