"""Published claims about AI hardware and its economics, checked: what holds, and under which condition."""

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.claims import hardware, hybrid, owning, prices, saving
from bessemer_planner.claims.types import Claim, Computed, Input, Verdict
from bessemer_planner.performance import Performance

__all__ = ["Claim", "Computed", "Input", "Verdict", "check_claims"]


def check_claims(catalog: HardwareCatalog, performance: Performance) -> tuple[Claim, ...]:
    """Check the claims C1 to C11, in order."""
    return (
        hardware.speed_of_g7e(catalog, performance),
        hardware.memory_of_g7e(catalog),
        hardware.memory_of_p6(catalog),
        hardware.ultraserver(catalog),
        prices.ultraserver_price(catalog),
        saving.tuned_small_model(catalog, performance),
        hardware.rack_power(catalog),
        prices.lost_utilisation(catalog),
        owning.time_to_build(catalog),
        owning.three_ways(catalog),
        hybrid.hybrid_fleet(catalog, performance),
    )
