"""What each way of owning consists of for a need: quotes, machines, space, and why it may not be feasible."""

import math

import msgspec

from bessemer_planner.catalog import HardwareCatalog, System
from bessemer_planner.economics.assumptions import Assumptions
from bessemer_planner.economics.cells import WayParts
from bessemer_planner.economics.rates import Quote, operator_allowed, quotes
from bessemer_planner.economics.reliability import availability, spares
from bessemer_planner.economics.types import Lot, Need, Space
from bessemer_planner.economics.ways import LEAD, OWN_LEAD, Way, cloud_way, factory_way, own_way
from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.types import Owner

FACTORY_PROVIDER = "AWS"
FACTORY_ARCHITECTURES = ("blackwell", "trainium")
"""What AWS AI Factories hold: Trainium3 or Blackwell (AWS announcement, 2025-12-02)."""
OWN_BUILDING_KW = 1000.0
"""Below this much provisioned power space is rented unless the caller says otherwise."""


class Side(msgspec.Struct, frozen=True):
    """A way of owning before it is drawn."""

    way: Way | None
    reasons: tuple[str, ...]
    cautions: tuple[str, ...]
    terms: WayParts


def cloud_side(need: Need, catalog: HardwareCatalog, on: str | None) -> Side:
    chosen, missing = _cheapest(need, catalog, on)
    if not missing:
        return Side(cloud_way(need, chosen), (), (), WayParts(quotes=chosen))
    reasons = tuple(
        f"{lot.accelerator} cannot be rented within the regions, operators and terms allowed" for lot in missing
    )
    free = msgspec.structs.replace(need, regions=(), operators=())
    anywhere, nowhere = _cheapest(free, catalog, on)
    if nowhere:
        return Side(None, reasons, (), WayParts())
    nearest = ", ".join(sorted({f"{quote.instance.name} in {quote.price.region}" for quote in anywhere}))
    return Side(cloud_way(need, anywhere), (*reasons, f"nearest: {nearest}"), (), WayParts(quotes=anywhere))


def _cheapest(need: Need, catalog: HardwareCatalog, on: str | None) -> tuple[tuple[Quote, ...], tuple[Lot, ...]]:
    chosen, missing = [], []
    for lot in need.lots:
        found = quotes(catalog, lot, need, on)
        if found:
            chosen.append(found[0])
        else:
            missing.append(lot)
    return tuple(chosen), tuple(missing)


def short_rents(need: Need, catalog: HardwareCatalog, on: str | None) -> tuple[Quote, ...] | None:
    """Return rents without a long commitment, for what waits or overflows; None where the need forbids the cloud."""
    if Owner.CLOUD not in need.owners:
        return None
    short = tuple(term for term in need.terms if term in ("on_demand", "capacity_block"))
    free = tuple(msgspec.structs.replace(lot, term=None) for lot in need.lots)
    chosen, missing = _cheapest(msgspec.structs.replace(need, terms=short, lots=free), catalog, on)
    return None if missing else chosen


def factory_side(need: Need, catalog: HardwareCatalog, assumptions: Assumptions, on: str | None) -> Side:
    reasons: list[str] = []
    floor = math.ceil(assumptions["factory.minimum_accelerators"].value)
    offered = [catalog.accelerator(lot.accelerator).architecture in FACTORY_ARCHITECTURES for lot in need.lots]
    reasons += [
        f"{lot.accelerator} is not offered in an AI factory (Blackwell or Trainium3 are)"
        for lot, fits in zip(need.lots, offered, strict=True)
        if not fits
    ]
    if need.accelerators < floor:
        reasons.append(
            f"an AI factory starts at about {floor:,} accelerators, this needs {need.accelerators:,.0f}; nearest: "
            f"{floor:,}, or the public cloud"
        )
    if not operator_allowed(FACTORY_PROVIDER, need):
        reasons.append(f"{FACTORY_PROVIDER} operates it, which the allowed operators exclude")
    scale = max(floor / need.accelerators, 1.0)
    lots = tuple(msgspec.structs.replace(lot, count=lot.count * scale) for lot in need.lots)
    try:
        systems = tuple(_rack(catalog, lot) for lot in lots)
        rates, cautions = _factory_rates(catalog, need, on)
    except Unsatisfiable as error:
        return Side(None, (*reasons, error.message), (), WayParts(floor=floor))
    space = Space.COLOCATION if assumptions.space is Space.AUTO else assumptions.space
    way = factory_way(need, lots, systems, rates, space) if all(offered) else None
    first = max(_grown(need, assumptions[LEAD[Owner.AI_FACTORY]].value)[0] / scale, 1.0 if scale > 1.0 else 0.0)
    terms = WayParts(floor=floor, lots=lots, systems=systems, rates=rates, space=space, first=first)
    return Side(way, tuple(reasons), cautions, terms)


def _rack(catalog: HardwareCatalog, lot: Lot) -> System:
    name = catalog.accelerator(lot.accelerator).name
    if name not in catalog.systems:
        raise Unsatisfiable(f"the rack power of {name} is not public; known: {', '.join(catalog.systems)}")
    return catalog.systems[name]


def _factory_rates(catalog: HardwareCatalog, need: Need, on: str | None) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Return the list rates that the discount is taken off: the provider's cheapest committed one, or the nearest."""
    rates, cautions = [], []
    anyone = msgspec.structs.replace(need, regions=(), operators=())
    for lot in need.lots:
        found = quotes(catalog, Lot(lot.accelerator, lot.count), anyone, on)
        theirs = [quote for quote in found if quote.instance.provider == FACTORY_PROVIDER and not quote.by_the_hour]
        pool = theirs or list(found)
        if not pool:
            raise Unsatisfiable(f"no public price of {lot.accelerator} to derive an AI factory's from")
        base = min(pool, key=lambda quote: quote.rate)
        cautions.append(
            f"no AI factory price is public: {base.instance.name} {base.price.term} of {base.price.date} "
            f"(${base.rate:.2f} per accelerator hour) less an assumed discount"
        )
        rates.append(base.rate)
    return tuple(rates), tuple(cautions)


def own_side(need: Need, catalog: HardwareCatalog, assumptions: Assumptions, spill: tuple[Quote, ...] | None) -> Side:
    try:
        systems = tuple(catalog.system(lot.accelerator) for lot in need.lots)
    except Unsatisfiable as error:
        return Side(None, (error.message,), (), WayParts())
    spare = tuple(_spare(lot, system, assumptions, "own") for lot, system in zip(need.lots, systems, strict=True))
    kw = _kilowatts(need.lots, systems, assumptions)
    space = assumptions.space
    if space is Space.AUTO:
        space = Space.BUILD if kw >= OWN_BUILDING_KW else Space.COLOCATION
    way = own_way(need, systems, spare, space, spill)
    cautions: tuple[str, ...] = ("purchase prices are trade press, not quotes",)
    if spill is None:
        cautions += ("demand beyond what is installed is not served: renting is not allowed or not possible",)
    first, last = _grown(need, assumptions[OWN_LEAD[space]].value)
    terms = WayParts(lots=need.lots, systems=systems, spare=spare, space=space, first=first, last=last)
    return Side(way, (), cautions, terms)


def _grown(need: Need, lead_months: float) -> tuple[float, float]:
    """Return demand over today's that machines are installed for first, and at the end (see `costs.owned`)."""
    end = need.horizon_months - 1
    ahead = min(math.floor(max(lead_months, 0.0)) + 12, end)
    return (1.0 + need.growth_per_month) ** ahead, (1.0 + need.growth_per_month) ** end


def _spare(lot: Lot, system: System, assumptions: Assumptions, who: str) -> int:
    """Return accelerators beyond the need; what fails and is repaired is a server, in a rack a tray of 4."""
    unit = 4 if system.count > 16 else system.count
    rate = assumptions["reliability.failures_per_gpu_hour"].value * unit
    up = availability(rate, assumptions[f"reliability.repair_hours_{who}"].value)
    return spares(math.ceil(lot.count / unit), up) * unit


def _kilowatts(lots: tuple[Lot, ...], systems: tuple[System, ...], assumptions: Assumptions) -> float:
    return sum(
        math.ceil(lot.count / system.count - 1e-9) * assumptions[system.rack_kw.name].value
        for lot, system in zip(lots, systems, strict=True)
    )
