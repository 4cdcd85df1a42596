"""The gate: a stated statistical rule that a candidate passes or does not."""

from collections.abc import Sequence

import numpy as np

from bessemer.core.errors import InvalidRequest
from bessemer.core.types import GateResult
from bessemer.evals.metrics import Terms
from bessemer.evals.statistics import ratio_difference


def non_inferiority(
    candidate: Sequence[Terms | None],
    reference: Sequence[Terms | None],
    *,
    metric: str,
    margin: float,
    level: float = 0.95,
    max_unscorable: float = 0.05,
    resamples: int = 10_000,
    seed: int = 0,
) -> GateResult:
    """Pass when candidate − reference is at least −margin at the lower end of its paired-bootstrap interval.

    Position i of both is the same item; items that either could not be scored are left out, and the gate fails when
    they are more than `max_unscorable` of all, and when the metric is undefined on what is left (F1 without anything
    positive). The rule and its outcome are stated in words. Raises InvalidRequest when nothing is left, ValueError when
    the lists differ in length.
    """
    if margin < 0:
        raise ValueError(f"margin is {margin}; it is how much worse the candidate may be, at least 0")
    pairs = [(a, b) for a, b in zip(candidate, reference, strict=True) if a is not None and b is not None]
    missing = 1.0 - len(pairs) / len(candidate) if len(candidate) else 1.0
    rule = (
        f"Non-inferiority: passes when the lower end of the {level:.0%} paired-bootstrap interval of candidate − "
        f"reference in {metric} is at least −{margin:g}, with at most {max_unscorable:.0%} of the items unscorable."
    )
    if not pairs:
        raise InvalidRequest(
            "No item could be scored for both systems, so the gate has nothing to compare; check the metric."
        )
    left, right = (np.array([pair[side] for pair in pairs], dtype=np.float64) for side in (0, 1))
    if not (left[:, 1].any() and right[:, 1].any()):
        found = f"The {metric} of {len(pairs)} items is undefined, evaluate more: failed."
        return GateResult(passed=False, rule=f"{rule} {found}", difference=None, margin=margin)
    difference = ratio_difference(left, right, level=level, resamples=resamples, seed=seed)
    enough = missing <= max_unscorable
    passed = enough and difference.low >= -margin
    found = f"Found {difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}] on {len(pairs)} items"
    if not enough:
        outcome = f"{missing:.1%} of the items unscorable: failed."
    elif not passed:
        outcome = "failed."
    elif difference.low > 0:
        outcome = "passed, and the candidate is superior (the whole interval lies above 0)."
    else:
        outcome = "passed."
    return GateResult(passed=passed, rule=f"{rule} {found}: {outcome}", difference=difference, margin=margin)
