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

from bessemer.core.routes import Guarantee
from bessemer.core.types import Frozen
from bessemer.evals.familywise import fixed_sequence
from bessemer.evals.outcomes import ALWAYS, NEVER, Outcomes, answered_by, checked
from bessemer.evals.paired import spent
from bessemer.evals.thresholds import ThresholdPlan


class CurvePoint(Frozen, frozen=True):
    """A vector of thresholds, and what was seen of it on the calibration items."""

    thresholds: tuple[float | None, ...]
    """Of each rung before the incumbent; None: it is not asked."""
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
    plan: ThresholdPlan,
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

    `names` of the rungs (version ids), the incumbent last. Raises Unscorable for too many items without a score (fewer
    count as wrong), ValueError for values out of range.
    """
    rule = plan.rule
    if not (0 <= rule.alpha < 1 and 0 < delta < 1):
        raise ValueError(f"alpha {rule.alpha} must lie in [0, 1) and delta {delta} in (0, 1)")
    known, unscorable = checked(items, last_known=rule.needs_incumbent)
    if plan.m and plan.thresholds.shape[1] != known.rungs:
        raise ValueError(f"the plan is for {plan.thresholds.shape[1]} rungs, the items are of {known.rungs}")
    versions = tuple(names)
    names = names or (*(f"rung {rung + 1}" for rung in range(known.rungs)), "the incumbent")
    ordered = known.take(np.random.default_rng(seed).permutation(known.n))
    level, tested = spent(delta, look), list[float]()

    def p_values() -> Iterator[float]:
        for vector in plan.thresholds:
            tested.append(rule.p_value(ordered, answered_by(ordered.confidence, vector), level))
            yield tested[-1]

    passed = fixed_sequence(p_values(), level)
    curve = _curve(plan, ordered, tested)
    if not passed:
        return ThresholdChoice(chosen=None, guarantee=None, curve=curve, reason=_nothing(plan, tested, level, names))
    chosen = curve[int(np.argmin(plan.cost[:passed]))]
    guarantee = Guarantee(
        metric=rule.metric,
        method=f"Learn then Test, fixed sequence, {rule.method(ordered)}",
        alpha=rule.alpha,
        delta=delta,
        n=known.n,
        dataset_sha256=dataset_sha256,
        statement=" ".join(
            [
                _promise(plan, chosen, names, delta, known.n),
                *([] if population is None else [f"The items: {population.sentence(known.n)}."]),
                *([f"{unscorable:.2%} of them could not be scored and count as wrong."] if unscorable else []),
                *([] if plan.floor is None else [f"At least {plan.floor:.2%} must be handed over for such a bound."]),
                f"This is look {look} at them and spends {level:.4g} of delta {delta:g}, which all looks share.",
            ]
        ),
        delta_spent=level,
        look=look,
        population=None if population is None else population.sentence(known.n),
        versions=versions,
        thresholds=chosen.thresholds,
        floor=plan.floor,
    )
    return ThresholdChoice(chosen=chosen, guarantee=guarantee, curve=curve, reason=_ending(plan, names))


def _curve(plan: ThresholdPlan, items: Outcomes, tested: Sequence[float]) -> tuple[CurvePoint, ...]:
    """Return every vector as it does on the items: to be read, after the choice was made."""
    if not plan.m:
        return ()
    who = answered_by(items.confidence, plan.thresholds)
    risk = plan.rule.risk(items, who)
    shares = np.stack([(who == rung).mean(axis=0) for rung in range(items.rungs + 1)], axis=1)
    return tuple(
        CurvePoint(
            thresholds=tuple(None if one == NEVER else one for one in vector.tolist()),
            shares=tuple(part.tolist()),
            empirical_risk=float(risk[place]),
            p_value=tested[place] if place < len(tested) else None,
        )
        for place, (vector, part) in enumerate(zip(plan.thresholds, shares, strict=True))
    )


def _promise(plan: ThresholdPlan, chosen: CurvePoint, names: Sequence[str], delta: float, n: int) -> str:
    rule = plan.rule
    asked = [
        name if threshold == ALWAYS else f"{name} with score >= {threshold:.6g}"
        for name, threshold in zip(names[:-1], chosen.thresholds, strict=True)
        if threshold is not None
    ]
    accepting = f"Accepting answers of {', then of '.join(asked)}, else of {names[-1]}"
    reference = " and ".join(dict.fromkeys(names[one] for one in rule.references))
    if rule.distribution_free:
        ending = (
            f"holds with probability at least {100 * (1 - delta):.4g}% over draws of {n} calibration items, "
            "for any distribution, as long as traffic is drawn as they were and the versions stay the same."
        )
    else:
        ending = (
            f"held in at least {100 * (1 - delta):.4g}% of bootstrap resamples of {n} calibration items; "
            "this is approximate and not distribution-free."
        )
    return f"{accepting}: {rule.promise(reference)} {ending}"


def _nothing(plan: ThresholdPlan, tested: Sequence[float], level: float, names: Sequence[str]) -> str:
    if not plan.m:
        return (
            f"{names[-1]} alone: no thresholds keep the risk near {plan.rule.alpha:g} even on the items that they were "
            "chosen on."
        )
    return (
        f"{names[-1]} alone: nothing is certified; the first thresholds tested have p = {tested[0]:.3g}, above "
        f"{level:.3g}. More calibration items, better rungs or a larger alpha would be needed."
    )


def _ending(plan: ThresholdPlan, names: Sequence[str]) -> str:
    if plan.last < len(names) - 1:
        return (
            f"The cascade ends in {names[plan.last]}: on the optimisation items it is better than {names[-1]}, which "
            "costs more and is asked only where it fails."
        )
    return f"The cascade ends in {names[-1]}."
