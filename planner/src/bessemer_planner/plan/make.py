"""Making a plan: configurations, the loop of optimiser and simulator, ownership, what-if, in this order.

Pure: a workload and a catalogue in, a Plan out; nothing is read or written but the package's own tables.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.errors import InputError, Unsatisfiable
from bessemer_planner.fleet.choose import ConfirmedFleet, choose
from bessemer_planner.fleet.configurations import (
    Configuration,
    Refusal,
    configurations,
    nearest,
    predictions,
    shape_of,
)
from bessemer_planner.fleet.demand import demand_of
from bessemer_planner.fleet.offers import cloud_offers, owned_offers, without_price
from bessemer_planner.fleet.types import Offer
from bessemer_planner.fleet.verify import EndToEnd, cascade_end_to_end
from bessemer_planner.performance import Performance, ReplicaPrediction
from bessemer_planner.plan.assumed import assumptions_of, stale, warnings_of
from bessemer_planner.plan.fleet import fleet_of, paid_offers, tokens_per_month
from bessemer_planner.plan.ownership import check_owned, hours_of, owners_of
from bessemer_planner.plan.rows import configuration_rows
from bessemer_planner.plan.summary import recommendation
from bessemer_planner.plan.types import Plan, Solving
from bessemer_planner.plan.what_if import WhatIf
from bessemer_planner.types import Owner
from bessemer_planner.workload import Workload

_UNMEASURED = ("trainium", "tpu", "mi")
"""Accelerators without any measured table or end-to-end point: considered only when the workload names them."""
_REFUSALS = 60
"""Refusals listed in a plan; the rest is counted."""
OnProgress = Callable[[str], None]


def make_plan(
    workload: Workload,
    catalog: HardwareCatalog,
    progress: OnProgress = lambda _: None,
    *,
    performance: Performance | None = None,
) -> Plan:
    """Plan a workload. `progress` is told what is being done.

    Raises:
        Unsatisfiable: nothing that is allowed carries the workload within its limits and budget, or nobody may own what
            does; the message says why and names the nearest that can.
        InputError: a name in the workload is not known.
    """
    started, made = time.perf_counter(), datetime.now(UTC)
    _check_names(workload, catalog)
    performance = performance or Performance.load()
    progress("prices and machines")
    offers = offers_of(workload, catalog)
    accelerators = tuple(dict.fromkeys(offer.accelerator for offer in offers))
    predicted, refused = predictions(workload, catalog, performance, accelerators, progress)
    found, limited = configurations(workload, predicted)
    refused = [*unoffered(workload, catalog, offers), *refused, *limited]
    _check_served(workload, predicted, found, refused)
    demand = demand_of(workload)
    chosen = choose(workload, catalog, demand, found, offers, progress=progress)
    fleet = fleet_of(workload, catalog, demand, chosen)
    progress("what would change the answer")
    what_if = WhatIf(workload, catalog, predicted, offers, chosen)
    volumes = what_if.volumes(tokens_per_month(workload, demand)[1] / workload.traffic.requests_per_month)
    progress("cloud, AI factory and own data centre")
    owned = owners_of(workload, catalog, demand, chosen, fleet, what_if)
    check_owned(workload, catalog, owned)
    owners = owned.ways
    whole = _end_to_end(workload, chosen)
    rows = configuration_rows(workload, catalog, performance, chosen, found, offers)
    spread = chosen.behind[next(iter(chosen.solution.replicas))].prediction.spread
    return Plan(
        made_at=made.isoformat(timespec="seconds"),
        workload=workload,
        recommendation=recommendation(workload, rows, fleet, owners),
        configurations=rows,
        refused=(*chosen.refused, *refused)[:_REFUSALS],
        fleet=fleet,
        end_to_end=whole,
        ownership=owners,
        owned_fleets=owned.fleets,
        hours=hours_of(workload, catalog, owned),
        steps=what_if.steps(),
        volumes=volumes,
        drivers=what_if.drivers((spread.low, spread.high)),
        changes=what_if.changes(volumes),
        assumptions=assumptions_of(workload, catalog, chosen, owners),
        warnings=(
            *warnings_of(workload, rows, fleet, whole),
            *without_price(workload, catalog, paid_offers(chosen)),
            *stale(chosen, fleet, made.date()),
        ),
        solving=Solving(
            configurations=len(found),
            refused=len(refused) + len(chosen.refused),
            rounds=chosen.rounds,
            cuts={name: count for name, count in chosen.cuts.items() if count},
            seconds=time.perf_counter() - started,
        ),
    )


def offers_of(workload: Workload, catalog: HardwareCatalog) -> tuple[Offer, ...]:
    """Return what may be paid for: cloud prices, or where the cloud is not allowed the cost of owned machines."""
    rented = Owner.CLOUD in workload.sovereignty.ownership
    offers = cloud_offers(workload, catalog) if rented else owned_offers(workload, catalog)
    if workload.fleet.accelerators:
        return offers
    measured = tuple(offer for offer in offers if not offer.accelerator.startswith(_UNMEASURED))
    if not measured:
        names = ", ".join(sorted({offer.accelerator for offer in offers}))
        raise Unsatisfiable(
            f"Only accelerators that nobody has measured are left ({names}); name them in fleet.accelerators to plan "
            "with extrapolated figures.",
            param="fleet.accelerators",
        )
    return measured


def unoffered(workload: Workload, catalog: HardwareCatalog, offers: Sequence[Offer]) -> list[Refusal]:
    """Say why accelerators are not considered that the workload names, or that nobody has measured."""
    held = {offer.accelerator for offer in offers}
    named = [catalog.accelerator(name).name for name in workload.fleet.accelerators]
    found = [
        (name, "no price of it is known for the owners, regions, operators and terms that are allowed")
        for name in dict.fromkeys(named)
        if name not in held
    ]
    if not named:
        found += [
            (name, "nobody has measured it; name it in fleet.accelerators to consider it")
            for name in catalog.accelerators
            if name.startswith(_UNMEASURED)
        ]
    return [Refusal(workload.models[0].name, name, "any", reason) for name, reason in found]


def _check_names(workload: Workload, catalog: HardwareCatalog) -> None:
    for index, use in enumerate(workload.models):
        try:
            shape_of(use)
        except Unsatisfiable as error:
            field = f"models.{index}.name"
            raise Unsatisfiable(f"{field}: {error.message.removeprefix('model: ')}", param=field) from None
    for field, names in (
        ("fleet.accelerators", workload.fleet.accelerators),
        *((f"tuning.{index}.accelerators", one.accelerators) for index, one in enumerate(workload.tuning)),
        *((f"tuning.{index}.accelerator", (one.accelerator,)) for index, one in enumerate(workload.tuning)),
    ):
        for name in names:
            if name.lower() not in catalog.aliases:
                raise InputError(
                    f"{field} names {name!r}, which the catalogue does not have; "
                    f"known: {', '.join(catalog.accelerators)}.",
                    param=field,
                )
    for field, given in (("fleet.instances", workload.fleet.instances), ("fleet.quota", tuple(workload.fleet.quota))):
        for name in given:
            if name not in catalog.offers:
                raise InputError(
                    f"{field} names {name!r}, which the catalogue does not have; "
                    f"known: {', '.join(one.name for one in catalog.instances())}.",
                    param=field,
                )


def _check_served(
    workload: Workload,
    predicted: Sequence[tuple[str, ReplicaPrediction]],
    found: Sequence[Configuration],
    refused: Sequence[Refusal],
) -> None:
    """Refuse a model that nothing serves, with what comes nearest: to the limits, or else the first that fails."""
    for use in workload.models:
        if any(one.model == use.name for one in found):
            continue
        reasons = [one for one in refused if one.model == use.name]
        one = nearest(workload, predicted, use.name) or next(iter(reasons), None)
        near = "" if one is None else f" Nearest: {one.what} on {one.accelerator}: {one.reason.rstrip('.')}."
        raise Unsatisfiable(
            f"No allowed accelerator serves {use.name!r} within the limits ({len(reasons)} configurations tried)."
            f"{near}",
            param="limits",
        )


def _end_to_end(workload: Workload, chosen: ConfirmedFleet) -> EndToEnd | None:
    """Simulate the cascade at the busiest hour with the running replicas; None unless each model has one column."""
    cascade = workload.cascade
    columns = {chosen.column(name).model: name for name in chosen.solution.served}
    if cascade is None or len(columns) < len(chosen.solution.served) or len(columns) != 2:
        return None
    small, large = columns[cascade.small], columns[cascade.large]
    replicas = tuple(int(chosen.solution.replicas[name].max()) for name in (small, large))
    rate = float(chosen.solution.served[small].max())
    return cascade_end_to_end(workload, chosen.behind[small], chosen.behind[large], (replicas[0], replicas[1]), rate)
