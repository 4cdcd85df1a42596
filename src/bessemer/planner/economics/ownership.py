"""Public cloud, managed AI factory and own data centre side by side: who they are for, each cell computed."""

import math

import msgspec
import numpy as np

from bessemer.core.errors import Infeasible
from bessemer.planner.catalog import Catalog, System
from bessemer.planner.economics import cells
from bessemer.planner.economics.assumptions import Assumptions, Inputs, default_assumptions
from bessemer.planner.economics.cells import Terms
from bessemer.planner.economics.costs import facility_factor
from bessemer.planner.economics.draws import break_even, cash_flow, cumulative, interval, tornado
from bessemer.planner.economics.rates import Quote, operator_allowed, quotes
from bessemer.planner.economics.reliability import availability, spares
from bessemer.planner.economics.types import BreakEven, Lot, Money, Need, Owner, Ownership, Power, Space
from bessemer.planner.economics.ways import LEAD, OWN_LEAD, Picture, Way, bridge, cloud_way, factory_way, own_way

FACTORY_PROVIDER = "AWS"
FACTORY_ARCHITECTURES = ("blackwell", "trainium")
"""What AWS AI Factories hold: Trainium3 or Blackwell (AWS announcement, 2025-12-02)."""
OWN_BUILDING_KW = 1000.0
"""Below this much provisioned power space is rented unless the caller says otherwise."""
DRAWS = 1000


class _Side(msgspec.Struct, frozen=True):
    """A way of owning before it is drawn."""

    way: Way | None
    reasons: tuple[str, ...]
    cautions: tuple[str, ...]
    terms: Terms


def ownership(
    need: Need,
    catalog: Catalog,
    assumptions: Assumptions | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    on: str | None = None,
) -> tuple[Ownership, ...]:
    """Compare the three ways of owning what a need asks for, in the order cloud, AI factory, own.

    A way that breaks a rule of the need (owner, region, operator, lead time, floor) comes back with `feasible` false,
    the reason and the nearest feasible; its money is still computed where prices exist, so that the rule has a price.

    Args:
        need: lots of accelerators, horizon, growth, value, rules.
        catalog: hardware, prices and figures.
        assumptions: inputs with ranges; None: the catalogue's.
        draws: Monte Carlo draws.
        seed: the same seed gives the same numbers.
        on: take prices as known on this day (ISO).

    Raises:
        Infeasible: the need asks for nothing.
    """
    if not need.lots or need.accelerators <= 0:
        raise Infeasible("no accelerators are asked for; an ownership comparison needs at least one lot")
    assumptions = assumptions or default_assumptions(catalog)
    spill = _spill(need, catalog, on)
    sides = {
        Owner.CLOUD: _cloud(need, catalog, on),
        Owner.AI_FACTORY: _factory(need, catalog, assumptions, on),
        Owner.OWN: _own(need, catalog, assumptions, spill),
    }
    inputs = assumptions.sample(draws, seed)
    rented = sides[Owner.CLOUD].way
    return tuple(_computed(owner, side, need, assumptions, inputs, rented, spill) for owner, side in sides.items())


def _cloud(need: Need, catalog: Catalog, on: str | None) -> _Side:
    chosen, missing = _cheapest(need, catalog, on)
    if not missing:
        return _Side(cloud_way(need, chosen), (), (), Terms(quotes=chosen))
    reasons = tuple(
        f"{lot.accelerator} cannot be rented within the regions, operators and terms allowed" for lot in missing
    )
    free = msgspec.structs.replace(need, regions=(), operators=())
    anywhere, nowhere = _cheapest(free, catalog, on)
    if nowhere:
        return _Side(None, reasons, (), Terms())
    nearest = ", ".join(sorted({f"{quote.instance.name} in {quote.price.region}" for quote in anywhere}))
    return _Side(cloud_way(need, anywhere), (*reasons, f"nearest: {nearest}"), (), Terms(quotes=anywhere))


def _cheapest(need: Need, catalog: Catalog, on: str | None) -> tuple[tuple[Quote, ...], tuple[Lot, ...]]:
    chosen, missing = [], []
    for lot in need.lots:
        found = quotes(catalog, lot, need, on)
        if found:
            chosen.append(found[0])
        else:
            missing.append(lot)
    return tuple(chosen), tuple(missing)


def _spill(need: Need, catalog: Catalog, on: str | None) -> tuple[Quote, ...] | None:
    """Return rents without a long commitment, for what waits or overflows; None where the need forbids the cloud."""
    if Owner.CLOUD not in need.owners:
        return None
    short = tuple(term for term in need.terms if term in ("on_demand", "capacity_block"))
    chosen, missing = _cheapest(msgspec.structs.replace(need, terms=short), catalog, on)
    return None if missing else chosen


def _factory(need: Need, catalog: Catalog, assumptions: Assumptions, on: str | None) -> _Side:
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
    except Infeasible as error:
        return _Side(None, (*reasons, error.message), (), Terms(floor=floor))
    kw = _kilowatts(lots, systems, assumptions)
    space = Space.COLOCATION if assumptions.space is Space.AUTO else assumptions.space
    way = factory_way(need, lots, systems, rates, space) if all(offered) else None
    terms = Terms(floor=floor, lots=lots, systems=systems, rates=rates, space=space, kw=kw)
    return _Side(way, tuple(reasons), cautions, terms)


def _rack(catalog: Catalog, lot: Lot) -> System:
    name = catalog.accelerator(lot.accelerator).name
    if name not in catalog.systems:
        raise Infeasible(f"the rack power of {name} is not public; known: {', '.join(catalog.systems)}")
    return catalog.systems[name]


def _factory_rates(catalog: Catalog, need: Need, on: str | None) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Return the list rates that the discount is taken off: the provider's cheapest committed one, or the nearest."""
    rates, cautions = [], []
    anyone = msgspec.structs.replace(need, regions=(), operators=())
    for lot in need.lots:
        found = quotes(catalog, Lot(lot.accelerator, lot.count), anyone, on)
        theirs = [quote for quote in found if quote.instance.provider == FACTORY_PROVIDER and not quote.by_the_hour]
        pool = theirs or list(found)
        if not pool:
            raise Infeasible(f"no public price of {lot.accelerator} to derive an AI factory's from")
        base = min(pool, key=lambda quote: quote.rate)
        cautions.append(
            f"no AI factory price is public: {base.instance.name} {base.price.term} of {base.price.date} "
            f"(${base.rate:.2f} per accelerator hour) less an assumed discount"
        )
        rates.append(base.rate)
    return tuple(rates), tuple(cautions)


def _own(need: Need, catalog: Catalog, assumptions: Assumptions, spill: tuple[Quote, ...] | None) -> _Side:
    try:
        systems = tuple(catalog.system(lot.accelerator) for lot in need.lots)
    except Infeasible as error:
        return _Side(None, (error.message,), (), Terms())
    spare = tuple(_spare(lot, system, assumptions, "own") for lot, system in zip(need.lots, systems, strict=True))
    kw = _kilowatts(need.lots, systems, assumptions)
    space = assumptions.space
    if space is Space.AUTO:
        space = Space.BUILD if kw >= OWN_BUILDING_KW else Space.COLOCATION
    way = own_way(need, systems, spare, space, spill)
    cautions: tuple[str, ...] = ("purchase prices are trade press, not quotes",)
    if spill is None:
        cautions += ("demand beyond what is installed is not served: renting is not allowed or not possible",)
    return _Side(way, (), cautions, Terms(lots=need.lots, systems=systems, spare=spare, space=space, kw=kw))


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


def _computed(
    owner: Owner,
    side: _Side,
    need: Need,
    assumptions: Assumptions,
    inputs: Inputs,
    rented: Way | None,
    spill: tuple[Quote, ...] | None,
) -> Ownership:
    lead = OWN_LEAD[side.terms.space] if owner is Owner.OWN else LEAD[owner]
    reasons = list(side.reasons)
    if owner not in need.owners:
        reasons.insert(0, f"the need does not allow {owner.value.replace('_', ' ')}")
    speed = cells.speed(need, assumptions, inputs, lead)
    if need.lead_months is not None and speed.months.value > need.lead_months:
        reasons.append(
            f"half of the time it takes more than {speed.months.value:.1f} months to the first served token, "
            f"{need.lead_months:g} are allowed"
        )
    where = cells.sovereignty(owner, side.terms, need)
    if not where.satisfied and owner is Owner.CLOUD and not reasons:
        reasons.append(where.text)
    late = bool(speed.months.value >= need.horizon_months)
    if late:
        reasons.append(
            f"it serves nothing within the horizon of {need.horizon_months} months; nearest: a horizon of "
            f"{math.ceil(speed.months.high) + 12} months"
        )
    money = None
    if side.way is not None and not late:
        money = _money(owner, side, need, assumptions, inputs, rented, spill)
    return Ownership(
        owner=owner,
        name=cells.NAMES[owner],
        feasible=not reasons and side.way is not None,
        reasons=(*reasons, *side.cautions),
        commitment=cells.commitment(owner, side.terms, need, assumptions) if side.way is not None else None,
        sovereignty=where,
        speed=speed,
        management=cells.management(owner, side.terms, need, assumptions),
        money=money,
        assumed=_assumed(side.way, assumptions, lead),
    )


def _assumed(way: Way | None, assumptions: Assumptions, lead: str) -> tuple[str, ...]:
    if way is None:
        return (lead,) if assumptions[lead].assumption else ()
    moving = {swing.name for swing in tornado(way, assumptions, most=len(assumptions.figures))} | {lead}
    return tuple(sorted(name for name in moving if assumptions[name].assumption))


def _money(
    owner: Owner,
    side: _Side,
    need: Need,
    assumptions: Assumptions,
    inputs: Inputs,
    rented: Way | None,
    spill: tuple[Quote, ...] | None,
) -> Money:
    assert side.way is not None
    central = assumptions.central()
    middle, drawn = side.way(central), side.way(inputs)
    present = drawn.present_cost(inputs)
    hours = drawn.accelerator_hours(need, inputs)
    per_hour = present[hours > 0] / hours[hours > 0]
    low, half, high = cumulative(drawn, need, inputs)
    tokens = None
    if need.output_tokens_per_month:
        running = sum(lot.running for lot in need.lots)
        tokens = interval(per_hour * running * 730.5 / (need.output_tokens_per_month / 1e6))
    even = None
    if owner is not Owner.CLOUD and rented is not None and spill is not None:
        even = _break_even(side.way, rented, need, spill, assumptions, inputs)
    return Money(
        cash=cash_flow(middle, need, central),
        cumulative_p10=low,
        cumulative_p50=half,
        cumulative_p90=high,
        npv_usd=interval(drawn.npv(need, inputs)),
        present_cost_usd=interval(present),
        usd_per_accelerator_hour=interval(per_hour),
        usd_per_million_tokens=tokens,
        depreciation_usd_per_month=_depreciation(owner, side.terms, assumptions),
        power=_power(side.terms, middle.kw, assumptions, central),
        break_even=even,
        tornado=tornado(side.way, assumptions),
    )


def _break_even(
    way: Way, rented: Way, need: Need, spill: tuple[Quote, ...], assumptions: Assumptions, inputs: Inputs
) -> BreakEven:
    """Compare the same service from the same day on: until a way serves, it rents. Resale waits for the horizon's end.

    For the utilisation both sides leave out the people who run the serving platform: they are needed either way.
    """
    central = assumptions.central()
    middle = way(central)
    early = bridge(need, spill, central, middle.time)
    kept = sum(middle.costs.get(cause, np.zeros_like(early)) for cause in ("resale", "building kept"))
    same = middle.spent + early - np.asarray(kept)
    drawn = way(inputs)
    bridging = Picture({"bridge": bridge(need, spill, inputs, drawn.time)}, drawn.time, drawn.served)
    cheaper = drawn.present_cost(inputs) + bridging.present_cost(inputs) < rented(inputs).present_cost(inputs)
    machines_only = assumptions.pinned({"staff.platform_base": 0.0}).central()
    always = msgspec.structs.replace(need, lots=tuple(msgspec.structs.replace(lot, mean=None) for lot in need.lots))
    full = way(machines_only)
    usd_per_hour = full.present_cost(machines_only)[0] / max(full.accelerator_hours(always, machines_only)[0], 1e-9)
    return break_even(
        same[0], rented(central).spent[0], cheaper, float(usd_per_hour), _hourly_rate(need, spill, assumptions)
    )


def _hourly_rate(need: Need, spill: tuple[Quote, ...], assumptions: Assumptions) -> float | None:
    if not all(quote.by_the_hour for quote in spill):
        return None
    paid = sum(lot.count * quote.rate for lot, quote in zip(need.lots, spill, strict=True))
    people = assumptions["staff.cloud_per_1000"].value / 1000.0 * assumptions["staff.usd_per_year"].value / 8766.0
    return paid / need.accelerators * (1.0 + assumptions["cloud.hidden_share"].value) + people


def _depreciation(owner: Owner, terms: Terms, assumptions: Assumptions) -> float:
    if owner is not Owner.OWN:
        return 0.0
    price = cells.machine_price(terms, assumptions)
    return price / (12.0 * assumptions["finance.depreciation_years"].value)


def _power(terms: Terms, kw: np.ndarray | None, assumptions: Assumptions, central: Inputs) -> Power | None:
    if kw is None:
        return None
    liquid = any(system.liquid for system in terms.systems)
    provisioned = float(kw[0, -1])
    average = provisioned * float(facility_factor(central, liquid=liquid)[0, 0])
    pue = assumptions["power.pue_liquid" if liquid else "power.pue_air"].value
    return Power(provisioned, average, pue, liquid, average * 8760.0)
