"""The gate: a stated statistical rule that a candidate passes or does not."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from bessemer.core.errors import InvalidRequest
from bessemer.core.evaluations import GateResult
from bessemer.core.types import Interval
from bessemer.evals.metrics import ItemTerms, Terms, Unknown
from bessemer.evals.paired import Comparison, compare, spent

_MAX_UNSCORED = 0.05
"""Share of items that neither system has a score for, above which a gate fails: they say nothing either way."""


class _Pairs(NamedTuple):
    candidate: list[Terms]
    reference: list[Terms]
    unknown: int
    unscored: int


def non_inferiority(
    candidate: Sequence[ItemTerms],
    reference: Sequence[ItemTerms],
    *,
    metric: str,
    margin: float,
    alpha: float = 0.025,
    look: int = 1,
    min_items: int = 1,
    min_discordant: int = 0,
    same: Sequence[bool] = (),
) -> GateResult:
    """Pass when a loss of `margin` or more is refuted at what the k-th look may spend of alpha (`paired.spent`).

    Position i of both is the same item; `same[i]` says that the two answers are, too. A score that only one of them
    has, or that is not known, counts against the candidate; items without any score are left out, and the gate fails
    when they are more than 5 % of all. It also fails below the floors, and when the metric is undefined on the items
    (F1 without anything positive). The rule and its outcome are stated in words. Raises InvalidRequest when no item is
    left, or scores lie outside [0, 1].
    """
    if not 0 <= margin < 1:
        raise ValueError(f"margin is {margin}; it is how much worse the candidate may be, at least 0 and below 1")
    pairs = _paired(candidate, reference, same)
    level = spent(alpha, look)
    rule = (
        f"Non-inferiority: passes when the lower end of the {1 - 2 * level:.2%} interval of candidate − reference in "
        f"{metric} is at least −{margin:g}: the chance that a candidate worse by that passes is at most {level:.2g} in "
        f"this look, number {look} at these items, and {alpha:g} over all looks. At least {min_items} items and "
        f"{min_discordant} discordant pairs, at most {_MAX_UNSCORED:.0%} of the items without any score."
    )
    counts = f"{len(pairs.candidate)} items"
    if pairs.unknown:
        counts += f" ({pairs.unknown} with a score that is not known, counted against the candidate)"
    result = GateResult(
        passed=False,
        rule=rule,
        difference=None,
        margin=margin,
        n=len(pairs.candidate),
        unknown=pairs.unknown,
        look=look,
        alpha=level,
    )
    if not all(any(term.denominator for term in side) for side in (pairs.candidate, pairs.reference)):
        return _said(result, f"The {metric} of {counts} is undefined, evaluate more: failed.")
    try:
        comparison = compare(pairs.candidate, pairs.reference)
    except ValueError as error:
        raise InvalidRequest(f"The gate cannot compare these scores: {error}.", param="grader") from error
    lacking = _lacking(pairs, comparison, min_items, min_discordant)
    return _decide(result, comparison, counts, lacking)


def _decide(result: GateResult, comparison: Comparison, counts: str, lacking: str | None) -> GateResult:
    assert result.alpha is not None
    p = comparison.p_value(result.margin, result.alpha)
    held = p <= result.alpha
    power = comparison.power(result.margin, result.alpha)
    difference = _consistent(comparison.interval(result.alpha), result.margin, held=held)
    result = msgspec.structs.replace(
        result,
        passed=held and lacking is None,
        difference=difference,
        discordant=comparison.discordant,
        p_value=p,
        power=power,
        method=comparison.method,
    )
    outcome = f"{lacking}: failed" if lacking else ("passed" if held else "failed")
    if result.passed and difference.low > 0:
        outcome += ", and the candidate is superior (the whole interval lies above 0)"
    return _said(
        result,
        f"Found {difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}] on {counts}, "
        f"{comparison.discordant} discordant, p = {p:.2g} ({comparison.method}). A candidate as good as the reference "
        f"passes about {power:.0%} of the time with items like these: {outcome}.",
    )


def _said(result: GateResult, found: str) -> GateResult:
    return msgspec.structs.replace(result, rule=f"{result.rule} {found}")


def _lacking(pairs: _Pairs, comparison: Comparison, min_items: int, min_discordant: int) -> str | None:
    """Say what the items lack for a decision, None when nothing."""
    unscored = pairs.unscored / (comparison.n + pairs.unscored)
    if unscored > _MAX_UNSCORED:
        return f"{unscored:.1%} of the items unscorable"
    if comparison.n < min_items:
        return f"{comparison.n} items are fewer than {min_items}, evaluate more"
    if comparison.discordant < min_discordant:
        return f"{comparison.discordant} discordant pairs are fewer than {min_discordant}, so the metric shows nothing"
    return None


def _consistent(interval: Interval, margin: float, *, held: bool) -> Interval:
    """The test decides, its inversion is found by bisection: the end that is shown lies where the test says."""
    low = max(interval.low, -margin) if held else min(interval.low, -margin - 1e-6)
    return msgspec.structs.replace(interval, low=low)


def _paired(candidate: Sequence[ItemTerms], reference: Sequence[ItemTerms], same: Sequence[bool]) -> _Pairs:
    left: list[Terms] = []
    right: list[Terms] = []
    unknown = unscored = 0
    for index, (a, b) in enumerate(zip(candidate, reference, strict=True)):
        if a is None and b is None:
            unscored += 1
            continue
        if isinstance(a, Terms) and isinstance(b, Terms):
            left.append(a)
            right.append(b)
            continue
        unknown += 1
        if isinstance(a, Unknown) and isinstance(b, Unknown) and index < len(same) and same[index]:
            left.append(a.worst)
            right.append(a.worst)
        else:
            left.append(_worst(a, b))
            right.append(_best(b, a))
    if not left:
        raise InvalidRequest(
            "No item could be scored for both systems, so the gate has nothing to compare; check the metric."
        )
    return _Pairs(left, right, unknown, unscored)


def _worst(score: ItemTerms, other: ItemTerms) -> Terms:
    if isinstance(score, Terms):
        return score
    return score.worst if score is not None else Terms(0.0, max(1.0, _weight(other)))


def _best(score: ItemTerms, other: ItemTerms) -> Terms:
    if isinstance(score, Terms):
        return score
    weight = max(1.0, _weight(other))
    return score.best if score is not None else Terms(weight, weight)


def _weight(score: ItemTerms) -> float:
    if score is None:
        return 1.0
    return score.denominator if isinstance(score, Terms) else score.best.denominator
