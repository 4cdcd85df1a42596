"""What the scale-out network takes from the accelerators, and what that costs.

A step ends when both the computing and the part of the communication that does not overlap with it are done; a badly
configured fabric (EFA falling back to TCP, missing GPUDirect, wrong placement) is a low efficiency.
"""

import msgspec

from bessemer_planner.economics.types import HOURS_PER_YEAR
from bessemer_planner.errors import PlannerError


class NetworkLoss(msgspec.Struct, frozen=True):
    """What a network efficiency does to a step."""

    utilisation: float
    """Computing time over step time."""
    lost: float
    """Utilisation lost against an efficiency of 1."""


def step_time(compute_s: float, bytes_moved: float, bandwidth: float, efficiency: float, overlap: float) -> float:
    """Return the time of a step, seconds: max(compute, (1 - overlap) bytes / (efficiency x bandwidth)), bytes/s."""
    if not 0 < efficiency <= 1 or not 0 <= overlap <= 1:
        raise PlannerError("efficiency must lie in (0, 1] and overlap in [0, 1]")
    return max(compute_s, (1.0 - overlap) * bytes_moved / (efficiency * bandwidth))


def network_loss(
    compute_s: float, bytes_moved: float, bandwidth: float, efficiency: float, overlap: float = 0.0
) -> NetworkLoss:
    """Return what a network efficiency does to a step's utilisation."""
    step = step_time(compute_s, bytes_moved, bandwidth, efficiency, overlap)
    ideal = step_time(compute_s, bytes_moved, bandwidth, 1.0, overlap)
    return NetworkLoss(compute_s / step, compute_s / ideal - compute_s / step)


def cost_of_lost_utilisation(accelerators: float, usd_per_hour: float, lost: float) -> float:
    """Return what a lost share of utilisation costs in a year, USD: accelerators x price x hours x share."""
    return accelerators * usd_per_hour * HOURS_PER_YEAR * lost


def fleet_where_loss_exceeds(usd: float, usd_per_hour: float, lost: float) -> float:
    """Return the number of accelerators at which a lost share of utilisation costs `usd` a year."""
    return usd / cost_of_lost_utilisation(1.0, usd_per_hour, lost)
