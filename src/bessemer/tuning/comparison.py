"""Whether a run's choice is better than its start: a paired interval over the validation rows."""

from collections.abc import Sequence

import numpy as np

from bessemer.core.types import Frozen
from bessemer.evals.metrics import Terms
from bessemer.evals.statistics import ratio_difference

_LEVEL = 0.95
_FEWEST_CHANGED = 8
"""Rows that differ below which nothing is claimed: the bootstrap of a handful of rows is too narrow."""


class CheckpointComparison(Frozen, frozen=True):
    """A run's chosen checkpoint against its start, on the same validation rows."""

    rows: int
    """That both could be scored on."""
    changed: int
    """Of these, rows on which they differ."""
    difference: float
    low: float
    high: float
    level: float
    """Of the interval: 95 %, shared among the checkpoints that the choice was made from (Bonferroni)."""

    @property
    def better(self) -> bool:
        """Whether the interval excludes that the choice is no better."""
        return self.low > 0 and self.changed >= _FEWEST_CHANGED


def compare(start: Sequence[Terms | None], chosen: Sequence[Terms | None], looks: int) -> CheckpointComparison | None:
    """Return the paired-bootstrap interval of chosen − start; None when no row could be scored on both sides.

    `looks`: checkpoints that were evaluated on these rows, of which the chosen one is the best.
    """
    pairs = [(a, b) for a, b in zip(start, chosen, strict=True) if a is not None and b is not None]
    before, after = (np.array([pair[side] for pair in pairs], dtype=np.float64).reshape(-1, 2) for side in (0, 1))
    if not pairs or not before[:, 1].any() or not after[:, 1].any():
        return None
    found = ratio_difference(after, before, level=1 - (1 - _LEVEL) / max(looks, 1))
    return CheckpointComparison(
        rows=len(pairs),
        changed=int((before != after).any(axis=1).sum()),
        difference=found.value,
        low=found.low,
        high=found.high,
        level=found.level,
    )
