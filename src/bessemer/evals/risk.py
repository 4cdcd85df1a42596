"""What a cascade may promise, and the p-value of "the promise does not hold" at given thresholds.

A rule bounds a risk of the whole cascade by alpha: quality lost against the incumbent (`Loss`), F1 lost (`F1Loss`) or
kept above a target (`F1Target`), errors of all answers (`Error`), errors of those that are not handed over
(`KeptError`). Each p-value is valid at any number of items and for any distribution, but for an approximate `F1Loss`.
Items must stand in an order that says nothing of them (`certify` shuffles them).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from bessemer.evals.betting import BOLD, CAREFUL, log_wealth, p_value, positive_mean, ratio_bounds, stakes
from bessemer.evals.outcomes import Answering, Outcomes, of_answer
from bessemer.evals.paired import Discordance
from bessemer.evals.statistics import binomial_tail, resampled_sums

Array = npt.NDArray[np.float64]
_REFERENCE_SHARE = 0.1
"""Part of the error spent on bounding the incumbent's own F1."""
_RESAMPLES = 2_000


class Rule(Protocol):
    """What is promised. `references`: rungs, by index, that the cascade is compared with; none: with nothing."""

    @property
    def alpha(self) -> float:
        """Bound on the risk."""
        ...

    @property
    def metric(self) -> str:
        """What quality is called in the promise."""
        ...

    @property
    def references(self) -> tuple[int, ...]:
        """Indices of rungs, −1 the incumbent."""
        ...

    @property
    def distribution_free(self) -> bool:
        """Whether the p-values are valid for any distribution."""
        ...

    @property
    def needs_incumbent(self) -> bool:
        """Whether the incumbent's quality must be known."""
        ...

    def method(self, items: Outcomes) -> str:
        """Name the test that suits the items."""
        ...

    def promise(self, reference: str) -> str:
        """Say in words what is bounded; `reference`: what it is compared with."""
        ...

    def risk(self, items: Outcomes, who: Answering) -> Array:
        """Return the risk [V] seen on the items when `who` [n, V] answers."""
        ...

    def p_value(self, items: Outcomes, who: Answering, level: float) -> float:
        """Return the p-value of "the risk is above alpha" when `who` [n] answers; `level` tunes power, not validity."""
        ...


def _weights(items: Outcomes) -> Array:
    return np.ones(items.n) if items.weights is None else items.weights


def _weighted(items: Outcomes, values: Array) -> Array:
    """Weighted mean [V] of values [n, V]."""
    w = _weights(items)
    return np.asarray(w @ values / w.sum())


def _zero_one(values: Array) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


@lru_cache(maxsize=100_000)
def _discordant_p(n: int, gained: int, lost: int, alpha: float, level: float) -> float:
    return Discordance(n, gained, lost).p_value(alpha, level)


@dataclass(frozen=True)
class Loss:
    """Mean quality lost against each reference, over all items, is at most alpha."""

    alpha: float
    metric: str = "quality"
    references: tuple[int, ...] = (-1,)
    distribution_free: ClassVar[bool] = True
    needs_incumbent: ClassVar[bool] = True

    def _exact(self, items: Outcomes) -> bool:
        return items.weights is None and _zero_one(items.quality) and self.alpha > 0

    def method(self, items: Outcomes) -> str:
        """See `Rule`."""
        return "exact paired p-values" if self._exact(items) else "betting p-values"

    def promise(self, reference: str) -> str:
        """See `Rule`."""
        return f"the expected {self.metric} lost against always asking {reference} is at most {self.alpha:g}; this"

    def risk(self, items: Outcomes, who: Answering) -> Array:
        """See `Rule`."""
        own = of_answer(items.quality, who)
        lost = [_weighted(items, items.quality[:, [one]] - own) for one in self.references]
        return np.asarray(np.max(lost, axis=0))

    def p_value(self, items: Outcomes, who: Answering, level: float) -> float:
        """Right or wrong answers: the exact test of the paired difference; grades or weights: betting.

        Against several references the largest p-value counts (intersection-union test; Berger 1982).
        """
        own, found = of_answer(items.quality, who), 0.0
        for one in self.references:
            lost = items.quality[:, one] - own
            if self._exact(items):
                p = _discordant_p(items.n, int((lost < 0).sum()), int((lost > 0).sum()), self.alpha, level)
            else:
                p = float(positive_mean(_weights(items) * (self.alpha - lost), 1 - self.alpha, level))
            found = max(found, p)
        return found


@dataclass(frozen=True)
class Error:
    """Mean error (1 − quality) of all answers, the incumbent's own included, is at most alpha."""

    alpha: float
    metric: str = "accuracy"
    references: tuple[int, ...] = ()
    distribution_free: ClassVar[bool] = True
    needs_incumbent: ClassVar[bool] = True

    def method(self, items: Outcomes) -> str:
        """See `Rule`."""
        exact = items.weights is None and _zero_one(items.quality)
        return "exact binomial p-values" if exact else "betting p-values"

    def promise(self, reference: str) -> str:
        """See `Rule`."""
        del reference
        return f"the expected error (1 − {self.metric}) of all answers is at most {self.alpha:g}; this"

    def risk(self, items: Outcomes, who: Answering) -> Array:
        """See `Rule`."""
        return _weighted(items, 1.0 - of_answer(items.quality, who))

    def p_value(self, items: Outcomes, who: Answering, level: float) -> float:
        """Exact binomial tail of 0/1 errors, else betting."""
        return _error_p(1.0 - of_answer(items.quality, who), items.weights, self.alpha, level, CAREFUL)


@dataclass(frozen=True)
class KeptError:
    """Mean error of the answers that are not handed over to the incumbent is at most alpha.

    The incumbent's quality need not be known. Given how many are kept, their errors are independent draws.
    """

    alpha: float
    metric: str = "accuracy"
    references: tuple[int, ...] = ()
    distribution_free: ClassVar[bool] = True
    needs_incumbent: ClassVar[bool] = False

    def method(self, items: Outcomes) -> str:
        """See `Rule`."""
        exact = items.weights is None and _zero_one(items.quality[:, :-1])
        return "exact binomial p-values" if exact else "betting p-values"

    def promise(self, reference: str) -> str:
        """See `Rule`."""
        del reference
        return f"the expected error (1 − {self.metric}) of accepted answers is at most {self.alpha:g}; this"

    def risk(self, items: Outcomes, who: Answering) -> Array:
        """See `Rule`."""
        kept = _weights(items)[:, None] * (who < items.rungs)
        wrong, count = (kept * (1.0 - of_answer(items.quality, who))).sum(axis=0), kept.sum(axis=0)
        return np.asarray(np.divide(wrong, count, out=np.zeros_like(wrong), where=count > 0))

    def p_value(self, items: Outcomes, who: Answering, level: float) -> float:
        """As `Error`, of the answers that are kept."""
        kept = who < items.rungs
        if not kept.any():
            return 1.0
        weights = None if items.weights is None else items.weights[kept]
        # Grades spread, few answers are wrong altogether: bold stakes.
        return _error_p(1.0 - of_answer(items.quality, who)[kept], weights, self.alpha, level, BOLD)


def _error_p(wrong: Array, weights: Array | None, alpha: float, level: float, boldest: float) -> float:
    if weights is None and _zero_one(wrong):
        return binomial_tail(round(float(wrong.sum())), len(wrong), alpha)
    w = np.ones(len(wrong)) if weights is None else weights
    return float(positive_mean(w * (alpha - wrong), 1 - alpha, level, boldest))


# -- F1 ----------------------------------------------------------------------------------------------------------------


def _terms(items: Outcomes, largest: float) -> Array:
    if items.terms is None:
        raise ValueError("a rule on F1 needs the terms of every answer")
    t = items.terms
    if len(t) and ((t < 0).any() or (t[..., 0] > t[..., 1]).any() or t[..., 1].max() > largest):
        raise ValueError(f"terms must have 0 <= numerator <= denominator <= largest ({largest:g})")
    if items.weights is not None:
        raise ValueError("rules on F1 count each item once")
    return t


def _f1(sums: Array) -> Array:
    return np.divide(sums[..., 0], sums[..., 1], out=np.ones(sums.shape[:-1]), where=sums[..., 1] > 0)


def _answered(terms: Array, who: Answering) -> Array:
    """Terms of the answers given: [n, 2], or sums [V, 2]."""
    if who.ndim == 1:
        return np.asarray(terms[np.arange(len(terms)), who])
    return np.stack([np.take_along_axis(terms[..., part], who, axis=1).sum(axis=0) for part in (0, 1)], axis=-1)


@dataclass(frozen=True)
class F1Loss:
    """F1 of the cascade is at least each reference's minus alpha.

    F1 is no mean, but comparing it with a number f is: F1 >= f exactly when E[numerator − f·denominator] >= 0. With the
    reference's F1 at f0, F1(cascade) >= f0 − alpha exactly when E[Z] >= 0 for
    Z = num_c − num_i + f0·den_i − (f0 − alpha)·den_c, which is alpha·den wherever both answer alike: a paired, nearly
    noiseless test. f0 is not known; a tenth of the error bounds it in [low, high], and log-wealth is concave in f0, so
    testing both ends covers all between, at the same stakes. Those are made for `guess`, an F1 that is known without
    the items tested: on other items, or a half.
    """

    alpha: float
    metric: str = "F1"
    references: tuple[int, ...] = (-1,)
    largest: float = 2.0
    """Bounds an item's denominator in advance: 2 for a label, twice the number of attributes that an item can have."""
    guess: float = 0.5
    needs_incumbent: ClassVar[bool] = True
    approximate: bool = False
    """By a paired bootstrap of the items instead: tighter, and not distribution-free."""

    @property
    def distribution_free(self) -> bool:
        """See `Rule`."""
        return not self.approximate

    def method(self, items: Outcomes) -> str:
        """See `Rule`."""
        del items
        if self.approximate:
            return "paired bootstrap of the calibration items (approximate, not distribution-free)"
        return "betting p-values of the linearised F1"

    def promise(self, reference: str) -> str:
        """See `Rule`."""
        return f"{self.metric} is at least that of {reference} minus {self.alpha:g}; this"

    def risk(self, items: Outcomes, who: Answering) -> Array:
        """See `Rule`."""
        terms = _terms(items, self.largest)
        best = max(float(_f1(terms[:, one].sum(axis=0)[None, :])[0]) for one in self.references)
        return np.asarray(best - _f1(_answered(terms, who)))

    def p_value(self, items: Outcomes, who: Answering, level: float) -> float:
        """Return nine tenths of the error's p-value, scaled: the tenth is spent on the references' F1."""
        terms = _terms(items, self.largest)
        own, found = _answered(terms, who), 0.0
        if self.approximate:
            return max(self._below(own, terms[:, one]) for one in self.references)
        spent = level * _REFERENCE_SHARE / len(self.references)
        for one in self.references:
            bounds = _bounds(terms[:, one].tobytes(), self.largest, spent)
            found = max(found, self._against(own, terms[:, one], bounds, level * (1 - _REFERENCE_SHARE)))
        return min(1.0, found / (1 - _REFERENCE_SHARE))

    def _below(self, own: Array, reference: Array) -> float:
        """Share of resamples in which the F1 falls more than alpha below the reference's."""
        sums = resampled_sums(np.hstack([own, reference]), _RESAMPLES, 0)
        return float((_f1(sums[:, :2]) < _f1(sums[:, 2:]) - self.alpha).mean())

    def _against(self, own: Array, reference: Array, bounds: tuple[float, float], level: float) -> float:
        worst = self.largest  # numerators never exceed denominators, so Z >= −largest·((1 − f) + f)

        def gains(f: float) -> Array:
            return np.asarray(own @ (1.0, self.alpha - f) + reference @ (-1.0, f))

        stake = stakes(gains(self.guess), worst, level)
        low, high = (log_wealth(gains(f), stake, worst) for f in bounds)
        return float(p_value(np.minimum(low, high)))


@lru_cache(maxsize=256)
def _bounds(terms: bytes, largest: float, level: float) -> tuple[float, float]:
    return ratio_bounds(np.frombuffer(terms, dtype=np.float64).reshape(-1, 2), largest, level)


@dataclass(frozen=True)
class F1Target:
    """F1 of the cascade is at least `target`."""

    target: float
    metric: str = "F1"
    largest: float = 2.0
    references: tuple[int, ...] = ()
    distribution_free: ClassVar[bool] = True
    needs_incumbent: ClassVar[bool] = True

    @property
    def alpha(self) -> float:
        """How far below 1 the F1 may be."""
        return 1.0 - self.target

    def method(self, items: Outcomes) -> str:
        """See `Rule`."""
        del items
        return "betting p-values of the linearised F1"

    def promise(self, reference: str) -> str:
        """See `Rule`."""
        del reference
        return f"{self.metric} is at least {self.target:g}; this"

    def risk(self, items: Outcomes, who: Answering) -> Array:
        """See `Rule`."""
        return np.asarray(1.0 - _f1(_answered(_terms(items, self.largest), who)))

    def p_value(self, items: Outcomes, who: Answering, level: float) -> float:
        """See `Rule`."""
        own = _answered(_terms(items, self.largest), who)
        return float(positive_mean(own @ (1.0, -self.target), max(self.target, 1e-9) * self.largest, level))
