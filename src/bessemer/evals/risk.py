"""Choosing a cascade's threshold so that stated quality is kept, with a distribution-free guarantee.

Learn then Test (Angelopoulos et al. 2021): every threshold of a grid is a null hypothesis "the risk is above α". They
are tested from strict to loose, each at level δ, until the first that cannot be rejected (fixed-sequence testing); the
loosest rejected one is chosen. The chance that its risk is above α is at most δ, whatever the data's distribution, when
calibration items are independent draws of the traffic to come. Two conditions are the caller's: the grid and the
scores (their calibration map included) come from other items than those given here (`grid_from`, `halves`), and
the answers come from the very versions that will serve.

An answer is accepted when its score is at least the threshold. Nothing certified means: always escalate.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import rel_entr

from bessemer.core.types import Frozen, Guarantee
from bessemer.evals.betting import BOLD, Array, log_wealth, p_value, positive_mean, ratio_bounds, stakes
from bessemer.evals.statistics import binomial_tail, resampled_sums

_REFERENCE_SHARE = 0.1
"""Part of δ spent on bounding the incumbent's own F1."""


class CurvePoint(Frozen, frozen=True):
    """A threshold: the share of items accepted at it, the risk seen on them, and the p-value of "risk above α"."""

    threshold: float
    accepted_share: float
    empirical_risk: float
    p_value: float


class ThresholdChoice(Frozen, frozen=True):
    """The outcome. `chosen` None: nothing is certified, so nothing may be accepted (never `Step.threshold` None)."""

    chosen: CurvePoint | None
    guarantee: Guarantee | None
    curve: tuple[CurvePoint, ...]


class _Rule(Frozen, frozen=True):
    """What is being promised."""

    metric: str
    method: str
    promise: str
    alpha: float
    delta: float
    dataset_sha256: str
    distribution_free: bool = True


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
    """Return a grid for `choose_by_error` on n items, from the scores and qualities [0, 1] of other items.

    The first threshold that cannot be rejected ends the test, and a strict one accepts too few answers to show
    anything. So the grid begins where the other items promise most: s·n accepted answers of error e < alpha are
    evidence of about s·n·KL(e ‖ alpha) nats against "the error is above alpha" (Chernoff 1952).
    """
    values, wrong = np.asarray(scores, dtype=np.float64), 1.0 - _bounded(small, "small")
    grid = grid_from(values, size)
    accepted = values[None, :] >= np.asarray(grid)[:, None]
    count = accepted.sum(axis=1)
    evidence = n * count / len(values) * _divergence(accepted @ wrong / count, alpha)
    return grid[int(np.argmax(evidence)) :]


def _divergence(error: Array, alpha: float) -> Array:
    """KL(error ‖ alpha) of two Bernoulli variables, 0 for an error of alpha or more."""
    below = np.minimum(error, alpha)
    return np.asarray(rel_entr(below, alpha) + rel_entr(1.0 - below, 1.0 - alpha))


def halves(ids: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Split items in two by a stable hash of their ids: fit the confidence map on True, choose on False."""
    return np.array(
        [hashlib.blake2b(f"half:{i}".encode(), digest_size=1).digest()[0] % 2 == 0 for i in ids], dtype=bool
    )


class _Accepted:
    """Which items are accepted at each threshold, in a fixed random order, as betting needs it."""

    def __init__(self, scores: npt.ArrayLike, grid: Sequence[float], sizes: Sequence[int], seed: int) -> None:
        values = np.asarray(scores, dtype=np.float64)
        if len(values) == 0 or not np.isfinite(values).all():
            raise ValueError("choosing a threshold needs at least one item, and finite scores")
        if any(size != len(values) for size in sizes):
            raise ValueError(f"{len(values)} scores, but {list(sizes)} values; give one of each per item")
        if not grid or list(grid) != sorted(set(grid), reverse=True):
            raise ValueError("the grid must fall strictly, from strict to loose")
        self.order = np.random.default_rng(seed).permutation(len(values))
        self.scores = values[self.order]
        self.mask = self.scores[:, None] >= np.asarray(grid, dtype=np.float64)[None, :]
        """[n, grid]"""
        self.count = self.mask.sum(axis=0)

    def sums(self, values: Array) -> Array:
        """Return [grid, ...]: sums over the items accepted at each threshold, of values [n, ...] in shuffled order."""
        return np.asarray(np.tensordot(self.mask.astype(np.float64), values, axes=(0, 0)))

    def choose(self, accepted: Array, escalated: Array) -> Array:
        """Return [n, grid]: `accepted` [n] where the threshold accepts, else `escalated` [n]."""
        return np.where(self.mask, accepted[:, None], escalated[:, None])


def _bounded(values: npt.ArrayLike, name: str) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if len(array) and (np.isnan(array).any() or array.min() < 0 or array.max() > 1):
        raise ValueError(f"{name} must lie in [0, 1]; leave unscorable items out")
    return array


def _check_levels(alpha: float, delta: float) -> None:
    if not (0 <= alpha < 1 and 0 < delta < 1):
        raise ValueError(f"alpha {alpha} must lie in [0, 1) and delta {delta} in (0, 1)")


def _choose(
    rule: _Rule, n: int, level: float, grid: Sequence[float], share: Array, risk: Array, p: Array
) -> ThresholdChoice:
    """Fixed-sequence testing at `level` from strict to loose."""
    curve = tuple(
        CurvePoint(threshold=float(t), accepted_share=float(s), empirical_risk=float(r), p_value=float(v))
        for t, s, r, v in zip(grid, share, risk, p, strict=True)
    )
    chosen: CurvePoint | None = None
    for point in curve:
        if point.p_value > level:
            break
        chosen = point
    if chosen is None:
        return ThresholdChoice(chosen=None, guarantee=None, curve=curve)
    if rule.distribution_free:
        ending = (
            f"holds with probability at least {100 * (1 - rule.delta):.4g}% over draws of {n} calibration items, "
            "for any distribution, as long as traffic is drawn as they were and the versions stay the same."
        )
    else:
        ending = (
            f"held in at least {100 * (1 - rule.delta):.4g}% of bootstrap resamples of {n} calibration items; "
            "this is approximate and not distribution-free."
        )
    guarantee = Guarantee(
        metric=rule.metric,
        method=rule.method,
        alpha=rule.alpha,
        delta=rule.delta,
        n=n,
        dataset_sha256=rule.dataset_sha256,
        statement=f"Accepting answers with score >= {chosen.threshold:.6g}: {rule.promise} {ending}",
    )
    return ThresholdChoice(chosen=chosen, guarantee=guarantee, curve=curve)


def choose_by_loss(
    scores: npt.ArrayLike,
    small: npt.ArrayLike,
    incumbent: npt.ArrayLike,
    *,
    alpha: float,
    delta: float,
    grid: Sequence[float],
    metric: str = "quality",
    dataset_sha256: str = "",
    seed: int = 0,
) -> ThresholdChoice:
    """Keep the expected quality lost against the incumbent at most alpha, over all requests.

    `small` and `incumbent` are the qualities in [0, 1] of both answers to each item (right or wrong, or graded). The
    loss of an accepted item is incumbent − small, of an escalated one 0.
    """
    _check_levels(alpha, delta)
    a, b = _bounded(small, "small"), _bounded(incumbent, "incumbent")
    accepted = _Accepted(scores, grid, (len(a), len(b)), seed)
    n = len(a)
    lost = (b - a)[accepted.order]
    p = positive_mean(accepted.choose(alpha - lost, np.full(n, alpha)), 1 - alpha, delta)
    rule = _Rule(
        metric=metric,
        method="Learn then Test, fixed sequence, betting p-values",
        promise=f"the expected {metric} lost against always asking the incumbent is at most {alpha:g}; this",
        alpha=alpha,
        delta=delta,
        dataset_sha256=dataset_sha256,
    )
    return _choose(rule, n, delta, grid, accepted.count / n, accepted.sums(lost) / n, p)


def choose_by_error(
    scores: npt.ArrayLike,
    small: npt.ArrayLike,
    *,
    alpha: float,
    delta: float,
    grid: Sequence[float],
    metric: str = "accuracy",
    dataset_sha256: str = "",
    seed: int = 0,
) -> ThresholdChoice:
    """Keep the error of accepted answers at most alpha, where the incumbent's answers are not known.

    `small` is the quality in [0, 1] of each answer; 0/1 values use the exact binomial tail, graded ones betting. Take
    the grid from `grid_for_error`.
    """
    _check_levels(alpha, delta)
    wrong = 1.0 - _bounded(small, "small")
    accepted = _Accepted(scores, grid, (len(wrong),), seed)
    wrong = wrong[accepted.order]
    errors = accepted.sums(wrong)
    count = accepted.count
    if np.isin(wrong, (0.0, 1.0)).all():
        method = "exact binomial p-values"
        p = np.array([binomial_tail(round(e), int(c), alpha) if c else 1.0 for e, c in zip(errors, count, strict=True)])
    else:
        method = "betting p-values"
        # An escalated item stakes nothing: its Z is 0. Grades spread, few answers are wrong altogether.
        p = positive_mean(accepted.choose(alpha - wrong, np.zeros(len(wrong))), 1 - alpha, delta, BOLD)
    rule = _Rule(
        metric=metric,
        method=f"Learn then Test, fixed sequence, {method}",
        promise=f"the expected error (1 − {metric}) of accepted answers is at most {alpha:g}; this",
        alpha=alpha,
        delta=delta,
        dataset_sha256=dataset_sha256,
    )
    rate = np.divide(errors, count, out=np.zeros_like(errors), where=count > 0)
    return _choose(rule, len(wrong), delta, grid, count / len(wrong), rate, p)


def _terms(values: npt.ArrayLike, largest: float, name: str) -> Array:
    array = np.asarray(values, dtype=np.float64).reshape(-1, 2)
    if len(array) and ((array < 0).any() or (array[:, 0] > array[:, 1]).any() or array[:, 1].max() > largest):
        raise ValueError(f"{name} must have 0 <= numerator <= denominator <= largest ({largest:g})")
    return array


def _f1(sums: Array) -> Array:
    return np.divide(sums[..., 0], sums[..., 1], out=np.ones(sums.shape[:-1]), where=sums[..., 1] > 0)


def choose_by_f1(
    scores: npt.ArrayLike,
    small: npt.ArrayLike,
    incumbent: npt.ArrayLike,
    *,
    alpha: float,
    delta: float,
    grid: Sequence[float],
    largest: float = 2.0,
    target: float | None = None,
    guess: float = 0.5,
    metric: str = "F1",
    dataset_sha256: str = "",
    seed: int = 0,
) -> ThresholdChoice:
    """Keep the cascade's F1 at least the incumbent's minus alpha, or at least `target` when that is given.

    `small` and `incumbent` are terms [n, 2] (metrics.Terms): F1 = Σ numerator / Σ denominator. `largest` bounds an
    item's denominator in advance: 2 for a label, twice the number of attributes an item can have for attributes.

    F1 is no mean, but comparing it with a number f is: F1 >= f exactly when E[numerator − f·denominator] >= 0. With the
    incumbent's F1 at f0, F1(cascade) >= f0 − alpha exactly when E[Z] >= 0 for
    Z = num_c − num_i + f0·den_i − (f0 − alpha)·den_c, which is alpha·den wherever both answer alike: a paired, nearly
    noiseless test. f0 is not known; a tenth of delta bounds it in [low, high], and log-wealth is concave in f0, so
    testing both ends covers all between, at the same stakes. Those are made for `guess`, an F1 that is known without
    the items given here: on other items, or a half.
    """
    _check_levels(alpha, delta)
    a, b = _terms(small, largest, "small"), _terms(incumbent, largest, "incumbent")
    accepted = _Accepted(scores, grid, (len(a), len(b)), seed)
    a, b = a[accepted.order], b[accepted.order]
    if target is not None:
        level, promise = delta, f"{metric} is at least {target:g}; this"
        p = positive_mean(accepted.choose(a @ (1.0, -target), b @ (1.0, -target)), max(target, 1e-9) * largest, delta)
    else:
        level, promise = delta * (1 - _REFERENCE_SHARE), f"{metric} is at least the incumbent's minus {alpha:g}; this"
        p = _paired_f1(accepted, a, b, alpha, level, ratio_bounds(b, largest, delta * _REFERENCE_SHARE), largest, guess)
    rule = _Rule(
        metric=metric,
        method="Learn then Test, fixed sequence, betting p-values of the linearised F1",
        promise=promise,
        alpha=alpha,
        delta=delta,
        dataset_sha256=dataset_sha256,
    )
    cascade = b.sum(axis=0) + accepted.sums(a - b)
    lost = (target if target is not None else _f1(b.sum(axis=0)[None, :])[0]) - _f1(cascade)
    return _choose(rule, len(a), level, grid, accepted.count / len(a), lost, p)


def _paired_f1(
    accepted: _Accepted,
    small: Array,
    incumbent: Array,
    alpha: float,
    level: float,
    reference: tuple[float, float],
    largest: float,
    guess: float,
) -> Array:
    """P-values [grid] of "F1(cascade) < F1(incumbent) − alpha", the incumbent's F1 anywhere in `reference`.

    The same stakes at both ends, so that log-wealth after each item is concave in between; no item but those before it
    decides a stake.
    """
    worst = largest  # numerators never exceed denominators, so Z >= −largest·((1 − f) + f)

    def gains(f: float) -> Array:
        fixed = incumbent @ (-1.0, f)
        return accepted.choose(small @ (1.0, alpha - f) + fixed, incumbent @ (1.0, alpha - f) + fixed)

    stake = stakes(gains(guess), worst, level)
    low, high = (log_wealth(gains(f), stake, worst) for f in reference)
    return p_value(np.minimum(low, high))


def choose_by_bootstrap(
    scores: npt.ArrayLike,
    small: npt.ArrayLike,
    incumbent: npt.ArrayLike,
    *,
    alpha: float,
    delta: float,
    grid: Sequence[float],
    metric: str = "F1",
    dataset_sha256: str = "",
    resamples: int = 2_000,
    seed: int = 0,
) -> ThresholdChoice:
    """As `choose_by_f1`, by a paired bootstrap of the calibration items: tighter, approximate, not distribution-free.

    The p-value is the share of resamples in which the cascade's F1 falls more than alpha below the incumbent's.
    """
    _check_levels(alpha, delta)
    a, b = _terms(small, math.inf, "small"), _terms(incumbent, math.inf, "incumbent")
    accepted = _Accepted(scores, grid, (len(a), len(b)), seed)
    a, b = a[accepted.order], b[accepted.order]
    p = np.empty(len(grid))
    for index, threshold in enumerate(grid):
        cascade = np.where((accepted.scores >= threshold)[:, None], a, b)
        sums = resampled_sums(np.hstack([cascade, b]), resamples, seed)
        p[index] = float((_f1(sums[:, :2]) < _f1(sums[:, 2:]) - alpha).mean())
    rule = _Rule(
        metric=metric,
        method="paired bootstrap of the calibration items (approximate, not distribution-free)",
        promise=f"{metric} is at least the incumbent's minus {alpha:g}; this",
        alpha=alpha,
        delta=delta,
        dataset_sha256=dataset_sha256,
        distribution_free=False,
    )
    lost = _f1(b.sum(axis=0)[None, :])[0] - _f1(b.sum(axis=0) + accepted.sums(a - b))
    return _choose(rule, len(a), delta, grid, accepted.count / len(a), lost, p)
