"""What a policy would have earned, from rewards of what another one did: importance weights and models of the reward.

Notation: in context i the logging policy showed action a_i with probability π_log(a_i) and earned r_i; the policy in
question would show it with π(a_i), so w_i = π(a_i)/π_log(a_i). q is a model of the reward: q(a_i) of what was shown,
q(π) = Σ_a π(a) q(a) of what would be. The formulas and names are those of Open Bandit Pipeline (Saito et al. 2021).
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from bessemer.core.types import Interval
from bessemer.evals.statistics import bootstrap

Array = npt.NDArray[np.float64]
LEAST_SHARE = 0.1
"""Effective sample size, of n, below which nothing is concluded."""


class OffPolicyValue(NamedTuple):
    """Estimates of the mean reward, with 95 % intervals where they decide."""

    ips: float
    """Σ w r / n: unbiased, of large variance."""
    snips: Interval
    """Σ w r / Σ w (Swaminathan & Joachims 2015)."""
    dm: float
    """Σ q(π) / n: as good as the model of the reward."""
    dr: Interval
    """Σ [q(π) + w (r − q(a))] / n: unbiased when π_log or q is right (Dudík, Langford & Li 2011)."""
    effective: float
    """(Σ w)² / Σ w²: how many items drawn by the policy itself tell as much."""
    n: int

    @property
    def conclusive(self) -> bool:
        """Whether enough of the items speak of this policy."""
        return self.effective >= LEAST_SHARE * self.n


def off_policy_value(
    rewards: npt.ArrayLike,
    logged: npt.ArrayLike,
    policy: npt.ArrayLike,
    predicted: npt.ArrayLike,
    predicted_policy: npt.ArrayLike,
    *,
    seed: int = 0,
) -> OffPolicyValue:
    """Return all estimates from [n] rewards r, π_log(a), π(a), q(a) and q(π).

    Raises ValueError for no items, unequal lengths, or a logged probability that is not above 0.
    """
    columns = [np.asarray(c, dtype=np.float64) for c in (rewards, logged, policy, predicted, predicted_policy)]
    r, chance, own, q, q_policy = columns
    if not len(r) or any(c.shape != r.shape for c in columns):
        raise ValueError("an estimate needs items, and as many of each value")
    if not ((chance > 0) & (chance <= 1)).all() or not ((own >= 0) & (own <= 1)).all():
        raise ValueError("what was shown had a probability above 0 under the logging policy, at most 1 under both")
    w = own / chance
    robust = q_policy + w * (r - q)
    return OffPolicyValue(
        ips=float((w * r).mean()),
        snips=_snips(w, r, seed),
        dm=float(q_policy.mean()),
        dr=_mean(robust, "doubly robust, normal"),
        effective=float(w.sum() ** 2 / (w @ w)) if w.any() else 0.0,
        n=len(r),
    )


def _snips(w: Array, r: Array, seed: int) -> Interval:
    if not w.any():  # the policy never does what was done
        return Interval(value=math.nan, low=-math.inf, high=math.inf, level=0.95, method="none")
    rows = np.column_stack([w * r, w])

    def ratio(sums: Array) -> Array:
        out: Array = np.full(sums.shape[:-1], np.nan)
        return np.divide(sums[..., 0], sums[..., 1], out=out, where=sums[..., 1] > 0)

    return bootstrap(rows, ratio, resamples=2_000, seed=seed, method="self-normalised weights, bootstrap")


def _mean(values: Array, method: str) -> Interval:
    value = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    half = float(ndtri(0.975)) * error
    return Interval(value=value, low=value - half, high=value + half, level=0.95, method=method)
