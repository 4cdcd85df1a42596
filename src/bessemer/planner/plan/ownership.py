"""Who should own the fleet: its lots handed to the economics, with the workload's rules and horizon."""

import numpy as np

from bessemer.planner.catalog import Catalog
from bessemer.planner.economics import Assumptions, Lot, Need, Ownership, default_assumptions, ownership
from bessemer.planner.economics import Owner as Way
from bessemer.planner.fleet.choose import Chosen
from bessemer.planner.fleet.demand import Demand
from bessemer.planner.plan.fleet import running_accelerators, tokens_per_month
from bessemer.planner.plan.types import Fleet
from bessemer.planner.workload import Owner, Workload


def ownership_of(
    workload: Workload, catalog: Catalog, demand: Demand, chosen: Chosen, fleet: Fleet
) -> tuple[Ownership, ...]:
    """Compare cloud, AI factory and own data centre for what the fleet runs."""
    return ownership(need_of(workload, demand, chosen, fleet), catalog, economics_of(workload, catalog))


def economics_of(workload: Workload, catalog: Catalog) -> Assumptions:
    """Return the inputs of the economics, with those that the workload states."""
    money = workload.money
    stated = {"power.usd_per_kwh": money.electricity_per_kwh, "finance.discount_rate": money.discount_rate}
    known = {name: value for name, value in stated.items() if value is not None}
    return default_assumptions(catalog).pinned(known)


def need_of(workload: Workload, demand: Demand, chosen: Chosen, fleet: Fleet) -> Need:
    """Return the fleet as lots: the peak and the mean of every accelerator, and what the optimiser pays for it."""
    rented = Owner.CLOUD in workload.sovereignty.ownership
    costs: dict[str, float] = {}
    instances: dict[str, str] = {}
    for purchase in sorted(fleet.purchases, key=lambda purchase: purchase.usd_per_month):
        costs[purchase.accelerator] = costs.get(purchase.accelerator, 0.0) + purchase.usd_per_month
        instances[purchase.accelerator] = purchase.instance
    lots = tuple(
        Lot(
            accelerator=accelerator,
            count=float(count.max()),
            mean=float((count * demand.hours).sum() / demand.hours.sum()),
            instance=instances[accelerator] if rented else None,
            cloud_usd_per_month=costs[accelerator] if rented else None,
        )
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
        owners=tuple(Way(owner.value) for owner in rules.ownership),
        terms=tuple(term.value for term in workload.fleet.terms),
        lead_months=workload.time.lead_time_months,
    )


def _growth_after(workload: Workload) -> float:
    """Return monthly growth over the horizon that carries on from the first year's fleet.

    The lots hold the peak of the first year, which its own growth has filled; only what grows after it is added.
    """
    months = workload.time.horizon_months
    if months <= 12:
        return 0.0
    grown = (1 + workload.traffic.growth_per_month) ** (months - 12)
    return float(np.expm1(np.log(grown) / months))
