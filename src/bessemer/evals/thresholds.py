"""Threshold vectors to test, and their order: chosen on optimisation items, before the calibration items are seen.

Pareto testing (Laufer-Goldshtein et al. 2023, arXiv 2210.07913): of a grid of vectors those remain that no other one
beats in both risk and cost on the optimisation items. They are tested from the dearest, which risks least, to the
cheapest; the cheapest that passes is used. Any order is valid that the calibration items had no say in; a good one only
finds more.
"""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import rel_entr

from bessemer.evals.outcomes import ALWAYS, NEVER, Outcomes, answered_by, checked, cost_of
from bessemer.evals.risk import F1Loss, F1Target, KeptError, Loss, Rule

Array = npt.NDArray[np.float64]
_QUANTILES, _MOST_VECTORS, _CHUNK = 12, 30_000, 2_000_000
_SLACK = 2.0
"""Standard errors by which the risk on the optimisation items may exceed alpha for a vector to be worth a test."""


class ThresholdPlan(NamedTuple):
    """What will be tested: m vectors of thresholds in order, and what the optimisation items say of each."""

    rule: Rule
    thresholds: Array
    """[m, R]"""
    cost: Array
    """[m] mean cost of an item."""
    risk: Array
    """[m]; NaN where the optimisation items do not tell."""
    last: int
    """The rung in which the cascade ends; R: the incumbent."""
    floor: float | None
    """Least share of all items that the best single rung must hand over for the promise to be possible; None: not
    known."""

    @property
    def m(self) -> int:
        """Vectors."""
        return len(self.thresholds)


def plan(rule: Rule, optimise: Outcomes, cost: npt.ArrayLike, n: int) -> ThresholdPlan:
    """Return what to test on n calibration items. `cost` of asking each rung: [R + 1], or [items, R + 1].

    Where the best single rung beats the incumbent (by more than a standard error of the paired difference), the cascade
    ends in that rung, and is compared with both: the incumbent would cost more and be worse. Raises ValueError for no
    items, Unscorable for too many without a score.
    """
    items, _ = checked(optimise, last_known=rule.needs_incumbent)
    last = _best_rung(rule, items) if rule.needs_incumbent else items.rungs
    if last < items.rungs and rule.references and isinstance(rule, Loss | F1Loss):
        rule = dataclasses.replace(rule, references=(*rule.references, last))
    vectors = _vectors(items.confidence, last)
    risk, spent = _measured(rule, items, cost, vectors)
    error = math.sqrt(max(rule.alpha * (1 - rule.alpha), 0.25 / items.n) / items.n)
    good = risk <= rule.alpha + _SLACK * error
    vectors, risk, spent = vectors[good], risk[good], spent[good]
    order = pareto_front(risk, spent)
    vectors, risk, spent = vectors[order], risk[order], spent[order]
    if isinstance(rule, KeptError) and len(vectors):
        kept = (answered_by(items.confidence, vectors) < items.rungs).mean(axis=0)
        first = int(np.argmax(n * kept * divergence(risk, rule.alpha)))
        vectors, risk, spent = vectors[first:], risk[first:], spent[first:]
    return ThresholdPlan(rule, vectors, spent, risk, last, _floor(rule, items))


def nested(rule: Rule, grid: Sequence[float], floor: float | None = None) -> ThresholdPlan:
    """Return the plan of one rung before the incumbent, from strict to loose thresholds that fall strictly."""
    if not grid or list(grid) != sorted(set(grid), reverse=True):
        raise ValueError("the grid must fall strictly, from strict to loose")
    thresholds = np.asarray(grid, dtype=np.float64)[:, None]
    cost = np.arange(len(grid), 0, -1, dtype=np.float64)
    return ThresholdPlan(rule, thresholds, cost, np.full(len(grid), np.nan), 1, floor)


def pareto_front(risk: Array, cost: Array) -> npt.NDArray[np.intp]:
    """Return the places of vectors that none beats in both, from the dearest (least risk) to the cheapest."""
    order = np.lexsort((risk, cost))
    best = np.minimum.accumulate(np.concatenate([[np.inf], risk[order]]))[:-1]
    return np.asarray(order[risk[order] < best][::-1])


def _vectors(confidence: Array, last: int) -> Array:
    """Return the grid [V, R]: at most 12 quantiles of each rung's confidence, always, never; rung `last` always."""
    rungs = confidence.shape[1]
    free = [rung for rung in range(rungs) if rung < last]
    size = min(_QUANTILES, max(2, int(_MOST_VECTORS ** (1 / max(1, len(free)))) - 2))
    levels: list[Array] = []
    for rung in range(rungs):
        seen = confidence[:, rung][~np.isnan(confidence[:, rung])]
        if rung == last:
            levels.append(np.array([ALWAYS]))
        elif rung > last or not len(seen):
            levels.append(np.array([NEVER]))
        else:
            shares = np.linspace(1 / (size + 1), size / (size + 1), size)
            quantiles = np.unique(np.quantile(seen, shares, method="higher"))
            levels.append(np.concatenate([[ALWAYS], quantiles[quantiles > ALWAYS], [NEVER]]))
    return np.stack([axis.ravel() for axis in np.meshgrid(*levels, indexing="ij")], axis=1)


def _measured(rule: Rule, items: Outcomes, cost: npt.ArrayLike, vectors: Array) -> tuple[Array, Array]:
    """Return risk and mean cost [V] on the optimisation items."""
    risk, spent = np.empty(len(vectors)), np.empty(len(vectors))
    step = max(1, _CHUNK // items.n)
    for start in range(0, len(vectors), step):
        who = answered_by(items.confidence, vectors[start : start + step])
        risk[start : start + step] = rule.risk(items, who)
        spent[start : start + step] = cost_of(who, cost)
    return risk, spent


def _gain(rule: Rule, items: Outcomes, rung: int) -> Array:
    """Return what each item gains [n] when a rung answers instead of the incumbent, linearised for F1."""
    if isinstance(rule, F1Loss | F1Target) and items.terms is not None:
        own, other = items.terms[:, rung], items.terms[:, -1]
        numerator, denominator = other.sum(axis=0)
        f = numerator / denominator if denominator else 1.0
        return np.asarray((own @ (1.0, -f) - other @ (1.0, -f)) / max(float(own[:, 1].mean()), 1e-12))
    return np.asarray(items.quality[:, rung] - items.quality[:, -1])


def _best_rung(rule: Rule, items: Outcomes) -> int:
    """Return the best single rung if it beats the incumbent, the cheapest of equals, else R."""
    best, found = 0.0, items.rungs
    for rung in range(items.rungs):
        gain = np.where(np.isnan(items.confidence[:, rung]), 0.0, _gain(rule, items, rung))
        error = float(gain.std()) / math.sqrt(items.n)
        if float(gain.mean()) - error > best:
            best, found = float(gain.mean()), rung
    return found


def _floor(rule: Rule, items: Outcomes) -> float:
    """(μ − alpha)/(1 − alpha), μ the risk of the best rung if it kept everything (arXiv 2606.29054)."""
    if not items.rungs:
        return 1.0
    alone = np.full((items.rungs, items.rungs), NEVER)
    np.fill_diagonal(alone, ALWAYS)
    least = float(rule.risk(items, answered_by(items.confidence, alone)).min())
    return max(0.0, (least - rule.alpha) / (1.0 - rule.alpha))


def divergence(error: Array, alpha: float) -> Array:
    """KL(error ‖ alpha) of two Bernoulli variables, 0 for an error of alpha or more.

    m answers of error e < alpha are evidence of about m·KL(e ‖ alpha) nats against "it is above alpha" (Chernoff 1952).
    """
    below = np.minimum(error, alpha)
    return np.asarray(rel_entr(below, alpha) + rel_entr(1.0 - below, 1.0 - alpha))


def grid_from(scores: npt.ArrayLike, size: int = 100, strictest_share: float = 0.02) -> tuple[float, ...]:
    """Return thresholds from strict to loose: quantiles of scores of items that the choice itself does not see.

    The first accepts `strictest_share` of them, the last all.
    """
    values = np.asarray(scores, dtype=np.float64)
    if len(values) == 0 or not np.isfinite(values).all():
        raise ValueError("a grid needs at least one score, all finite")
    shares = np.linspace(min(strictest_share, 1.0), 1.0, size)
    quantiles = np.quantile(values, 1.0 - shares, method="higher")
    return tuple(sorted(set(quantiles.tolist()), reverse=True))


def grid_for_error(
    scores: npt.ArrayLike, small: npt.ArrayLike, n: int, *, alpha: float, size: int = 100
) -> tuple[float, ...]:
    """Return a grid for `KeptError` on n items, from the scores and qualities [0, 1] of other items.

    The first threshold that cannot be rejected ends the test, and a strict one accepts too few answers to show
    anything. So the grid begins where the other items promise most evidence (`divergence`).
    """
    values, wrong = np.asarray(scores, dtype=np.float64), 1.0 - np.asarray(small, dtype=np.float64)
    grid = grid_from(values, size)
    accepted = values[None, :] >= np.asarray(grid)[:, None]
    count = accepted.sum(axis=1)
    evidence = n * count / len(values) * divergence(accepted @ wrong / count, alpha)
    return grid[int(np.argmax(evidence)) :]


def halves(ids: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Split items in two by a stable hash of their ids: optimise on True, calibrate on False."""
    return np.array(
        [hashlib.blake2b(f"half:{i}".encode(), digest_size=1).digest()[0] % 2 == 0 for i in ids], dtype=bool
    )
