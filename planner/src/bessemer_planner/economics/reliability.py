"""Failures: availability, and the spares that keep k of n machines up."""

import math

from bessemer_planner.errors import Unsatisfiable


def availability(failures_per_hour: float, repair_hours: float) -> float:
    """Return the share of time that a machine is up: MTBF / (MTBF + MTTR)."""
    return 1.0 / (1.0 + failures_per_hour * repair_hours)


def k_of_n(k: int, n: int, up: float) -> float:
    """Return the probability that at least k of n machines are up, each on its own with probability `up`."""
    if k > n:
        return 0.0
    if up >= 1.0 or k == 0:
        return 1.0
    log_up, log_down = math.log(up), math.log1p(-up)
    terms = (
        math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * log_up + (n - i) * log_down)
        for i in range(k, n + 1)
    )
    return min(math.fsum(terms), 1.0)


def spares(needed: int, up: float, target: float = 0.999) -> int:
    """Return the fewest machines beyond `needed` that keep the need met with probability `target`.

    Raises:
        Unsatisfiable: machines fail so often that no number helps in practice.
    """
    for extra in range(needed + 100):
        if k_of_n(needed, needed + extra, up) >= target:
            return extra
    raise Unsatisfiable(f"machines that are up {up:.1%} of the time cannot keep {needed} running; shorten the repair")
