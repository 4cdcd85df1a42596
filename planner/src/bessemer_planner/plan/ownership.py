"""Who should own the fleet: its lots handed to the economics, with the workload's rules and horizon."""

import msgspec
import numpy as np

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.economics import (
    HourCurve,
    Lot,
    Need,
    Ownership,
    hour_curves,
    ownership,
)
from bessemer_planner.economics.sides import FACTORY_ARCHITECTURES
from bessemer_planner.economics.types import HOURS_PER_MONTH
from bessemer_planner.errors import PlannerError, Unsatisfiable
from bessemer_planner.fleet.choose import ConfirmedFleet
from bessemer_planner.fleet.demand import Demand
from bessemer_planner.fleet.offers import economics_of, owned_offers
from bessemer_planner.plan.fleet import running_accelerators, tokens_per_month
from bessemer_planner.plan.types import Fleet
from bessemer_planner.plan.what_if import WhatIf
from bessemer_planner.types import Owner
from bessemer_planner.workload import FleetLimits, Workload

_SOME = 1e-3
"""Share of a tuning need below which it is not called booked."""


class Owners(msgspec.Struct, frozen=True):
    """The three ways of owning, each with the fleet that is cheapest in it."""

    ways: tuple[Ownership, ...]
    fleets: dict[str, str]
    """By way: the accelerators and configurations that were compared."""
    needs: dict[Owner, Need]


def owners_of(
    workload: Workload, catalog: HardwareCatalog, demand: Demand, chosen: ConfirmedFleet, fleet: Fleet, what_if: WhatIf
) -> Owners:
    """Compare cloud, AI factory and own data centre, each with its own cheapest fleet where it has one."""
    need = need_of(workload, catalog, demand, chosen, fleet)
    assumptions = economics_of(workload, catalog)
    bought = msgspec.structs.replace(need, lots=_by_accelerator(need.lots))
    fleets = {owner.value: _counted(bought.lots, "; ".join(chosen.solution.served)) for owner in Owner}
    needs = dict.fromkeys(Owner, bought) | {Owner.CLOUD: need}
    ways = {one.owner: one for one in ownership(bought, catalog, assumptions, rented=need)}
    ways[Owner.CLOUD] = next(one for one in ownership(need, catalog, assumptions) if one.owner is Owner.CLOUD)
    machines = owned_offers(msgspec.structs.replace(workload, fleet=FleetLimits()), catalog)
    racks = [one for one in machines if catalog.accelerator(one.accelerator).architecture in FACTORY_ARCHITECTURES]
    rented = Owner.CLOUD in workload.sovereignty.ownership
    for owner, offers in ((Owner.AI_FACTORY, racks), (Owner.OWN, machines)):
        if owner is Owner.OWN and not rented:
            continue  # the plan's own fleet is the one to be owned
        try:
            lots, what = what_if.lots(offers)
        except PlannerError:
            continue  # compared with the plan's own fleet, whose reasons say what is missing
        needs[owner] = msgspec.structs.replace(need, lots=lots)
        other = ownership(needs[owner], catalog, assumptions, rented=need)
        ways[owner] = next(one for one in other if one.owner is owner)
        fleets[owner.value] = _counted(lots, what)
    return Owners(tuple(ways[owner] for owner in Owner), fleets, needs)


def check_owned(workload: Workload, catalog: HardwareCatalog, owned: Owners) -> None:
    """Refuse a fleet that nobody may own under the rules, with each allowed way's reason and the nearest that may.

    Raises:
        Unsatisfiable: no way of owning keeps all rules.
    """
    if any(one.feasible for one in owned.ways):
        return
    allowed = [one for one in owned.ways if one.owner in workload.sovereignty.ownership]
    why = "; ".join(f"{one.owner.value}: {one.reasons[0]}" for one in allowed)
    raise Unsatisfiable(
        f"No allowed way of owning keeps all rules ({why}). {_nearest_way(workload, catalog, owned)}",
        param="sovereignty.ownership",
    )


def _nearest_way(workload: Workload, catalog: HardwareCatalog, owned: Owners) -> str:
    """Return the smallest change of the rules that makes a way of owning possible: another owner, else more time."""
    kept, lead = workload.sovereignty.ownership, workload.time.lead_time_months
    assumptions = economics_of(workload, catalog)
    for owners, lead_months in ((tuple(Owner), lead), (kept, None), (tuple(Owner), None)):
        found = []
        for owner, need in owned.needs.items():
            asked = msgspec.structs.replace(need, owners=owners, lead_months=lead_months)
            ways = ownership(asked, catalog, assumptions)
            found += [one for one in ways if one.owner is owner and one.feasible]
        if found:
            best = min(found, key=lambda one: one.speed.months.value)
            months = np.ceil(best.speed.months.value * 10) / 10
            changed = [f'"{best.owner.value}" in sovereignty.ownership'] if best.owner not in kept else []
            changed += [f"time.lead_time_months = {months:g}"] if lead is not None and lead < months else []
            return f"Nearest: {' and '.join(changed)}."
    return "No other owner and no longer lead time helps: change the regions, the operators or the accelerators."


def _counted(lots: tuple[Lot, ...], what: str) -> str:
    return f"{', '.join(f'{lot.count:,.0f} x {lot.accelerator}' for lot in lots)} ({what})"


def hours_of(workload: Workload, catalog: HardwareCatalog, owners: Owners) -> tuple[HourCurve, ...]:
    """Return what a held accelerator-hour costs in each way of owning."""
    assumptions = economics_of(workload, catalog)
    curves = []
    for way in owners.ways:
        found = hour_curves(owners.needs[way.owner], catalog, assumptions)
        curves += [curve for curve in found if curve.owner is way.owner]
    return tuple(curves)


def need_of(workload: Workload, catalog: HardwareCatalog, demand: Demand, chosen: ConfirmedFleet, fleet: Fleet) -> Need:
    """Return the fleet as lots: rented, one for each purchase and its term; otherwise one for each accelerator."""
    if Owner.CLOUD in workload.sovereignty.ownership:
        lots = (*_rented(fleet), *_booked(catalog, fleet))
    else:
        lots = tuple(
            Lot(accelerator, float(count.max()), float((count * demand.hours).sum() / demand.hours.sum()))
            for accelerator, count in running_accelerators(chosen).items()
        )
    rules = workload.sovereignty
    return Need(
        lots=lots,
        horizon_months=workload.time.horizon_months,
        growth_per_month=_growth_after(workload),
        value_per_month=workload.money.value_per_month,
        output_tokens_per_month=tokens_per_month(workload, demand)[1],
        regions=rules.regions,
        operators=rules.operators,
        owners=rules.ownership,
        terms=tuple(term.value for term in workload.fleet.terms),
        lead_months=workload.time.lead_time_months,
    )


def _rented(fleet: Fleet) -> tuple[Lot, ...]:
    """Return one lot for each purchase, with its term: a commitment must not be costed as rent by the hour."""
    return tuple(
        Lot(
            accelerator=one.accelerator,
            count=float(one.units * one.accelerators),
            mean=one.unit_hours_per_month * one.accelerators / HOURS_PER_MONTH,
            instance=one.instance,
            term=one.term,
            cloud_usd_per_month=None if one.committed else one.usd_per_month,
        )
        for one in fleet.purchases
    )


def _by_accelerator(lots: tuple[Lot, ...]) -> tuple[Lot, ...]:
    """Return one lot for each accelerator: machines that are bought do not ask how they would have been rented."""
    kinds = {lot.accelerator: [one for one in lots if one.accelerator == lot.accelerator] for lot in lots}
    return tuple(
        Lot(accelerator, sum(one.count for one in held), sum(one.running for one in held))
        for accelerator, held in kinds.items()
    )


def _booked(catalog: HardwareCatalog, fleet: Fleet) -> tuple[Lot, ...]:
    """Return tuning runs that are booked by themselves: one unit for some hours a month."""
    booked = []
    for one in fleet.bookings:
        if one.instance is not None and one.booked_share > _SOME:
            instance = catalog.instance(one.instance)
            hours = one.accelerator_hours_per_month
            mean = hours / HOURS_PER_MONTH
            count = max(float(instance.count), mean)
            booked.append(
                Lot(instance.accelerator, count, mean, one.instance, one.term, one.usd_per_month, booked=True)
            )
    return tuple(booked)


def _growth_after(workload: Workload) -> float:
    """Return monthly growth over the horizon that carries on from the first year's fleet.

    The lots hold the peak of the first year, which its own growth has filled; only what grows after it is added.
    """
    months = workload.time.horizon_months
    if months <= 12:
        return 0.0
    grown = (1 + workload.traffic.growth_per_month) ** (months - 12)
    return float(np.expm1(np.log(grown) / months))
