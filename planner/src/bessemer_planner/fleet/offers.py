"""What can be paid for within a workload's rules: instances, terms, dated prices; and the columns worth solving."""

from collections.abc import Sequence

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.catalog.tables import PRICE_COLUMNS
from bessemer_planner.economics import Assumptions, Lot, Need, default_assumptions, ownership
from bessemer_planner.economics.rates import BY_THE_HOUR, TERM_MONTHS
from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.fleet.configurations import Configuration
from bessemer_planner.fleet.types import Column, Offer
from bessemer_planner.types import Instance, InstancePrice, Owner
from bessemer_planner.workload import Workload

OWN_TERM = "own"
_OWN_SAMPLE = 64
"""Accelerators for which the hourly cost of an owned one is computed when columns are compared."""
_OWN_DRAWS = 40


def cloud_offers(workload: Workload, catalog: HardwareCatalog) -> tuple[Offer, ...]:
    """Return the newest price of every allowed instance and term. Raises Unsatisfiable when nothing is left."""
    wanted = {catalog.accelerator(name).name for name in workload.fleet.accelerators}
    for name in (*workload.fleet.instances, *workload.fleet.quota):
        catalog.instance(name)
    allowed = [
        instance
        for instance in catalog.instances()
        if (not wanted or instance.accelerator in wanted) and _operated(workload, instance)
    ]
    found = [
        Offer(
            instance=instance.name,
            accelerator=instance.accelerator,
            accelerators=instance.count,
            term=price.term,
            usd_per_hour=price.usd_per_hour,
            committed=price.term not in BY_THE_HOUR,
            price=price,
        )
        for instance in allowed
        for price in _newest(workload, catalog, instance)
    ]
    if allowed and not any(catalog.prices(instance.name) for instance in allowed):
        names = ", ".join(dict.fromkeys(instance.accelerator for instance in allowed))
        raise Unsatisfiable(
            f"A price is what is missing: none of {names} is public. Append one for "
            f"{_either([instance.name for instance in allowed])} to prices.csv in the data folder "
            f"({', '.join(PRICE_COLUMNS)}), or allow another accelerator in fleet.accelerators.",
            param="fleet",
        )
    if not found:
        raise Unsatisfiable(
            "No instance with a public price is left by fleet.accelerators, fleet.instances, fleet.terms, "
            "sovereignty.regions and sovereignty.operators; allow more.",
            param="fleet",
        )
    return tuple(found)


def without_price(workload: Workload, catalog: HardwareCatalog, bought: Sequence[Offer]) -> tuple[str, ...]:
    """Say for which rented machines a smaller one of the kind is allowed but has no known price on the allowed terms.

    The sources of spot prices list machines of eight alone: a small replica then takes a whole one, for want of a price
    and not because that is cheapest.
    """
    made = []
    for offer in bought:
        if offer.price is None:
            continue
        smaller = [
            instance.name
            for instance in catalog.instances()
            if instance.accelerator == offer.accelerator
            and instance.count < offer.accelerators
            and _operated(workload, instance)
            and catalog.prices(instance.name)
            and not _newest(workload, catalog, instance)
        ]
        if smaller:
            terms = _either(list(workload.fleet.terms))
            made.append(
                f"{offer.instance} ({offer.accelerators} accelerators) is bought whole: no price of {_either(smaller)} "
                f"is known for {terms}. Append one to prices.csv in the data folder, or allow another of fleet.terms."
            )
    return tuple(dict.fromkeys(made))


def owned_offers(workload: Workload, catalog: HardwareCatalog) -> tuple[Offer, ...]:
    """Return the machines that can be bought, at the hourly cost of owning them. Raises Unsatisfiable when none can."""
    wanted = {catalog.accelerator(name).name for name in workload.fleet.accelerators}
    found = []
    for accelerator, system in catalog.systems.items():
        if system.price_usd is None or (wanted and accelerator not in wanted):
            continue
        need = Need(
            lots=(Lot(accelerator, float(max(_OWN_SAMPLE, system.count))),),
            horizon_months=workload.time.horizon_months,
            owners=(Owner.OWN,),
        )
        ways = ownership(need, catalog, economics_of(workload, catalog), draws=_OWN_DRAWS)
        own = next(way for way in ways if way.owner is Owner.OWN)
        if own.money is not None:
            hourly = own.money.usd_per_accelerator_hour.value * system.count
            found.append(Offer(system.name, accelerator, system.count, OWN_TERM, hourly, committed=True))
    if not found:
        priced = ", ".join(name for name, system in catalog.systems.items() if system.price_usd is not None)
        raise Unsatisfiable(
            f"A purchase price is what is missing: none of {', '.join(sorted(wanted))} is known. "
            f"Known: {priced}; allow one of them in fleet.accelerators.",
            param="fleet",
        )
    return tuple(found)


def economics_of(workload: Workload, catalog: HardwareCatalog) -> Assumptions:
    """Return the inputs of the economics, with those that the workload states."""
    money = workload.money
    stated = {"power.usd_per_kwh": money.electricity_per_kwh, "finance.discount_rate": money.discount_rate}
    known = {name: value for name, value in stated.items() if value is not None}
    return default_assumptions(catalog).pinned(known)


def _either(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _operated(workload: Workload, instance: Instance) -> bool:
    operators = {name.lower() for name in workload.sovereignty.operators}
    if workload.fleet.instances and instance.name not in workload.fleet.instances:
        return False
    return not operators or bool(operators & {instance.provider.lower(), instance.operator.lower()})


def _newest(workload: Workload, catalog: HardwareCatalog, instance: Instance) -> list[InstancePrice]:
    """Return one price per allowed term: the newest, and of several regions on that day the cheapest allowed one."""
    regions = workload.sovereignty.regions
    best: dict[str, InstancePrice] = {}
    for price in catalog.prices(instance.name):
        short = TERM_MONTHS[price.term] <= workload.time.horizon_months
        if short and price.term in workload.fleet.terms and (not regions or price.region.startswith(regions)):
            best.setdefault(price.term, price)
    return list(best.values())


def columns(
    found: Sequence[Configuration], offers: Sequence[Offer], spares: int
) -> tuple[tuple[Column, ...], dict[str, Configuration]]:
    """Pair configurations with instances that hold them; keep those that nothing beats on both counts.

    The two counts are the least that must be paid (one replica and its spares) and the price of a request at full load.
    Returns the columns, and the configuration of each by column name.
    """
    kept: list[Column] = []
    behind: dict[str, Configuration] = {}
    for model in dict.fromkeys(one.model for one in found):
        priced = [
            (_floor(one, offer, spares), _per_request(one, offer), one, offer)
            for one in found
            if one.model == model
            for offer in _cheapest(offers)
            if one.deployment.accelerator == offer.accelerator and one.accelerators <= offer.accelerators
        ]
        priced.sort(key=lambda row: (row[0], row[1]))
        best = float("inf")
        for _, per_request, one, offer in priced:
            if per_request >= best * 0.999:
                continue
            best = per_request
            column = Column(
                name=f"{one.name} @ {offer.instance}",
                model=model,
                instance=offer.instance,
                accelerators=one.accelerators,
                rate=one.rate,
                batch_rate=one.batch_rate,
            )
            kept.append(column)
            behind[column.name] = one
    return tuple(kept), behind


def _cheapest(offers: Sequence[Offer]) -> list[Offer]:
    """Return the cheapest way to pay for each instance."""
    best: dict[str, Offer] = {}
    for offer in sorted(offers, key=lambda offer: offer.usd_per_hour):
        best.setdefault(offer.instance, offer)
    return list(best.values())


def _floor(one: Configuration, offer: Offer, spares: int) -> float:
    units = -(-one.accelerators * (1 + spares) // offer.accelerators)
    return units * offer.usd_per_hour


def _per_request(one: Configuration, offer: Offer) -> float:
    return offer.usd_per_hour / offer.accelerators * one.accelerators / (one.rate * 3600)
