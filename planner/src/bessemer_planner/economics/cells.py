"""The four cells of the comparison: commitment, sovereignty, speed to market, management. Each is computed."""

import math

import msgspec

from bessemer_planner.catalog import System
from bessemer_planner.economics.assumptions import Assumptions, Inputs
from bessemer_planner.economics.draws import interval, value_lost
from bessemer_planner.economics.rates import Quote, operator_allowed
from bessemer_planner.economics.types import (
    HOURS_PER_MONTH,
    Commitment,
    Lot,
    Management,
    Need,
    SovereigntyCell,
    Space,
    SpeedToMarket,
)
from bessemer_planner.types import Owner

NAMES = {
    Owner.CLOUD: "Public cloud",
    Owner.AI_FACTORY: "Managed AI factory",
    Owner.OWN: "Own data centre",
}


class WayParts(msgspec.Struct, frozen=True):
    """What a way of owning consists of."""

    quotes: tuple[Quote, ...] = ()
    """Public cloud: one for each lot."""
    floor: int = 0
    """AI factory: smallest number of accelerators."""
    lots: tuple[Lot, ...] = ()
    systems: tuple[System, ...] = ()
    rates: tuple[float, ...] = ()
    """AI factory: list price per accelerator hour before the discount."""
    spare: tuple[int, ...] = ()
    space: Space = Space.COLOCATION
    first: float = 1.0
    """What is installed first over what is needed today: it grows until service begins, and a year more is bought."""
    last: float = 1.0
    """The same at the end of the horizon: what a building is made for."""


def commitment(owner: Owner, terms: WayParts, need: Need, assumptions: Assumptions) -> Commitment:
    """Return what one is bound to."""
    if owner is Owner.CLOUD:
        return _cloud_commitment(terms, need)
    if owner is Owner.AI_FACTORY:
        return _factory_commitment(terms, need, assumptions)
    return _own_commitment(terms, need, assumptions)


def _cloud_commitment(terms: WayParts, need: Need) -> Commitment:
    held = list(zip(need.lots, terms.quotes, strict=True))
    bound = [(lot, quote) for lot, quote in held if not quote.by_the_hour and not lot.booked]
    months = max((quote.months for _, quote in bound), default=0)
    minimum = sum(quote.units(lot.count) * quote.instance.count for lot, quote in bound)
    usd = sum(quote.usd_per_month(lot) * quote.months for lot, quote in bound)
    left = sum(quote.usd_per_month(lot) * _left(need.horizon_months // 2, quote.months) for lot, quote in bound)
    beyond = sum(quote.usd_per_month(lot) * _left(need.horizon_months, quote.months) for lot, quote in bound)
    bought = "; ".join(
        f"{quote.units(lot.count)} x {quote.instance.name} {quote.price.term.replace('_', ' ')} at "
        f"${quote.price.usd_per_hour:,.2f}/h ({quote.price.region}, {quote.price.date})"
        for lot, quote in held
    )
    text = f"{bought}. " + (
        f"Bound for {months} months at a time, ${usd:,.0f}; stopping half-way loses ${left:,.0f}."
        if bound
        else "Nothing is committed; it may stop within the hour."
    )
    return Commitment(months, minimum, usd, left, beyond, text)


def _left(month: int, term: int) -> int:
    """Return the months of a renewed term that are left after `month` months."""
    return -month % term


def _factory_commitment(terms: WayParts, need: Need, assumptions: Assumptions) -> Commitment:
    term = assumptions["factory.term_months"].value
    kept = 1.0 - assumptions["factory.discount"].value
    each = [
        _systems(lot, system, 0, terms.first) * system.count
        for lot, system in zip(terms.lots, terms.systems, strict=True)
    ]
    held = sum(each)
    rent = sum(count * rate for count, rate in zip(each, terms.rates, strict=True))
    monthly = kept * HOURS_PER_MONTH * rent
    exit_share = assumptions["factory.exit_share"].value
    delay = assumptions["lead.factory_months"].value
    left = max(term - max(need.horizon_months / 2 - delay, 0.0), 0.0)
    beyond = max(term - max(need.horizon_months - delay, 0.0), 0.0)
    text = (
        f"{held:,} accelerators{_growing(terms)} for {term:.0f} months at ${monthly:,.0f} a month, "
        f"${monthly * term:,.0f} in all; stopping half-way owes ${exit_share * left * monthly:,.0f}. Term, discount "
        "and exit are assumptions: nothing is published but a minimum of about 3,000 accelerators. Space and power are "
        "the customer's."
    )
    return Commitment(term, held, monthly * term, exit_share * left * monthly, beyond * monthly, text)


def _own_commitment(terms: WayParts, need: Need, assumptions: Assumptions) -> Commitment:
    held = sum(_systems(*one, terms.first) * one[1].count for one in _bought(terms))
    price = machine_price(terms, assumptions)
    extra = sum(assumptions[f"capex.{name}_share"].value for name in ("network", "storage", "installation"))
    building = 0.0
    if terms.space is Space.BUILD:
        racks = ((_systems(*one, terms.last), one[1].rack_kw.name) for one in _bought(terms))
        watts = 1000.0 * sum(count * assumptions[name].value for count, name in racks)
        building = watts * assumptions["capex.build_usd_per_watt"].value
        if any(system.liquid for system in terms.systems):
            building *= 1.0 + assumptions["capex.build_ai_premium"].value
    lead = "lead.own_build_months" if terms.space is Space.BUILD else "lead.own_colocation_months"
    age = max(need.horizon_months / 2 - assumptions[lead].value, 0.0)
    resale = price * assumptions["finance.residual_3yr"].value ** (age / 36.0)
    outlay = price * (1.0 + extra) + building
    life = assumptions["finance.depreciation_years"].value * 12.0
    text = (
        f"{held:,} accelerators{_growing(terms)} bought for ${price:,.0f}, fabric and installation "
        f"${price * extra:,.0f}"
        + (f", building ${building:,.0f}" if building else ", space rented by the provisioned kW")
        + f"; stopping half-way loses ${outlay - resale:,.0f} after resale. Written off over {life / 12:.0f} years."
    )
    return Commitment(life, held, outlay, outlay - resale, 0.0, text)


def _growing(terms: WayParts) -> str:
    return " (with the growth until a year after service begins)" if terms.first > 1.005 else ""


def _bought(terms: WayParts) -> list[tuple[Lot, System, int]]:
    return list(zip(terms.lots, terms.systems, terms.spare, strict=True))


def _systems(lot: Lot, system: System, spare: int, growth: float) -> int:
    return math.ceil((lot.count * growth + spare) / system.count - 1e-9)


def machine_price(terms: WayParts, assumptions: Assumptions) -> float:
    """Return the price of the machines that are bought first, spares included."""
    total = 0.0
    for lot, system, spare in _bought(terms):
        assert system.price_usd is not None
        total += _systems(lot, system, spare, terms.first) * assumptions[system.price_usd.name].value
    return total


def sovereignty(owner: Owner, terms: WayParts, need: Need) -> SovereigntyCell:
    """Return where data are and whose law reaches them."""
    if owner is Owner.OWN:
        text = "Own site and people: only the law of the place applies."
        return SovereigntyCell("own site", "the customer", "the site's own", satisfied=True, text=text)
    if owner is Owner.AI_FACTORY:
        text = (
            "Data stay on the customer's site; AWS installs and operates the machines like a private region, so an "
            "operator under the law of the United States has hands on them."
        )
        return SovereigntyCell(
            "own site", "AWS", "United States, and the site's own", operator_allowed("AWS", need), text
        )
    if not terms.quotes:
        text = "No provider rents this within the allowed regions and operators."
        return SovereigntyCell("none", "none", "not known", satisfied=False, text=text)
    regions = ", ".join(sorted({quote.price.region for quote in terms.quotes}))
    operators = ", ".join(sorted({quote.instance.operator for quote in terms.quotes}))
    laws = ", ".join(sorted({quote.law for quote in terms.quotes}))
    kept = all(
        (not need.regions or quote.price.region.startswith(need.regions))
        and (operator_allowed(quote.instance.operator, need) or operator_allowed(quote.instance.provider, need))
        for quote in terms.quotes
    )
    text = f"Data in {regions}, machines run by {operators}: the law of {laws} reaches the operator wherever it stands."
    return SovereigntyCell(regions, operators, laws, kept, text)


def speed(need: Need, assumptions: Assumptions, inputs: Inputs, lead: str) -> SpeedToMarket:
    """Return months to the first served token and the value lost while waiting."""
    months = interval(inputs[lead])
    lost = interval(value_lost(need, inputs, lead))
    figure = assumptions[lead]
    label = "; an assumption" if figure.assumption else ""
    told = f"{figure.low:g} to {figure.high:g} months ({figure.source.where}{label})"
    worth = (
        f" The wait costs ${lost.value:,.0f} of present value (P10 ${lost.low:,.0f}, P90 ${lost.high:,.0f})."
        if need.value_per_month
        else " State what the service is worth in a month to price the wait."
    )
    return SpeedToMarket(months, lost, f"First served token after {told}.{worth}")


def management(owner: Owner, terms: WayParts, need: Need, assumptions: Assumptions) -> Management:
    """Return who operates and how many people it takes."""
    key = {Owner.CLOUD: "cloud", Owner.AI_FACTORY: "factory", Owner.OWN: "own"}[owner]
    size = sum(lot.count for lot in terms.lots) if owner is Owner.AI_FACTORY and terms.lots else need.accelerators
    people = assumptions["staff.platform_base"].value + assumptions[f"staff.{key}_per_1000"].value * size / 1000.0
    if owner is Owner.OWN and terms.space is Space.BUILD:
        people += assumptions["staff.own_base"].value
    who = {
        Owner.CLOUD: "the provider",
        Owner.AI_FACTORY: "the provider, in the customer's building",
        Owner.OWN: "the customer",
    }[owner]
    hours = assumptions[f"reliability.repair_hours_{key}"].value
    spare = sum(terms.spare)
    usd = people * assumptions["staff.usd_per_year"].value
    held = f" {spare:,} spare accelerators keep the need met 99.9 % of the time." if spare else ""
    text = (
        f"Machines are run by {who}; {people:.1f} people, ${usd:,.0f} a year; a repair takes about {hours:g} h.{held}"
    )
    return Management(who, people, usd, hours, spare, text)
