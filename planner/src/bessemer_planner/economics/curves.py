"""Break-even curves: what an accelerator-hour costs in each way of owning, by utilisation and by years of use."""

from collections.abc import Sequence

import msgspec

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.economics.assumptions import DEMAND, Assumptions, default_assumptions
from bessemer_planner.economics.ownership import always_on, hourly_rate
from bessemer_planner.economics.sides import cloud_side, factory_side, own_side, short_rents
from bessemer_planner.economics.types import Need
from bessemer_planner.economics.ways import LEAD, OWN_LEAD
from bessemer_planner.types import Owner


class HourCurve(msgspec.Struct, frozen=True):
    """What an accelerator-hour costs that is held, in use or not. At utilisation u a useful hour costs 1/u of it."""

    owner: Owner
    years: tuple[float, ...]
    """Years of use after the first served token."""
    usd_per_hour: tuple[float, ...]
    break_even_utilisation: tuple[float | None, ...]
    """Share of hours in use above which it beats paying by the hour in a public cloud; None: not sold so."""


def hour_curves(
    need: Need,
    catalog: HardwareCatalog,
    assumptions: Assumptions | None = None,
    *,
    years: Sequence[float] = (1, 2, 3, 4, 5, 6),
    on: str | None = None,
) -> tuple[HourCurve, ...]:
    """Return a curve for each way of owning that prices exist for, in the central case.

    Delay, growth and the people who run the serving platform are left out: they do not depend on who owns.
    """
    assumptions = assumptions or default_assumptions(catalog)
    steady = assumptions.pinned(
        dict.fromkeys((*LEAD.values(), *OWN_LEAD.values(), "staff.platform_base"), 0.0) | {DEMAND: 1.0}
    )
    central = steady.central()
    curves: dict[Owner, list[tuple[float, float]]] = {}
    spill = short_rents(need, catalog, on)
    hourly = hourly_rate(need, spill, steady) if spill is not None else None
    for span in years:
        lasting = msgspec.structs.replace(always_on(need), horizon_months=round(12 * span), growth_per_month=0.0)
        ways = {
            Owner.CLOUD: cloud_side(lasting, catalog, on).way,
            Owner.AI_FACTORY: factory_side(lasting, catalog, steady, on).way,
            Owner.OWN: own_side(lasting, catalog, steady, spill).way,
        }
        for owner, way in ways.items():
            if way is not None:
                picture = way(central)
                cost = picture.present_cost(central)[0] / picture.accelerator_hours(lasting, central)[0]
                curves.setdefault(owner, []).append((span, float(cost)))
    return tuple(
        HourCurve(
            owner=owner,
            years=tuple(span for span, _ in points),
            usd_per_hour=tuple(cost for _, cost in points),
            break_even_utilisation=tuple(None if hourly is None else cost / hourly for _, cost in points),
        )
        for owner, points in curves.items()
    )
