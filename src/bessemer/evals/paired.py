"""Is a candidate worse than a reference? Tests, intervals and power of a paired difference, valid at any sample size.

Three kinds of scores, one interface (`Comparison`). Right or wrong (0/1): the exact unconditional test of Tango's score
statistic (Tango 1998; Hsueh, Liu & Chen 2001), its size maximised over the shares of discordant pairs that the items
leave open. Graded in [0, 1]: testing by betting (`betting.py`), distribution-free. Ratios of sums (F1): a bootstrap
with a floor. None of them needs a variance that a small sample may not show: without any discordant pair, n items still
only show what n items can.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri
from scipy.stats import beta, binom

from bessemer.core.types import Interval
from bessemer.evals.betting import BOLD, positive_mean
from bessemer.evals.metrics import Terms
from bessemer.evals.statistics import resampled_sums

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
_NUISANCE = 150
"""Shares of discordant pairs at which the exact test's size is taken; its maximum moves by less than 1 % beyond."""
_OPEN = 0.05
"""Part of alpha spent on bounding the share of discordant pairs."""
_NEGLIGIBLE = 1e-13
_TAIL_DRAWS, _RESAMPLES = 40, (10_000, 100_000)
"""A bootstrap draws so many samples that this many are expected beyond alpha, within these limits."""
_DRAWS = 200
"""Simulated samples from which the power of a betting test is read."""


class Comparison(Protocol):
    """A paired sample of candidate and reference."""

    @property
    def method(self) -> str:
        """The test's name."""
        ...

    @property
    def n(self) -> int:
        """Pairs."""
        ...

    @property
    def discordant(self) -> int:
        """Pairs on which the two scores differ."""
        ...

    @property
    def value(self) -> float:
        """Candidate minus reference."""
        ...

    def p_value(self, margin: float, alpha: float) -> float:
        """P-value of "the candidate is worse by margin or more"; `alpha` tunes what power there is, not validity."""
        ...

    def interval(self, alpha: float) -> Interval:
        """Interval of candidate minus reference that misses on either side with probability alpha at most."""
        ...

    def power(self, margin: float, alpha: float) -> float:
        """Chance that a candidate as good as the reference is found not worse, at this n and as much discordance."""
        ...


def compare(candidate: Sequence[Terms], reference: Sequence[Terms]) -> Comparison:
    """Return the comparison that suits the scores: item i of both is the same one. Raises ValueError for none.

    Means (every denominator 1) must lie in [0, 1]; numerators of ratios between 0 and their denominators.
    """
    left, right = (np.asarray(side, dtype=np.float64).reshape(-1, 2) for side in (candidate, reference))
    if left.shape != right.shape or not len(left):
        raise ValueError(f"a comparison needs pairs, not {len(left)} and {len(right)} items")
    both = np.concatenate([left, right])
    if (both[:, 0] < 0).any() or (both[:, 0] > both[:, 1]).any():
        raise ValueError("scores must lie between 0 and 1")
    if not (both[:, 1] == 1).all():
        return _Ratios(left, right)
    if np.isin(both[:, 0], (0.0, 1.0)).all():
        return Discordance(
            n=len(left),
            gained=int((left[:, 0] > right[:, 0]).sum()),
            lost=int((left[:, 0] < right[:, 0]).sum()),
        )
    return _Grades(left[:, 0] - right[:, 0])


def _edge(low: float, high: float, holds: Callable[[float], bool]) -> float:
    """Bisect for the largest value up to which `holds`."""
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


# -- right or wrong ---------------------------------------------------------------------------------------------------


def score_statistic(gained: npt.ArrayLike, lost: npt.ArrayLike, n: int, difference: float) -> Array:
    """Tango's score statistic of (gained − lost)/n against a true difference; large: above it.

    The variance is that of the restricted maximum likelihood estimate, so it does not vanish without discordant pairs.
    """
    b, c = np.asarray(gained, dtype=np.float64), np.asarray(lost, dtype=np.float64)
    second = -b - c + (2 * n - b + c) * difference
    third = -c * difference * (1 - difference)
    q = (np.sqrt(np.maximum(second * second - 8 * n * third, 0.0)) - second) / (4 * n)
    variance = n * (2 * q + difference * (1 - difference))
    above = b - c - n * difference
    infinite = np.where(above == 0, 0.0, np.copysign(np.inf, above))
    return np.divide(above, np.sqrt(np.maximum(variance, 0.0)), out=infinite, where=variance > 1e-12)


def score_interval(gained: int, lost: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Tango's asymptotic score interval of (gained − lost)/n."""
    z, value = float(ndtri((1 + level) / 2)), (gained - lost) / n
    low = _edge(-1.0, value, lambda d: float(score_statistic(gained, lost, n, d)) >= z)
    high = -_edge(-1.0, -value, lambda d: float(score_statistic(lost, gained, n, d)) >= z)
    return low, high


def _fewest_gains(discordant: Counts, n: int, difference: float, z: float) -> Counts:
    """Return, for each count d of discordant pairs, the fewest gains whose score statistic reaches z; d + 1: none."""
    low, high = np.full_like(discordant, -1), discordant + 1
    for _ in range(int(discordant.max()).bit_length() + 1):
        middle = (low + high) // 2
        open_ = high - low > 1
        reached = score_statistic(middle, discordant - middle, n, difference) >= z - 1e-9
        high = np.asarray(np.where(open_ & reached, middle, high), dtype=np.int64)
        low = np.asarray(np.where(open_ & ~reached, middle, low), dtype=np.int64)
    return high


def _chance(n: int, z: float, share: Array, tested: float, true: float) -> Array:
    """Return [shares]: how often the statistic against `tested` reaches z when the difference is `true`."""
    spread = 9.0 * np.sqrt(n * share * (1 - share)) + 9.0
    first, last = max(0.0, float((n * share - spread).min())), min(float(n), float((n * share + spread).max()))
    discordant = np.arange(int(first), int(last) + 1)
    fewest = _fewest_gains(discordant, n, tested, z)
    gaining = np.clip(np.divide(share + true, 2 * share, out=np.full_like(share, 0.5), where=share > 0), 0.0, 1.0)
    mass = binom.pmf(discordant[None, :], n, share[:, None])
    row, column = np.nonzero(mass > _NEGLIGIBLE)
    tail = binom.sf(fewest[column] - 1, discordant[column], gaining[row])
    return np.asarray(np.bincount(row, weights=mass[row, column] * tail, minlength=len(share)), dtype=np.float64)


def exact_p(gained: int, lost: int, n: int, difference: float, gamma: float = 1e-4) -> float:
    """P-value of "the true difference is `difference` or less" (−1 < difference < 1), valid at any n.

    The largest chance of a statistic as high as this, over all shares of discordant pairs that an exact interval of
    level 1 − gamma leaves open; gamma is added (Berger & Boos 1994).
    """
    z = float(score_statistic(gained, lost, n, difference))
    discordant, least = gained + lost, abs(difference)
    low = float(beta.ppf(gamma / 2, discordant, n - discordant + 1)) if discordant else 0.0
    high = float(beta.ppf(1 - gamma / 2, discordant + 1, n - discordant)) if discordant < n else 1.0
    low, high = max(low, least), max(high, least)
    share = low + (high - low) * np.linspace(0.0, 1.0, _NUISANCE)
    return min(1.0, float(_chance(n, z, share, difference, difference).max()) + gamma)


class Discordance(NamedTuple):
    """Pairs of right and wrong answers: those that only one of the two systems got right."""

    n: int
    gained: int
    """Right by the candidate alone."""
    lost: int
    """Right by the reference alone."""

    @property
    def method(self) -> str:
        """The test's name."""
        return "exact unconditional test of the paired difference, Tango's score statistic"

    @property
    def discordant(self) -> int:
        """Pairs that tell the two apart."""
        return self.gained + self.lost

    @property
    def value(self) -> float:
        """Candidate minus reference."""
        return (self.gained - self.lost) / self.n

    def p_value(self, margin: float, alpha: float) -> float:
        """P-value of a loss of margin or more."""
        return exact_p(self.gained, self.lost, self.n, -margin, alpha * _OPEN)

    def interval(self, alpha: float) -> Interval:
        """The exact test, inverted."""
        n, b, c = self.n, self.gained, self.lost
        return Interval(
            value=self.value,
            low=_edge(-1.0, self.value, lambda d: exact_p(b, c, n, d, alpha * _OPEN) <= alpha),
            high=-_edge(-1.0, -self.value, lambda d: exact_p(c, b, n, d, alpha * _OPEN) <= alpha),
            level=1 - 2 * alpha,
            method="exact paired difference",
        )

    def power(self, margin: float, alpha: float) -> float:
        """Of the score test at this share of discordant pairs (one pair at least)."""
        share = np.array([max(self.discordant, 1) / self.n])
        return float(_chance(self.n, -float(ndtri(alpha)), share, -margin, 0.0)[0])


# -- graded, and ratios of sums ---------------------------------------------------------------------------------------


def _mean_p(differences: Array, difference: float, alpha: float) -> Array:
    """P-values [...] of "the mean of differences [n, ...] in [−1, 1] is at most `difference`"."""
    return positive_mean(differences - difference, 1 + difference, alpha, BOLD)


class _Grades:
    """Differences of scores in [0, 1], in a fixed order that says nothing of them."""

    method = "betting on the paired difference (distribution-free)"

    def __init__(self, differences: Array) -> None:
        self._differences = np.random.default_rng(0).permutation(differences)
        self.n, self.discordant = len(differences), int((differences != 0).sum())

    @property
    def value(self) -> float:
        return float(self._differences.mean())

    def p_value(self, margin: float, alpha: float) -> float:
        return float(_mean_p(self._differences, -margin, alpha))

    def interval(self, alpha: float) -> Interval:
        d, value = self._differences, self.value
        low = _edge(-1.0, value, lambda v: v > -1 and float(_mean_p(d, v, alpha)) <= alpha)
        high = -_edge(-1.0, -value, lambda v: v > -1 and float(_mean_p(-d, v, alpha)) <= alpha)
        return Interval(value=value, low=low, high=high, level=1 - 2 * alpha, method="betting, paired difference")

    def power(self, margin: float, alpha: float) -> float:
        equal = np.clip(self._differences - self.value, -1.0, 1.0)
        drawn = np.random.default_rng(0).choice(equal, size=(self.n, _DRAWS))
        return float((_mean_p(drawn, -margin, alpha) <= alpha).mean())


class _Ratios:
    """Terms [n, 2] of a ratio of sums, such as F1.

    The bootstrap of the items alone takes what they do not show for impossible. So one item is added that speaks
    against the difference asked about as strongly as any can: it is drawn k times with the chance of a Poisson variable
    of mean 1, about what a rare item that n draws did not meet may still weigh (the "rule of three"). Approximate;
    decision 018 counts how often it errs.
    """

    method = "paired bootstrap with one item added at the worst"

    def __init__(self, candidate: Array, reference: Array) -> None:
        self._candidate, self._reference = candidate, reference
        self._largest = max(2.0, float(candidate[:, 1].max()), float(reference[:, 1].max()))
        self.n = len(candidate)
        self.discordant = int((candidate != reference).any(axis=1).sum())

    @property
    def value(self) -> float:
        return _ratio(self._candidate) - _ratio(self._reference)

    def _drawn(self, left: Array, right: Array, alpha: float) -> Array:
        """Resampled values of left − right, an item added at which only the right is right."""
        added = np.array([[0.0, self._largest / 2, self._largest, self._largest]])
        rows = np.concatenate([np.hstack([left, right]), added])
        sums = resampled_sums(rows, int(np.clip(_TAIL_DRAWS / alpha, *_RESAMPLES)), 0)
        return _ratios(sums[:, :2]) - _ratios(sums[:, 2:])

    def p_value(self, margin: float, alpha: float) -> float:
        drawn = self._drawn(self._candidate, self._reference, alpha)
        return float(1 + (drawn <= -margin).sum()) / (1 + len(drawn))

    def interval(self, alpha: float) -> Interval:
        low = float(np.quantile(self._drawn(self._candidate, self._reference, alpha), alpha))
        high = -float(np.quantile(self._drawn(self._reference, self._candidate, alpha), alpha))
        value = self.value
        return Interval(
            value=value, low=min(low, value), high=max(high, value), level=1 - 2 * alpha, method="paired bootstrap"
        )

    def power(self, margin: float, alpha: float) -> float:
        spread = float(self._drawn(self._candidate, self._reference, alpha).std())
        width = self.value - self.interval(alpha).low
        return float(ndtr((margin - width) / spread)) if spread else float(width <= margin)


def _ratios(sums: Array) -> Array:
    out = np.zeros(sums.shape[:-1])
    return np.asarray(np.divide(sums[..., 0], sums[..., 1], out=out, where=sums[..., 1] > 0))


def _ratio(terms: Array) -> float:
    return float(_ratios(terms.sum(axis=0)))


def spent(level: float, look: int) -> float:
    """Return what of an error level the k-th look at the same items may spend: level · 6/(π²k²), summing to level."""
    if look < 1:
        raise ValueError(f"looks are counted from 1, not {look}")
    return level * 6.0 / (math.pi * look) ** 2
