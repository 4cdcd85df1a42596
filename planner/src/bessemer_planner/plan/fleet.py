"""The fleet of a plan in the terms people buy and watch: purchases, hours of the day, energy, cost per token."""

import numpy as np

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.fleet.choose import ConfirmedFleet, margin_of
from bessemer_planner.fleet.demand import Demand
from bessemer_planner.fleet.offers import OWN_TERM
from bessemer_planner.fleet.types import Offer
from bessemer_planner.plan.types import Booking, DayLine, Fleet, Purchase
from bessemer_planner.workload import Workload


def fleet_of(workload: Workload, catalog: HardwareCatalog, demand: Demand, chosen: ConfirmedFleet) -> Fleet:
    """Return the fleet of the first year."""
    usd = chosen.solution.usd_per_year / 12
    tokens_in, tokens_out = tokens_per_month(workload, demand)
    running = running_accelerators(chosen)
    total = sum(running.values(), np.zeros(demand.hours.shape))
    kilowatts = _kilowatts(catalog, running)
    hours = demand.hours
    kwh = None if kilowatts is None else float((kilowatts * hours).sum() / 12)
    busiest = busiest_month(demand)
    return Fleet(
        purchases=_purchases(chosen, demand),
        bookings=_bookings(chosen),
        replicas=tuple(_line(name, values[busiest]) for name, values in chosen.solution.replicas.items()),
        units=tuple(_line(name, values[busiest]) for name, values in _units(chosen).items()),
        demand=tuple(_line(name, (rate + demand.batch[name])[busiest]) for name, rate in demand.interactive.items()),
        usd_per_month=usd,
        usd_per_million_tokens=usd / (tokens_in + tokens_out) * 1e6,
        usd_per_million_output_tokens=usd / tokens_out * 1e6,
        usd_per_thousand_requests=usd / _requests(workload, demand) * 1e3,
        peak_accelerators=float(total.max()),
        mean_accelerators=float((total * hours).sum() / hours.sum()),
        load_share=_load_share(workload, chosen, demand),
        kwh_per_month=kwh,
        peak_kw=None if kilowatts is None else float(kilowatts.max()),
        joules_per_output_token=None if kwh is None else kwh * 3.6e6 / tokens_out,
        gap=chosen.solution.gap,
    )


def busiest_month(demand: Demand) -> int:
    """Return the group of months with the most load."""
    total = np.asarray(sum(demand.interactive.values())) + np.asarray(sum(demand.batch.values()))
    return int(total.sum(axis=(1, 2)).argmax())


def tokens_per_month(workload: Workload, demand: Demand) -> tuple[float, float]:
    """Return input and output tokens a month over all models, mean of the first year."""
    into = out = 0.0
    for use in workload.models:
        requests = demand.requests_per_year(use.name) / 12
        into += requests * workload.prompt_tokens(use.name).mean
        out += requests * workload.output_tokens(use.name).mean
    return into, out


def running_accelerators(chosen: ConfirmedFleet) -> dict[str, np.ndarray]:
    """Return paid accelerators by kind, per bucket."""
    running: dict[str, np.ndarray] = {}
    for offer in chosen.problem.offers:
        units = _paid_units(chosen, offer)
        if units.any():
            running[offer.accelerator] = running.get(offer.accelerator, 0.0) + units * offer.accelerators
    return running


def paid_offers(chosen: ConfirmedFleet) -> list[Offer]:
    """Return what the fleet pays for."""
    return [offer for offer in chosen.problem.offers if _paid_units(chosen, offer).any()]


def _paid_units(chosen: ConfirmedFleet, offer: Offer) -> np.ndarray:
    key = (offer.instance, offer.term)
    shape = chosen.problem.hours.shape
    if key in chosen.solution.on_demand:
        return chosen.solution.on_demand[key]
    return np.full(shape, float(chosen.solution.committed.get(key, 0)))


def _units(chosen: ConfirmedFleet) -> dict[str, np.ndarray]:
    named = {f"{offer.instance}, {offer.term}": _paid_units(chosen, offer) for offer in chosen.problem.offers}
    return {name: units for name, units in named.items() if units.any()}


def _line(name: str, values: np.ndarray) -> DayLine:
    return DayLine(name, tuple(float(v) for v in values[0]), tuple(float(v) for v in values[1]))


def _purchases(chosen: ConfirmedFleet, demand: Demand) -> tuple[Purchase, ...]:
    made = []
    for offer in chosen.problem.offers:
        units = _paid_units(chosen, offer)
        if not units.any():
            continue
        hours = float((units * demand.hours).sum() / 12)
        price = offer.price
        made.append(
            Purchase(
                instance=offer.instance,
                accelerator=offer.accelerator,
                accelerators=offer.accelerators,
                term=offer.term,
                committed=offer.committed,
                units=int(units.max()),
                usd_per_hour=offer.usd_per_hour,
                unit_hours_per_month=hours,
                usd_per_month=hours * offer.usd_per_hour,
                region="own site" if price is None else price.region,
                price_date="" if price is None else price.date,
                price_source="cost of ownership, computed" if offer.term == OWN_TERM or price is None else price.source,
            )
        )
    return tuple(made)


def _bookings(chosen: ConfirmedFleet) -> tuple[Booking, ...]:
    made = []
    for need in chosen.problem.tuning:
        share = chosen.solution.booked.get(need.name, 0.0)
        instance, term = need.booked_on or (None, None)
        hours = 0.0 if instance is None else need.hours_per_month[instance] * share
        usd = share * (need.booked_usd_per_month or 0.0)
        made.append(Booking(need.name, instance, term, share, hours, usd, need.goodput))
    return tuple(made)


def _kilowatts(catalog: HardwareCatalog, running: dict[str, np.ndarray]) -> np.ndarray | None:
    """Return power at the meter per bucket: machines' provisioned power x mean load x PUE; None where unknown."""
    total: np.ndarray | None = None
    for accelerator, count in running.items():
        each = kilowatts_per_accelerator(catalog, accelerator)
        if each is None:
            return None
        total = count * each if total is None else total + count * each
    return total


def kilowatts_per_accelerator(catalog: HardwareCatalog, accelerator: str) -> float | None:
    """Return kW at the meter of one running accelerator with its share of the machine and the cooling."""
    system = catalog.systems.get(accelerator)
    if system is None:
        return None
    pue = catalog.figure("power.pue_liquid" if system.liquid else "power.pue_air").value
    return system.rack_kw.value / system.count * catalog.figure("power.load_factor").value * pue


def _load_share(workload: Workload, chosen: ConfirmedFleet, demand: Demand) -> float:
    """Return the share of the running replicas' planned capacity that requests use, over the year."""
    capacity = used = 0.0
    margin = margin_of(workload)
    for name, replicas in chosen.solution.replicas.items():
        column = chosen.column(name)
        capacity += float((replicas * demand.hours).sum())
        used += float((chosen.solution.served.get(name, np.zeros(1)) / margin / column.rate * demand.hours).sum())
        used += float((chosen.solution.batch_served.get(name, np.zeros(1)) / column.batch_rate * demand.hours).sum())
    return used / capacity if capacity else 0.0


def _requests(workload: Workload, demand: Demand) -> float:
    """Return requests a month, mean of the first year; in a cascade those that the small model sees."""
    cascade = workload.cascade
    first = [use.name for use in workload.models] if cascade is None else [cascade.small]
    return sum(demand.requests_per_year(name) for name in first) / 12
