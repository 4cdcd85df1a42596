"""Recorded answers of every rung of a cascade to the same items: who answers at which thresholds, how well, for what.

Rungs stand in the order in which they are asked; the last one always answers and is called the incumbent. Rung r
answers the first time its confidence is at least its threshold: `inf` is never, 0 whatever it is able to answer.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Answering = npt.NDArray[np.intp]
"""Index of the rung that answers; R: the incumbent."""

NEVER, ALWAYS = float("inf"), 0.0
MOST_UNSCORABLE = 0.05
"""Share of items without a score above which nothing may be promised: they would decide."""


class TooManyUnscorable(ValueError):
    """Too many items could not be scored."""


class Outcomes(NamedTuple):
    """n items as R rungs and the incumbent answered them."""

    confidence: Array
    """[n, R] calibrated P(this rung's own answer is right); NaN where it failed: such an answer is handed over."""
    quality: Array
    """[n, R + 1] in [0, 1], the incumbent last; NaN: unscorable, or an incumbent that was not asked."""
    terms: Array | None = None
    """[n, R + 1, 2] (metrics.Terms), for rules on F1."""
    weights: Array | None = None
    """[n] in [0, 1]: how much of the population an item stands for. Of an audit with known P(asked): the smallest
    P(asked) of all over its own; of distinct inputs: how often one came over the most that one came."""

    @property
    def n(self) -> int:
        """Items."""
        return len(self.quality)

    @property
    def rungs(self) -> int:
        """Rungs before the incumbent."""
        return int(self.confidence.shape[1])

    def take(self, order: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> "Outcomes":
        """Return the items at these places."""
        terms = None if self.terms is None else self.terms[order]
        weights = None if self.weights is None else self.weights[order]
        return Outcomes(self.confidence[order], self.quality[order], terms, weights)


def checked(items: Outcomes, *, last_known: bool) -> tuple[Outcomes, float]:
    """Return items of which each has a score, and the share of those that had none.

    An unscorable answer counts as wrong; that of the incumbent, which others are compared with, as right. Raises
    Unscorable above 5 %, ValueError for no items or values out of range. `last_known` False: the rule does not need the
    incumbent's quality.
    """
    confidence, quality = (np.asarray(part, dtype=np.float64) for part in items[:2])
    n, rungs = confidence.shape
    if n == 0 or quality.shape != (n, rungs + 1):
        raise ValueError(f"{n} items of {rungs} rungs need qualities [{n}, {rungs + 1}]; at least one item is needed")
    if np.isinf(confidence).any():
        raise ValueError("a confidence must be finite, or NaN where a rung failed")
    needed = quality if last_known else quality[:, :-1]
    # A rung that failed hands over: the quality of what it did not say is not asked for.
    silent = np.concatenate([np.isnan(confidence), np.zeros((n, 1), dtype=bool)], axis=1)[:, : needed.shape[1]]
    missing = np.isnan(needed) & ~silent
    share = float(missing.any(axis=1).mean())
    if share > MOST_UNSCORABLE:
        raise TooManyUnscorable(
            f"{share:.1%} of {n} items could not be scored, at most {MOST_UNSCORABLE:.0%} may: mend the grader, or "
            "leave them out of the population by a filter that the statement names"
        )
    worst = np.zeros(rungs + 1)
    worst[-1] = 1.0
    filled = np.where(np.isnan(quality), worst, quality)
    if filled.min() < 0 or filled.max() > 1:
        raise ValueError("qualities must lie in [0, 1]")
    weights = items.weights
    if weights is not None and (weights.shape != (n,) or not ((weights >= 0) & (weights <= 1)).all()):
        raise ValueError("weights must lie in [0, 1], one for each item")
    return Outcomes(confidence, filled, items.terms, weights), share


def answered_by(confidence: Array, thresholds: npt.ArrayLike) -> Answering:
    """Return who answers, [n] at thresholds [R], or [n, V] at V vectors of them [V, R]."""
    t = np.asarray(thresholds, dtype=np.float64)
    vectors = np.atleast_2d(t)
    n, rungs = confidence.shape
    who = np.full((n, len(vectors)), rungs, dtype=np.intp)
    for rung in reversed(range(rungs)):
        who[confidence[:, rung, None] >= vectors[None, :, rung]] = rung
    return who[:, 0] if t.ndim == 1 else who


def of_answer(values: Array, who: Answering) -> Array:
    """Return what the answering rung has of values [n, R + 1]: [n] or [n, V]."""
    if who.ndim == 1:
        return np.asarray(values[np.arange(len(who)), who])
    return np.take_along_axis(values, who, axis=1)


def cost_of(who: Answering, cost: npt.ArrayLike) -> Array:
    """Return the mean cost of an item, [V] for who [n, V]: everybody up to the rung that answers is asked.

    `cost` of asking each rung once: [R + 1], or [n, R + 1] where it depends on the item.
    """
    reached = np.cumsum(np.asarray(cost, dtype=np.float64), axis=-1)
    spent = reached[who] if reached.ndim == 1 else of_answer(reached, who)
    return np.asarray(spent.mean(axis=0))
