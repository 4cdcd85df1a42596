"""Public cloud, managed AI factory and own data centre side by side, each cell computed."""

import math

import msgspec
import numpy as np

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.economics import cells
from bessemer_planner.economics.assumptions import Assumptions, Inputs, default_assumptions
from bessemer_planner.economics.cells import WayParts
from bessemer_planner.economics.costs import facility_factor
from bessemer_planner.economics.draws import break_even, cash_flow, cumulative, interval, tornado
from bessemer_planner.economics.rates import Quote
from bessemer_planner.economics.sides import Side, cloud_side, factory_side, own_side, short_rents
from bessemer_planner.economics.types import (
    HOURS_PER_MONTH,
    HOURS_PER_YEAR,
    BreakEven,
    Need,
    Ownership,
    Power,
    Swing,
    WayCosts,
)
from bessemer_planner.economics.ways import LEAD, OWN_LEAD, Picture, Way, bridge
from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.types import Owner

DRAWS = 1000
_SHOWN = 10
"""Inputs in a tornado."""


def ownership(
    need: Need,
    catalog: HardwareCatalog,
    assumptions: Assumptions | None = None,
    *,
    rented: Need | None = None,
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
        rented: the fleet for the same demand that is cheapest in the public cloud, which break-even compares with;
            None: the same accelerators.
        draws: Monte Carlo draws.
        seed: the same seed gives the same numbers.
        on: take prices as known on this day (ISO).

    Raises:
        Unsatisfiable: the need asks for nothing.
    """
    if not need.lots or need.accelerators <= 0:
        raise Unsatisfiable("no accelerators are asked for; an ownership comparison needs at least one lot")
    assumptions = assumptions or default_assumptions(catalog)
    spill = short_rents(need, catalog, on)
    other = need if rented is None else rented
    sides = {
        Owner.CLOUD: cloud_side(need, catalog, on),
        Owner.AI_FACTORY: factory_side(need, catalog, assumptions, on),
        Owner.OWN: own_side(need, catalog, assumptions, spill),
    }
    against = _Rented(other, cloud_side(other, catalog, on).way, short_rents(other, catalog, on))
    comparison = _Comparison(need, assumptions, assumptions.sample(draws, seed), against, spill)
    return tuple(comparison.computed(owner, side) for owner, side in sides.items())


class _Rented(msgspec.Struct, frozen=True):
    """The public cloud that other ways are compared with."""

    need: Need
    way: Way | None
    short: tuple[Quote, ...] | None
    """Rents without a long commitment, until another way serves."""


class _Comparison(msgspec.Struct, frozen=True):
    """What all ways have in common."""

    need: Need
    assumptions: Assumptions
    drawn: Inputs
    rented: _Rented
    spill: tuple[Quote, ...] | None
    """Rents of the need's own accelerators without a long commitment."""

    def computed(self, owner: Owner, side: Side) -> Ownership:
        """Return one way with its cells and its money."""
        need, assumptions = self.need, self.assumptions
        lead = OWN_LEAD[side.terms.space] if owner is Owner.OWN else LEAD[owner]
        speed = cells.speed(need, assumptions, self.drawn, lead)
        where = cells.sovereignty(owner, side.terms, need)
        reasons = (*self._rules(owner, speed.months.value, speed.months.high), *side.reasons)
        if not where.satisfied and not reasons:
            reasons = (where.text,)
        swings = tornado(side.way, assumptions) if side.way is not None else ()
        served = side.way is not None and speed.months.value < need.horizon_months
        assumed = {swing.name for swing in swings if swing.assumption}
        assumed |= {lead} if assumptions[lead].assumption else set()
        return Ownership(
            owner=owner,
            name=cells.NAMES[owner],
            feasible=not reasons and side.way is not None,
            reasons=(*reasons, *side.cautions),
            commitment=cells.commitment(owner, side.terms, need, assumptions) if side.way is not None else None,
            sovereignty=where,
            speed=speed,
            management=cells.management(owner, side.terms, need, assumptions),
            money=self._money(owner, side.way, side.terms, swings) if side.way is not None and served else None,
            assumed=tuple(sorted(assumed)),
        )

    def _rules(self, owner: Owner, months: float, latest: float) -> tuple[str, ...]:
        broken = []
        if owner not in self.need.owners:
            broken.append(f"the need does not allow {owner.value.replace('_', ' ')}")
        if self.need.lead_months is not None and months > self.need.lead_months:
            broken.append(
                f"half of the time it takes more than {months:.1f} months to the first served token, "
                f"{self.need.lead_months:g} are allowed"
            )
        if months >= self.need.horizon_months:
            broken.append(
                f"it serves nothing within the horizon of {self.need.horizon_months} months; nearest: a horizon of "
                f"{math.ceil(latest) + 12} months"
            )
        return tuple(broken)

    def _money(self, owner: Owner, way: Way, terms: WayParts, swings: tuple[Swing, ...]) -> WayCosts:
        need, inputs, central = self.need, self.drawn, self.assumptions.central()
        middle, drawn = way(central), way(inputs)
        present = drawn.present_cost(inputs)
        hours = drawn.accelerator_hours(need, inputs)
        per_hour = present[hours > 0] / hours[hours > 0]
        low, half, high = cumulative(drawn, need, inputs)
        tokens = None
        if need.output_tokens_per_month:
            running = sum(lot.running for lot in need.lots)
            tokens = interval(per_hour * running * HOURS_PER_MONTH / (need.output_tokens_per_month / 1e6))
        return WayCosts(
            cash=cash_flow(middle, need, central),
            cumulative_p10=low,
            cumulative_p50=half,
            cumulative_p90=high,
            npv_usd=interval(drawn.npv(need, inputs)),
            present_cost_usd=interval(present),
            usd_per_accelerator_hour=interval(per_hour),
            usd_per_million_tokens=tokens,
            depreciation_usd_per_month=self._depreciation(terms) if owner is Owner.OWN else 0.0,
            power=self._power(terms, middle, central),
            break_even=None if owner is Owner.CLOUD else self._break_even(way, middle, drawn),
            tornado=swings[:_SHOWN],
        )

    def _break_even(self, way: Way, middle: Picture, drawn: Picture) -> BreakEven | None:
        """Compare the same service from the same day on: until a way serves, it rents. Resale waits for the end.

        For the utilisation both sides leave out the people who run the serving platform: they are needed either way.
        """
        rented, short = self.rented.way, self.rented.short
        if rented is None or short is None:
            return None
        need, inputs, central = self.need, self.drawn, self.assumptions.central()
        early = bridge(self.rented.need, short, central, middle.time)
        kept = sum(middle.costs.get(cause, np.zeros_like(early)) for cause in ("resale", "building kept"))
        same = middle.spent + early - np.asarray(kept)
        until = bridge(self.rented.need, short, inputs, drawn.time)
        bridging = Picture({"bridge": until}, drawn.time, drawn.served)
        cost = drawn.present_cost(inputs) + bridging.present_cost(inputs)
        cheaper = cost < rented(inputs).present_cost(inputs)
        machines_only = self.assumptions.pinned({"staff.platform_base": 0.0}).central()
        full = way(machines_only)
        hours = full.accelerator_hours(always_on(need), machines_only)[0]
        usd_per_hour = float(full.present_cost(machines_only)[0] / max(hours, 1e-9))
        hourly = None if self.spill is None else hourly_rate(need, self.spill, self.assumptions)
        return break_even(same[0], rented(central).spent[0], cheaper, usd_per_hour, hourly)

    def _depreciation(self, terms: WayParts) -> float:
        price = cells.machine_price(terms, self.assumptions)
        return price / (12.0 * self.assumptions["finance.depreciation_years"].value)

    def _power(self, terms: WayParts, middle: Picture, central: Inputs) -> Power | None:
        if middle.kw is None:
            return None
        liquid = any(system.liquid for system in terms.systems)
        provisioned = float(middle.kw[0, -1])
        average = provisioned * float(facility_factor(central, liquid=liquid)[0, 0])
        pue = self.assumptions["power.pue_liquid" if liquid else "power.pue_air"].value
        return Power(provisioned, average, pue, liquid, average * HOURS_PER_YEAR)


def always_on(need: Need) -> Need:
    """Return the same need with every accelerator in use at all hours, but those that are booked run by run."""
    always = tuple(
        lot if lot.booked else msgspec.structs.replace(lot, mean=None, cloud_usd_per_month=None) for lot in need.lots
    )
    return msgspec.structs.replace(need, lots=always)


def hourly_rate(need: Need, spill: tuple[Quote, ...], assumptions: Assumptions) -> float | None:
    """Return what an accelerator-hour costs that is paid by the hour, with what comes with it; None: not sold so."""
    if not all(quote.by_the_hour for quote in spill):
        return None
    paid = sum(lot.count * quote.rate for lot, quote in zip(need.lots, spill, strict=True))
    people = (
        assumptions["staff.cloud_per_1000"].value / 1000.0 * assumptions["staff.usd_per_year"].value / HOURS_PER_YEAR
    )
    return paid / need.accelerators * (1.0 + assumptions["cloud.hidden_share"].value) + people
