"""Claims about owning: C9 (18 to 30 months) and C10 (the comparison of the three ways)."""

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.claims.types import Claim, Computed, Input, Verdict
from bessemer_planner.economics import Assumptions, Lot, Need, Ownership, default_assumptions, ownership
from bessemer_planner.types import Owner

VALUE = 30e6
"""USD a month that the example service is worth: about twice what its machines cost to rent. An assumption."""
EXAMPLE = Need((Lot("gb200", 3600, mean=2400),), horizon_months=60, value_per_month=VALUE)
SMALLER = Need((Lot("gb200", 72, mean=48),), horizon_months=60)
_LEAD = "lead.own_build_months"


def time_to_build(catalog: HardwareCatalog) -> Claim:
    """C9: what 18, 24 and 30 months do to the present value of one's own data centre."""
    assumptions = default_assumptions(catalog)
    lead = assumptions[_LEAD]
    sides = {months: _own(catalog, assumptions.pinned({_LEAD: float(months)})) for months in (18, 24, 30)}
    npv = {months: side.money.npv_usd for months, side in sides.items() if side.money is not None}
    lost = {months: side.speed.npv_lost_usd for months, side in sides.items()}
    drawn = _own(catalog, assumptions).speed.months
    computed = [Computed("lead time", drawn.value, "months", drawn.low, drawn.high)]
    for months in sides:
        computed.append(
            Computed(f"NPV at {months} months", npv[months].value, "USD", npv[months].low, npv[months].high)
        )
        computed.append(
            Computed(f"lost by waiting {months} months", lost[months].value, "USD", lost[months].low, lost[months].high)
        )
    return Claim(
        number="C9",
        claim="Building one's own AI data centre takes 18 to 30 months.",
        inputs=(
            Input("lead time", f"{lead.low:g} to {lead.high:g}", "months", lead.source.where),
            Input("example", "3,600 GB200, two thirds busy, 60 months", "", "assumption"),
            Input("value", VALUE, "USD a month when served", "assumption"),
        ),
        computed=tuple(computed),
        verdict=Verdict.HOLDS_IF if (lead.low, lead.high) == (18.0, 30.0) else Verdict.FAILS,
        explanation=(
            "It is the range of the sources for a new building with its power; machines in rented space need no "
            f"building ({assumptions['lead.own_colocation_months'].low:g} to "
            f"{assumptions['lead.own_colocation_months'].high:g} months, an assumption). For the example each half "
            f"year costs: present value ${npv[18].value / 1e6:,.0f}M at 18 months, ${npv[24].value / 1e6:,.0f}M at "
            f"24, ${npv[30].value / 1e6:,.0f}M at 30."
        ),
        condition="a building and its power are built; rented space is faster",
    )


def _own(catalog: HardwareCatalog, assumptions: Assumptions) -> Ownership:
    return next(side for side in ownership(EXAMPLE, catalog, assumptions, draws=300) if side.owner is Owner.OWN)


def three_ways(catalog: HardwareCatalog) -> Claim:
    """C10: the table of the three ways, computed for a large and a small fleet."""
    large = {side.owner: side for side in ownership(EXAMPLE, catalog)}
    small = {side.owner: side for side in ownership(SMALLER, catalog)}
    cloud, factory, own = (large[owner] for owner in Owner)
    fastest = cloud.speed.months.value < factory.speed.months.value < own.speed.months.value
    least_bound = _bound(cloud) < min(_bound(factory), _bound(own))
    least_work = max(cloud.management.people, factory.management.people) < own.management.people
    on_site = factory.sovereignty.region == own.sovereignty.region == "own site"
    floor = not small[Owner.AI_FACTORY].feasible
    agrees = fastest and least_bound and least_work and on_site
    computed = []
    for side in large.values():
        computed += _table(side)
    return Claim(
        number="C10",
        claim=(
            "An AI factory joins the cloud's speed and management with the sovereignty of one's own data centre, for "
            "a commitment."
        ),
        inputs=(
            Input("example", "3,600 GB200, two thirds busy, 60 months", "", "assumption"),
            Input("smaller", "72 GB200", "", "assumption"),
        ),
        computed=tuple(computed),
        verdict=(Verdict.HOLDS_IF if floor else Verdict.HOLDS) if agrees else Verdict.FAILS,
        explanation=" ".join(
            (
                *(f"{side.name}: {_row(side)}" for side in large.values()),
                "It holds only from about 3,000 accelerators on ("
                + (small[Owner.AI_FACTORY].reasons[0] if floor else "no floor")
                + "), and term, discount and delivery of an AI factory are assumptions: nothing is published. The "
                "sovereignty is of place, not of operator.",
            )
        ),
        condition="the plan needs about 3,000 accelerators and more",
    )


def _bound(side: Ownership) -> float:
    assert side.commitment is not None
    return side.commitment.usd


def _table(side: Ownership) -> list[Computed]:
    assert side.commitment is not None
    assert side.money is not None
    months, hour, npv = side.speed.months, side.money.usd_per_accelerator_hour, side.money.npv_usd
    lost = side.speed.npv_lost_usd
    return [
        Computed(f"{side.name}: committed", side.commitment.usd, "USD"),
        Computed(f"{side.name}: exit half-way", side.commitment.exit_usd, "USD"),
        Computed(f"{side.name}: first token", months.value, "months", months.low, months.high),
        Computed(f"{side.name}: lost by waiting", lost.value, "USD", lost.low, lost.high),
        Computed(f"{side.name}: people", side.management.people, ""),
        Computed(f"{side.name}: repair", side.management.repair_hours, "h"),
        Computed(f"{side.name}: accelerator-hour", hour.value, "USD", hour.low, hour.high),
        Computed(f"{side.name}: NPV", npv.value, "USD", npv.low, npv.high),
    ]


def _row(side: Ownership) -> str:
    assert side.commitment is not None
    assert side.money is not None
    return (
        f"commitment ${side.commitment.usd / 1e6:,.0f}M; operator {side.sovereignty.operator}, data in "
        f"{side.sovereignty.region}; first token after {side.speed.months.value:.1f} months; "
        f"{side.management.people:.0f} people; ${side.money.usd_per_accelerator_hour.value:.2f} per accelerator-hour."
    )
