"""The comparison of ownership: sums, order of percentiles, monotony, rules, and figures of others to stand beside."""

import math
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer_planner.catalog import HardwareCatalog, load_catalog
from bessemer_planner.economics import (
    Assumptions,
    Lot,
    Need,
    Ownership,
    Space,
    default_assumptions,
    hour_curves,
    ownership,
)
from bessemer_planner.economics import costs as cost_functions
from bessemer_planner.economics.costs import timeline
from bessemer_planner.economics.rates import quotes
from bessemer_planner.economics.types import HOURS_PER_MONTH
from bessemer_planner.economics.ways import own_way
from bessemer_planner.errors import PlannerError, UnknownName, Unsatisfiable
from bessemer_planner.types import IntervalEstimate, Owner

CATALOG = load_catalog()
BIG = Need((Lot("gb200", 3600, mean=2400),), horizon_months=60, value_per_month=30e6, output_tokens_per_month=1e13)


def by_owner(sides: tuple[Ownership, ...]) -> dict[Owner, Ownership]:
    return {side.owner: side for side in sides}


@pytest.fixture(scope="module")
def big() -> dict[Owner, Ownership]:
    return by_owner(ownership(BIG, CATALOG))


def intervals(side: Ownership) -> list[IntervalEstimate]:
    assert side.money is not None
    found = [side.speed.months, side.speed.npv_lost_usd, side.money.npv_usd, side.money.present_cost_usd]
    found.append(side.money.usd_per_accelerator_hour)
    if side.money.usd_per_million_tokens is not None:
        found.append(side.money.usd_per_million_tokens)
    return found


needs = st.builds(
    Need,
    lots=st.lists(
        st.builds(
            Lot,
            accelerator=st.sampled_from(["gb200", "b200_sxm", "h100_sxm", "rtx_pro_6000_server"]),
            count=st.integers(1, 4000),
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    horizon_months=st.integers(12, 84),
    growth_per_month=st.floats(0.0, 0.05),
    value_per_month=st.sampled_from([0.0, 1e6]),
    output_tokens_per_month=st.sampled_from([None, 1e9]),
)


@settings(max_examples=12)
@given(needs)
def test_cash_adds_up_and_percentiles_are_in_order(need: Need) -> None:
    for side in ownership(need, CATALOG, draws=60):
        if side.money is None:
            continue
        cash = side.money.cash
        assert np.allclose(np.sum(list(cash.by_cause.values()), axis=0), cash.total)
        assert len(cash.total) == need.horizon_months
        for one in intervals(side):
            assert one.low <= one.value <= one.high
        bands = (side.money.cumulative_p10, side.money.cumulative_p50, side.money.cumulative_p90)
        assert np.all(np.diff(np.array(bands), axis=0) >= 0)


@settings(max_examples=6)
@given(st.floats(0.05, 1.0), st.floats(0.05, 1.0))
def test_more_utilisation_never_raises_the_cost_per_token(first: float, second: float) -> None:
    """Output tokens go with the hours in use."""
    low, high = sorted((first, second))
    answers = []
    for used in (low, high):
        lot = Lot("gb200", 3600, mean=3600 * used)
        need = Need((lot,), output_tokens_per_month=1e12 * used)
        answers.append(by_owner(ownership(need, CATALOG, draws=30)))
    for owner in Owner:
        before, after = answers[0][owner].money, answers[1][owner].money
        assert before is not None
        assert after is not None
        assert before.usd_per_million_tokens is not None
        assert after.usd_per_million_tokens is not None
        assert after.usd_per_million_tokens.value <= before.usd_per_million_tokens.value * (1 + 1e-9)
        assert after.usd_per_accelerator_hour.value <= before.usd_per_accelerator_hour.value * (1 + 1e-9)


def test_no_delay_loses_nothing(catalog: HardwareCatalog, assumptions: Assumptions) -> None:
    leads = ("lead.cloud_months", "lead.factory_months", "lead.own_build_months")
    now = assumptions.pinned(dict.fromkeys(leads, 0.0))
    for side in ownership(BIG, catalog, now, draws=40):
        assert side.speed.npv_lost_usd == IntervalEstimate(0.0, 0.0, 0.0)


def test_each_month_of_delay_costs_more(catalog: HardwareCatalog, assumptions: Assumptions) -> None:
    lost = []
    for months in (18.0, 24.0, 30.0):
        pinned = assumptions.pinned({"lead.own_build_months": months})
        side = by_owner(ownership(BIG, catalog, pinned, draws=40))[Owner.OWN]
        assert side.money is not None
        lost.append((side.speed.npv_lost_usd.value, -side.money.npv_usd.value))
    assert lost == sorted(lost)


def test_value_lost_by_hand(catalog: HardwareCatalog, assumptions: Assumptions) -> None:
    """1 M a month for 24 months, no discount, 12 months late, half-life 6, half durable: 24 - 12 x 0.625 = 16.5 M."""
    pinned = assumptions.pinned(
        {
            "lead.own_build_months": 12.0,
            "lead.value_half_life_months": 6.0,
            "lead.durable_share": 0.5,
            "finance.discount_rate": 0.0,
            "demand.factor": 1.0,
        }
    )
    need = Need((Lot("gb200", 3600),), horizon_months=24, value_per_month=1e6)
    side = by_owner(ownership(need, catalog, pinned, draws=5))[Owner.OWN]
    assert side.speed.npv_lost_usd.value == pytest.approx(16.5e6)


def test_cloud_rent_by_hand(catalog: HardwareCatalog, assumptions: Assumptions) -> None:
    """One g7e.48xlarge by the hour for 12 months: 33.14432 x 730.5 each month."""
    fixed = assumptions.pinned({"lead.cloud_months": 0.0, "finance.price_drift": 0.0, "demand.factor": 1.0})
    need = Need((Lot("rtx_pro_6000_server", 8, instance="g7e.48xlarge"),), horizon_months=12)
    side = by_owner(ownership(need, catalog, fixed, draws=5))[Owner.CLOUD]
    assert side.money is not None
    assert side.money.cash.by_cause["rent"] == pytest.approx([-33.14432 * 730.5] * 12)


def test_a_capacity_block_is_prepaid_and_sums_to_the_same(catalog: HardwareCatalog, assumptions: Assumptions) -> None:
    fixed = assumptions.pinned({"lead.cloud_months": 0.0, "finance.price_drift": 0.0, "demand.factor": 1.0})
    need = Need((Lot("gb200", 72, instance="u-p6e-gb200x72"),), horizon_months=15)
    side = by_owner(ownership(need, catalog, fixed, draws=5))[Owner.CLOUD]
    assert side.money is not None
    rent = side.money.cash.by_cause["rent"]
    assert [month for month, usd in enumerate(rent) if usd] == [0, 6, 12]
    assert sum(rent) == pytest.approx(-761.904 * 730.5 * 15)
    assert side.commitment is not None
    assert (side.commitment.months, side.commitment.minimum_accelerators) == (6, 72)


@pytest.mark.parametrize("horizon", [30, 60, 90])
def test_a_loan_at_the_rate_of_discount_is_worth_nothing(
    catalog: HardwareCatalog, assumptions: Assumptions, horizon: int
) -> None:
    need = msgspec.structs.replace(BIG, horizon_months=horizon)
    costs = []
    for share in (0.0, 0.8):
        pinned = assumptions.pinned(
            {"finance.loan_share": share, "finance.loan_rate": 0.1, "finance.discount_rate": 0.1}
        )
        side = by_owner(ownership(need, catalog, pinned, draws=20))[Owner.OWN]
        assert side.money is not None
        costs.append(side.money.present_cost_usd.value)
    assert costs[0] == pytest.approx(costs[1], rel=1e-9)


@dataclass(frozen=True)
class Machines:
    bought: list[int]
    resold: float


def test_machines_are_bought_replaced_and_resold(catalog: HardwareCatalog, assumptions: Assumptions) -> None:
    """2 racks at month 3, life 3 years, horizon 60: bought at 3 and 39, resold at 36 and at 21 months of age."""
    pinned = assumptions.pinned(
        {
            "lead.own_colocation_months": 3.0,
            "finance.depreciation_years": 3.0,
            "finance.residual_3yr": 0.25,
            "system.gb200.price_usd": 3e6,
            "demand.factor": 1.0,
            "finance.loan_share": 0.0,
        }
    )
    need = Need((Lot("gb200", 140),), horizon_months=60)
    way = own_way(need, (catalog.system("gb200"),), (4,), Space.COLOCATION, None)
    billed = way(pinned.central()).costs
    assert {month: usd for month, usd in enumerate(billed["machines"][0]) if usd} == {3: 6e6, 39: 6e6}
    resold = {month: usd for month, usd in enumerate(billed["resale"][0]) if usd}
    assert resold == pytest.approx({39: -6e6 * 0.25, 59: -6e6 * 0.25 ** (21 / 36)})
    assert not billed["loan"].any()


def test_growth_is_bought_a_year_ahead(catalog: HardwareCatalog, assumptions: Assumptions) -> None:
    need = Need((Lot("h100_sxm", 80),), horizon_months=48, growth_per_month=0.05)
    inputs = assumptions.pinned({"lead.own_colocation_months": 6.0, "demand.factor": 1.0}).central()
    time = timeline(need, inputs, "lead.own_colocation_months")
    held = cost_functions.owned(need.lots[0], catalog.system("h100_sxm"), 0, inputs, time).installed[0]
    assert not held[:6].any()
    assert np.all(np.diff(held) >= 0)
    needed = 80 * 1.05 ** np.arange(48)
    assert np.all(held[6:] * 8 >= needed[6:])
    assert held[6] == math.ceil(80 * 1.05**18 / 8)


def test_one_seed_one_answer_and_pinned_inputs_do_not_vary(catalog: HardwareCatalog, assumptions: Assumptions) -> None:
    assert ownership(BIG, catalog, draws=50, seed=3) == ownership(BIG, catalog, draws=50, seed=3)
    fixed = assumptions.pinned({name: figure.value for name, figure in assumptions.figures.items()})
    for side in ownership(BIG, catalog, fixed, draws=20):
        for one in intervals(side):
            assert one.low == pytest.approx(one.high)
        assert side.money is not None
        assert side.money.tornado == ()


def test_draws_stay_inside_their_range(assumptions: Assumptions) -> None:
    drawn = assumptions.sample(500, seed=1)
    for name, figure in assumptions.figures.items():
        assert drawn[name].min() >= figure.low - 1e-9, name
        assert drawn[name].max() <= figure.high + 1e-9, name


def test_the_tornado_is_widest_first_and_marks_assumptions(big: dict[Owner, Ownership]) -> None:
    factory = big[Owner.AI_FACTORY].money
    assert factory is not None
    widths = [swing.width for swing in factory.tornado]
    assert widths == sorted(widths, reverse=True)
    assert factory.tornado[0].name == "factory.discount"
    assert factory.tornado[0].assumption
    assert "factory.discount" in big[Owner.AI_FACTORY].assumed


def test_an_ai_factory_has_a_floor(catalog: HardwareCatalog, big: dict[Owner, Ownership]) -> None:
    assert big[Owner.AI_FACTORY].feasible
    small = by_owner(ownership(Need((Lot("gb200", 72),)), catalog, draws=20))[Owner.AI_FACTORY]
    assert not small.feasible
    assert "starts at about 3,000 accelerators" in small.reasons[0]
    assert small.commitment is not None
    assert small.commitment.minimum_accelerators >= 3000
    other = by_owner(ownership(Need((Lot("rtx_pro_6000_server", 4000),)), catalog, draws=20))[Owner.AI_FACTORY]
    assert not other.feasible
    assert other.money is None


def test_an_ai_factory_price_is_called_an_assumption(big: dict[Owner, Ownership]) -> None:
    factory = big[Owner.AI_FACTORY]
    assert any("no AI factory price is public" in reason for reason in factory.reasons)
    assert factory.commitment is not None
    assert "assumptions" in factory.commitment.text


def test_sovereignty_is_a_hard_limit(catalog: HardwareCatalog) -> None:
    need = Need((Lot("b200_sxm", 64),), regions=("eu-",), operators=("own",))
    sides = by_owner(ownership(need, catalog, draws=20))
    assert not sides[Owner.CLOUD].feasible
    assert not sides[Owner.CLOUD].sovereignty.satisfied
    assert not sides[Owner.AI_FACTORY].feasible
    assert sides[Owner.OWN].feasible
    assert sides[Owner.OWN].sovereignty.satisfied
    european = Need((Lot("h100_sxm", 64),), regions=("eu-",), operators=("aws",))
    rented = by_owner(ownership(european, catalog, draws=20))[Owner.CLOUD]
    assert rented.feasible
    assert rented.sovereignty.region.startswith("eu-")
    assert "United States" in rented.sovereignty.law


def test_owners_and_lead_time_are_rules(catalog: HardwareCatalog) -> None:
    need = msgspec.structs.replace(BIG, owners=(Owner.CLOUD, Owner.OWN), lead_months=12.0)
    sides = by_owner(ownership(need, catalog, draws=50))
    assert sides[Owner.CLOUD].feasible
    assert "does not allow ai factory" in sides[Owner.AI_FACTORY].reasons[0]
    assert "12 are allowed" in sides[Owner.OWN].reasons[0]


def test_no_purchase_price_no_invented_one(catalog: HardwareCatalog) -> None:
    own = by_owner(ownership(Need((Lot("mi300x", 64),)), catalog, draws=20))[Owner.OWN]
    assert own.money is None
    assert not own.feasible
    assert "no purchase price" in own.reasons[0]


def test_quotes_are_cheapest_first_and_spot_must_be_asked_for(catalog: HardwareCatalog) -> None:
    lot, need = Lot("b200_sxm", 8), Need((Lot("b200_sxm", 8),))
    found = quotes(catalog, lot, need)
    costs = [quote.usd_per_month(lot) for quote in found]
    assert costs == sorted(costs)
    assert all(quote.price.term != "spot" for quote in found)
    assert any(quote.price.term == "spot" for quote in quotes(catalog, lot, Need((lot,), terms=("spot",))))


def test_the_way_to_rent_follows_the_rent_that_was_found(catalog: HardwareCatalog) -> None:
    block = Lot("b200_sxm", 8, instance="p6-b200.48xlarge", cloud_usd_per_month=98.84 * 730.5)
    need = Need((block,), terms=("on_demand", "capacity_block"))
    assert quotes(catalog, block, need)[0].price.term == "capacity_block"
    hourly = msgspec.structs.replace(block, cloud_usd_per_month=113.9 * 730.5)
    assert quotes(catalog, hourly, need)[0].price.term == "on_demand"


def test_a_rack_costs_about_what_analysts_say(catalog: HardwareCatalog, assumptions: Assumptions) -> None:
    """Bernstein: 5.9 M USD for a GB200 rack with everything around it."""
    machine = assumptions["system.gb200.price_usd"].value
    shares = sum(assumptions[f"capex.{name}_share"].value for name in ("network", "storage", "installation"))
    watts = assumptions["system.gb200.rack_kw"].value * 1000
    per_watt = assumptions["capex.build_usd_per_watt"].value * (1 + assumptions["capex.build_ai_premium"].value)
    assert machine * (1 + shares) + watts * per_watt == pytest.approx(5.9e6, rel=0.12)


def test_an_owned_hour_costs_about_what_others_say(big: dict[Owner, Ownership]) -> None:
    """InferenceX's table of April 2026: 2.21 (hyperscaler) to 2.75 (GPU cloud) USD per GB200 hour owned."""
    own, rented = big[Owner.OWN].money, big[Owner.CLOUD].money
    assert own is not None
    assert rented is not None
    assert own.break_even is not None
    assert own.break_even.utilisation is not None
    hour = own.break_even.utilisation * 10.50 * 1.10
    assert 2.21 * 0.85 < hour < 2.75 * 1.20


def test_the_commitment_is_what_the_cash_pays(catalog: HardwareCatalog, assumptions: Assumptions) -> None:
    """Growth until service begins is in it: the first machines, the whole building, the factory's first bill."""
    need = Need((Lot("b200_sxm", 3600),), growth_per_month=0.02, horizon_months=60)
    sides = by_owner(ownership(need, catalog, draws=5))
    own, factory = sides[Owner.OWN], sides[Owner.AI_FACTORY]
    assert own.money is not None
    assert own.commitment is not None
    causes = own.money.cash.by_cause
    first = next(-usd for usd in causes["machines"] if usd)
    fabric = next(-usd for usd in causes["fabric and installation"] if usd)
    assert own.commitment.usd == pytest.approx(first + fabric - sum(causes["building"]))
    assert factory.money is not None
    assert factory.commitment is not None
    assert "(with the growth until a year after service begins) bought" in own.commitment.text
    bills = [-usd for usd in factory.money.cash.by_cause["factory"] if usd]
    assert factory.commitment.usd == pytest.approx(60 * bills[1], rel=1e-6)


def test_growth_fills_the_floor_of_a_factory_first(catalog: HardwareCatalog) -> None:
    """64 accelerators that double twice are still below 3,000: the bill is that of the floor in every month."""
    need = Need((Lot("b200_sxm", 64),), growth_per_month=0.03, horizon_months=48)
    side = by_owner(ownership(need, catalog, draws=5))[Owner.AI_FACTORY]
    assert side.money is not None
    assert side.commitment is not None
    assert side.commitment.minimum_accelerators == 3000
    bills = {round(-usd) for usd in side.money.cash.by_cause["factory"][12:]}
    assert bills == {round(side.commitment.usd / 60)}
    near = Need((Lot("b200_sxm", 2000),), growth_per_month=0.03, horizon_months=48)
    grown = by_owner(ownership(near, catalog, draws=5))[Owner.AI_FACTORY]
    assert grown.commitment is not None
    assert 2000 * 1.03**18 - 8 < grown.commitment.minimum_accelerators < 2000 * 1.03**18 + 8


def test_a_lost_tenth_costs_a_ninth_more_to_rent(catalog: HardwareCatalog, assumptions: Assumptions) -> None:
    """What a badly configured network loses must be rented on top: 1 / (1 - 0.1)."""
    rents = []
    for lost in (0.0, 0.1):
        pinned = assumptions.pinned({"network.lost": lost})
        side = by_owner(ownership(BIG, catalog, pinned, draws=5))[Owner.CLOUD]
        assert side.money is not None
        rents.append(sum(side.money.cash.by_cause["rent"]))
    assert rents[1] / rents[0] == pytest.approx(1 / 0.9)


def test_curves_fall_with_the_years_of_use(catalog: HardwareCatalog) -> None:
    curves = {curve.owner: curve for curve in hour_curves(Need((Lot("gb200", 3600),)), catalog)}
    own = curves[Owner.OWN]
    assert own.years == (1, 2, 3, 4, 5, 6)
    assert list(own.usd_per_hour[:5]) == sorted(own.usd_per_hour[:5], reverse=True)
    assert own.break_even_utilisation[4] is not None
    assert own.break_even_utilisation[4] < 0.5
    cloud = curves[Owner.CLOUD]
    assert cloud.usd_per_hour[0] / 10.50 == pytest.approx(1.10, abs=0.03)
    assert Owner.AI_FACTORY in curves
    assert Owner.OWN not in {curve.owner for curve in hour_curves(Need((Lot("mi300x", 8),)), catalog, years=(3,))}


def test_an_owned_hour_equals_the_annuity(catalog: HardwareCatalog, assumptions: Assumptions) -> None:
    """((P - PV(residual)) / n) crf / 8760 + kW x colocation x 12 / 8760 + upkeep, five years at 10 %."""
    pinned = assumptions.pinned(
        {
            "finance.discount_rate": 0.10,
            "finance.loan_share": 0.0,
            "finance.depreciation_years": 5.0,
            "finance.maintenance_share": 0.05,
            "staff.own_per_1000": 0.0,
        }
    )
    pinned = msgspec.structs.replace(pinned, space=Space.COLOCATION)
    need = Need((Lot("gb200", 72_000),))
    curves = {curve.owner: curve for curve in hour_curves(need, catalog, pinned, years=(5,))}
    machine, shares = 3e6, 0.13 + 0.015 + 0.04
    residual = machine * 0.2 ** (5 / 3) / 1.1**5
    crf = 0.1 * 1.1**5 / (1.1**5 - 1)
    hour = (machine * (1 + shares) - residual) / 72 * crf / 8766
    hour += (132 * 180 * 12 + machine * 0.05) / 72 / 8766
    assert curves[Owner.OWN].usd_per_hour[0] == pytest.approx(hour, rel=0.05)


def test_break_even_month_is_where_the_sums_cross(big: dict[Owner, Ownership]) -> None:
    own = big[Owner.OWN].money
    assert own is not None
    assert own.break_even is not None
    assert own.break_even.month is not None
    assert 24 < own.break_even.month < 60
    assert 0 <= own.break_even.cheaper_probability <= 1


def test_bad_questions_are_refused(catalog: HardwareCatalog, assumptions: Assumptions) -> None:
    with pytest.raises(Unsatisfiable, match="at least one lot"):
        ownership(Need(()), catalog)
    with pytest.raises(UnknownName, match=r"no assumption named 'power\.price'"):
        assumptions.pinned({"power.price": 1.0})
    with pytest.raises(PlannerError, match="must be a number"):
        assumptions.pinned({"power.usd_per_kwh": float("nan")})
    assert default_assumptions(catalog, power__usd_per_kwh=0.2)["power.usd_per_kwh"].low == 0.2


def test_a_held_hour_costs_the_same_however_much_of_it_the_optimiser_used(catalog: HardwareCatalog) -> None:
    plain = Lot("h100_sxm", 16, instance="p5.48xlarge", term="on_demand")
    used = msgspec.structs.replace(plain, mean=4.0, cloud_usd_per_month=4 * 55.04 / 8 * 730.5)
    run = Lot("gb200", 36, 0.5, "u-p6e-gb200x36", "capacity_block", 4_000.0, booked=True)
    plain_cost, used_cost, with_runs = (
        hour_curves(Need(lots), catalog, years=(3,))[0].usd_per_hour[0] for lots in ((plain,), (used,), (used, run))
    )
    assert used_cost == pytest.approx(plain_cost)
    assert with_runs == pytest.approx(used_cost, rel=0.05)  # runs are held while they run, not all year


def test_a_commitment_still_has_a_price_by_the_hour_beside_it(catalog: HardwareCatalog) -> None:
    need = Need((Lot("h100_sxm", 16, instance="p5.48xlarge", term="3yr"),), terms=("on_demand", "3yr"))
    cloud = next(curve for curve in hour_curves(need, catalog, years=(3,)) if curve.owner is Owner.CLOUD)
    assert cloud.break_even_utilisation[0] is not None
    assert cloud.break_even_utilisation[0] < 1


def test_power_costs_what_it_costs_here_in_rented_space_too() -> None:
    """What is drawn on average at the meter, times the hours of a month, times 0.58 USD."""
    need = Need(lots=(Lot("b200_sxm", 6.0),), horizon_months=36, owners=(Owner.OWN,))
    spent = {}
    for price in (0.02, 0.60):
        pinned = default_assumptions(CATALOG).pinned({"power.usd_per_kwh": price})
        own = next(way for way in ownership(need, CATALOG, pinned, draws=50) if way.owner is Owner.OWN)
        assert own.money is not None
        assert own.money.power is not None
        spent[price] = (-own.money.cash.by_cause["space and power"][-1], own.money.power.average_facility_kw)
    apart, average = spent[0.60][0] - spent[0.02][0], spent[0.02][1]
    assert apart == pytest.approx(average * HOURS_PER_MONTH * 0.58, rel=1e-6)
