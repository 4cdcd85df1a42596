"""Choosing the thresholds of a cascade so that stated quality is kept, with one guarantee over all of its rungs.

Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052): each vector of thresholds of a plan is a null hypothesis
"the risk is above alpha". They are tested in the plan's order at level delta until the first that cannot be rejected;
the cheapest that was is used. The chance that its risk is above alpha is at most delta, whatever the distribution, when
the calibration items are independent draws of the traffic to come. Two conditions are the caller's: plan and confidence
maps come from other items, and the answers from the very versions that will serve. An item is looked at for a vector
only when that is tested.

Nothing certified means: always ask the incumbent.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bessemer.core.types import Frozen, Guarantee
from bessemer.evals.familywise import fixed_sequence
from bessemer.evals.outcomes import Outcomes, answered_by, checked
from bessemer.evals.paired import spent
from bessemer.evals.thresholds import Plan


class CurvePoint(Frozen, frozen=True):
    """A vector of thresholds, and what was seen of it on the calibration items."""

    thresholds: tuple[float, ...]
    shares: tuple[float, ...]
    """Of the items, the part that each rung answers, the incumbent last."""
    empirical_risk: float
    p_value: float | None
    """Of "the risk is above alpha"; None: not tested, because an earlier vector was not certified."""

    @property
    def accepted_share(self) -> float:
        """What is not handed over to the incumbent."""
        return 1.0 - self.shares[-1]


class ThresholdChoice(Frozen, frozen=True):
    """The outcome. `chosen` None: nothing is certified, so nothing may be accepted (never `Step.threshold` None)."""

    chosen: CurvePoint | None
    guarantee: Guarantee | None
    curve: tuple[CurvePoint, ...]
    reason: str
    """In words: why the incumbent alone, or in which rung the cascade ends, and why."""


class Population(NamedTuple):
    """What the calibration items are, and so what traffic a bound speaks of."""

    unit: str
    """"requests" or "distinct inputs"."""
    filter: str
    """What an item had to fulfil: "audit stream", "with feedback", "all"."""
    source: str
    period: tuple[str, str]
    """First and last day, ISO 8601, or "an unknown day"."""
    temperatures: Mapping[str, str]
    """Of each rung by name."""

    def sentence(self, n: int) -> str:
        """Say all of it."""
        answered = ", ".join(f"{name} at temperature {value}" for name, value in self.temperatures.items())
        first, last = self.period
        return (
            f"{n} {self.unit} ({self.filter}) of {self.source}, recorded from {first} to {last}, answered by {answered}"
        )


def certify(
    plan: Plan,
    items: Outcomes,
    *,
    delta: float,
    look: int = 1,
    names: Sequence[str] = (),
    population: Population | None = None,
    dataset_sha256: str = "",
    seed: int = 0,
) -> ThresholdChoice:
    """Test a plan on the calibration items, at what their k-th look may spend of delta, and state the outcome.

    `names` of the rungs, the incumbent last. Raises Unscorable for too many items without a score (others count as
    wrong), ValueError for values out of range.
    """
    if not (0 <= plan.rule.alpha < 1 and 0 < delta < 1):
        raise ValueError(f"alpha {plan.rule.alpha} must lie in [0, 1) and delta {delta} in (0, 1)")
    known, unscorable = checked(items, last_known=bool(plan.rule.references) or not _kept_only(plan))
    if plan.m and plan.thresholds.shape[1] != known.rungs:
        raise ValueError(f"the plan is for {plan.thresholds.shape[1]} rungs, the items are of {known.rungs}")
    names = names or (*(f"rung {rung + 1}" for rung in range(known.rungs)), "the incumbent")
    ordered = known.take(np.random.default_rng(seed).permutation(known.n))
    level, tested = spent(delta, look), []

    def p_values() -> Iterator[float]:
        for vector in plan.thresholds:
            tested.append(plan.rule.p_value(ordered, answered_by(ordered.confidence, vector), level))
            yield tested[-1]

    passed = fixed_sequence(p_values(), level)
    curve = _curve(plan, ordered, tested)
    if not passed:
        return ThresholdChoice(chosen=None, guarantee=None, curve=curve, reason=_nothing(plan, tested, level, names))
    chosen = curve[int(np.argmin(plan.cost[:passed]))]
    guarantee = _guarantee(plan, ordered, chosen, names, delta, look, dataset_sha256)
    statement = f"{guarantee.statement} {_details(plan, known.n, unscorable, population, delta, look)}"
    guarantee = _replace(guarantee, population, known.n, statement)
    return ThresholdChoice(chosen=chosen, guarantee=guarantee, curve=curve, reason=_ending(plan, chosen, names))
