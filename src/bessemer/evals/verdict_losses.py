"""Losses of a softmax over labels that learn from verdicts: one answer was shown, and called right or wrong.

Each returns a mean loss and its gradient on the logits, for any model that makes logits (a linear one multiplies the
gradient by its features). Weights (trust, class weights) are relative: their scale does not matter, and a row of weight
0 is as if it were not there.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

LARGEST_WEIGHT = 20.0
"""Clip of 1/propensity: above it variance grows faster than bias shrinks (Ionides 2008)."""


class LossAndGradient(NamedTuple):
    """A mean loss over rows, and its gradient on the logits [n, K]."""

    value: float
    gradient: Array


def not_this(
    logits: Array, answers: Labels, right: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> LossAndGradient:
    """Right answers are labels, wrong ones exclude one: L = −Σ w [r log p_a + (1 − r) log(1 − p_a)] / Σ w.

    `logits` [n, K >= 2]; `answers` [n] are the labels a that were shown, or demonstrated (then r = 1); `right` [n] is
    r, 0 or 1, or a grade in between. Gradients: w (p − e_a) of a right answer, w p_a/(1 − p_a) (e_a − p) of a wrong
    one (unlikelihood; Welleck et al. 2020, arXiv 1908.04319). The latter is formed as p − softmax of the other labels,
    which is the same and stays finite where p_a is 1. Needs no propensities.
    """
    w, rows = _weights(weights, len(logits)), np.arange(len(logits))
    r = np.asarray(right, dtype=np.float64)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError("verdicts need logits of at least two labels")
    if len(r) and not ((r >= 0) & (r <= 1)).all():
        raise ValueError("a verdict is 0 (wrong), 1 (right) or between; leave rows without one out, or weight them 0")
    gradient, top = _softmax(logits)
    value = float(w @ (r * (top - logits[rows, answers])))
    wrong = np.flatnonzero(r < 1)
    if len(wrong):
        without = logits[wrong]
        without[np.arange(len(wrong)), answers[wrong]] = -np.inf
        others, rest = _softmax(without)
        value += float((w * (1 - r))[wrong] @ (top[wrong] - rest))
        gradient[wrong] -= (1 - r)[wrong, None] * others
    gradient[rows, answers] -= r
    gradient *= w[:, None]
    return LossAndGradient(value, gradient)


def _softmax(logits: Array) -> tuple[Array, Array]:
    """Return the softmax of each row, and the logarithm of what it is divided by."""
    highest = logits.max(axis=1)
    p = np.exp(logits - highest[:, None])
    total = p.sum(axis=1)
    p /= total[:, None]
    return p, highest + np.log(total)


def doubly_robust(
    predicted: Array,
    answers: Labels,
    rewards: npt.ArrayLike,
    propensities: npt.ArrayLike,
    largest: float = LARGEST_WEIGHT,
) -> Array:
    """Return rewards of all labels [n, K]: r̂_k = q_k + 1[k = a]/π_a (r − q_a) (Dudík, Langford & Li 2011).

    `predicted` [n, K] is q, P(right) of each label by a model of these verdicts (that of `not_this`, fitted on other
    rows); `propensities` [n] is π_a, the probability with which the label a was shown. Unbiased when either π or q is
    right; 1/π is clipped at `largest`.
    """
    rows, q = np.arange(len(predicted)), np.array(predicted, dtype=np.float64)
    inverse = np.minimum(1.0 / _chances(propensities), largest)
    q[rows, answers] += inverse * (np.asarray(rewards, dtype=np.float64) - q[rows, answers])
    return q


def expected_reward(logits: Array, rewards: Array, weights: npt.ArrayLike | None = None) -> LossAndGradient:
    """L = −Σ w Σ_k p_k r_k / Σ w: exact, of all labels; gradient −w p_k (r_k − Σ_j p_j r_j)."""
    w = _weights(weights, len(logits))
    p = softmax(logits, axis=1)
    expected = (p * rewards).sum(axis=1)
    return LossAndGradient(-float(w @ expected), -w[:, None] * p * (rewards - expected[:, None]))


def right_only(
    logits: Array,
    answers: Labels,
    right: npt.ArrayLike,
    propensities: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    largest: float = LARGEST_WEIGHT,
) -> LossAndGradient:
    """Cross-entropy on right answers, each weighted by 1/π: what the shown label would cover, had all been shown."""
    inverse = np.minimum(1.0 / _chances(propensities), largest)
    kept = np.asarray(right, dtype=np.float64) * inverse * _weights(weights, len(logits))
    return not_this(logits, answers, np.ones(len(logits)), kept)


def _weights(weights: npt.ArrayLike | None, n: int) -> Array:
    """Return weights that sum to 1."""
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (n,) or not np.isfinite(w).all() or (w < 0).any():
        raise ValueError(f"{n} rows need as many weights, each at least 0")
    total = float(w.sum())
    if total == 0:
        raise ValueError("every row has weight 0: there is nothing to learn from")
    return w / total


def _chances(propensities: npt.ArrayLike) -> Array:
    chances = np.asarray(propensities, dtype=np.float64)
    if not ((chances > 0) & (chances <= 1)).all():
        raise ValueError("a propensity is a probability above 0: store it with the label that was shown")
    return chances
