"""Sums of measured figures, some of which may be unknown."""

import math
from collections.abc import Sequence


def total(values: Sequence[float | None]) -> float | None:
    """Return the exactly rounded sum; None when any value is unknown: a sum without it would be a claim."""
    known = [value for value in values if value is not None]
    return math.fsum(known) if len(known) == len(values) else None


def count(values: Sequence[int | None]) -> int | None:
    """Return the sum of whole numbers; None when any is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
