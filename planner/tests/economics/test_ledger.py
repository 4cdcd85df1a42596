"""The vectorised cash flows against a ledger that is kept month by month, machine by machine."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer_planner.catalog import load_catalog
from bessemer_planner.economics import Lot, Need, Space, default_assumptions, ownership
from bessemer_planner.economics.assumptions import DEMAND, NETWORK_LOST, Inputs
from bessemer_planner.economics.rates import quotes
from bessemer_planner.economics.ways import cloud_way, own_way

CATALOG = load_catalog()
ASSUMPTIONS = default_assumptions(CATALOG)


def ledger(need: Need, inputs: Inputs, space: Space, lead: str) -> dict[str, list[float]]:
    """Keep the books of one's own machines for the first row of inputs, in plain Python."""
    one = {name: float(values[0]) for name, values in inputs.values.items()}
    lot, system, horizon = need.lots[0], CATALOG.system(need.lots[0].accelerator), need.horizon_months
    start, life = math.floor(one[lead]), max(round(one["finance.depreciation_years"] * 12), 1)
    price, rack = one[f"system.{system.accelerator}.price_usd"], one[f"system.{system.accelerator}.rack_kw"]
    shares = one["capex.network_share"] + one["capex.storage_share"] + one["capex.installation_share"]
    monthly = (1 + one["finance.loan_rate"]) ** (1 / 12) - 1
    level = monthly / (1 - (1 + monthly) ** -life)
    books: dict[str, list[float]] = {
        name: [0.0] * horizon
        for name in ("machines", "fabric and installation", "resale", "loan", "maintenance", "space and power")
    }
    slots: list[int] = []  # the month in which each place for a machine was filled last
    loans: list[list[float]] = []  # balance, payment
    for month in range(horizon):
        for loan in loans:
            interest = loan[0] * monthly
            paid = min(loan[1], loan[0] + interest)
            loan[0] += interest - paid
            books["loan"][month] += paid
        filled = 0
        for at, since in enumerate(slots):
            if month - since == life:
                slots[at] = month
                filled += 1
                books["resale"][month] -= price * one["finance.residual_3yr"] ** (life / 36)
        if month >= start and (month - start) % 12 == 0:
            wanted = math.ceil(
                lot.count * (1 + need.growth_per_month) ** min(month + 12, horizon - 1) / system.count - 1e-9
            )
            new = max(wanted - len(slots), 0)
            slots += [month] * new
            filled += new
            books["fabric and installation"][month] += new * price * shares
        books["machines"][month] += filled * price
        borrowed = filled * price * one["finance.loan_share"]
        books["loan"][month] -= borrowed
        loans.append([borrowed, borrowed * level])
        books["maintenance"][month] = len(slots) * price * one["finance.maintenance_share"] / 12
        books["space and power"][month] = len(slots) * rack * one["power.colocation_liquid"]
    books["resale"][-1] -= sum(price * one["finance.residual_3yr"] ** ((horizon - since) / 36) for since in slots)
    books["loan"][-1] += sum(balance for balance, _ in loans)
    return books


@settings(max_examples=30)
@given(
    count=st.integers(1, 2000),
    growth=st.floats(0.0, 0.06),
    horizon=st.integers(12, 100),
    lead=st.floats(0.0, 11.0),
    years=st.floats(1.0, 6.0),
    share=st.floats(0.0, 0.9),
)
def test_own_machines_equal_the_ledger(
    count: int, growth: float, horizon: int, lead: float, years: float, share: float
) -> None:
    name = "lead.own_colocation_months"
    pinned = ASSUMPTIONS.pinned({name: lead, "finance.depreciation_years": years, "finance.loan_share": share})
    need = Need((Lot("gb200", count),), horizon_months=horizon, growth_per_month=growth)
    inputs = pinned.central()
    billed = own_way(need, (CATALOG.system("gb200"),), (0,), Space.COLOCATION, None)(inputs).costs
    for cause, months in ledger(need, inputs, Space.COLOCATION, name).items():
        assert np.allclose(billed[cause][0], months, rtol=1e-9, atol=1e-3), cause


@settings(max_examples=20)
@given(
    horizon=st.integers(12, 80),
    growth=st.floats(0.0, 0.05),
    drift=st.floats(-0.3, 0.3),
    term=st.sampled_from(["on_demand", "capacity_block", "3yr"]),
)
def test_rent_equals_the_ledger(horizon: int, growth: float, drift: float, term: str) -> None:
    lot = Lot("h100_sxm", 20, mean=13, instance="p5.48xlarge")
    need = Need((lot,), horizon_months=horizon, growth_per_month=growth, terms=(term,))
    quote = quotes(CATALOG, lot, need)[0]
    pinned = ASSUMPTIONS.pinned({"lead.cloud_months": 0.0, "finance.price_drift": drift})
    rent = cloud_way(need, (quote,))(pinned.central()).costs["rent"][0]
    months = []
    for month in range(horizon):
        begun = month // quote.months * quote.months
        price = quote.rate * (1 + drift) ** (begun / 12) * 730.5
        if term == "on_demand":
            held = max(13 * (1 + growth) ** month, 8)
        else:
            last = min(begun + quote.months, horizon) - 1
            held = math.ceil(20 * (1 + growth) ** last / 8 - 1e-9) * 8
        months.append(held * price)
    if term == "capacity_block":
        months = [sum(months[month : month + 6]) if month % 6 == 0 else 0.0 for month in range(horizon)]
    assert rent == pytest.approx(months)


@pytest.mark.parametrize("term", ["3yr", "capacity_block", "on_demand"])
def test_what_an_optimiser_found_does_not_turn_a_commitment_into_rent_by_the_hour(term: str) -> None:
    """Demand halves and prices rise by a tenth a year: only what is paid by the hour follows."""
    lot = Lot("h100_sxm", 16, mean=16, instance="p5.48xlarge", term=term, cloud_usd_per_month=1_000.0)
    need = Need((lot,), horizon_months=36)
    quote = quotes(CATALOG, lot, need)[0]
    assert quote.price.term == term
    names = {"lead.cloud_months": 0.0, "finance.price_drift": 0.1, DEMAND: 0.5, NETWORK_LOST: 0.0}
    rent = cloud_way(need, (quote,))(ASSUMPTIONS.pinned(names).central()).costs["rent"][0]
    month = 16 * quote.rate * 730.5
    if term == "3yr":
        assert rent == pytest.approx([month] * 36)
    elif term == "capacity_block":
        paid = [6 * month * 1.1 ** (at / 12) if at % 6 == 0 else 0.0 for at in range(36)]
        assert rent == pytest.approx(paid)
    else:
        assert rent == pytest.approx([500.0 * 1.1 ** (at / 12) for at in range(36)])


def test_what_is_booked_run_by_run_is_not_committed() -> None:
    lot = Lot("gb200", 36, 1.0, "u-p6e-gb200x36", "capacity_block", 8_000.0, booked=True)
    need = Need((lot,), horizon_months=12)
    quote = quotes(CATALOG, lot, need)[0]
    names = {"lead.cloud_months": 0.0, "finance.price_drift": 0.0, DEMAND: 1.0, NETWORK_LOST: 0.0}
    rent = cloud_way(need, (quote,))(ASSUMPTIONS.pinned(names).central()).costs["rent"][0]
    assert rent == pytest.approx([8_000.0] * 12)
    cloud = ownership(need, CATALOG, draws=20)[0]
    assert cloud.commitment is not None
    assert cloud.commitment.usd == 0


def test_a_commitment_that_was_chosen_is_not_taken_for_growth_to_come() -> None:
    """One instance is bound for three years; what grows beyond it is rented as it comes, at the same price."""
    lot = Lot("h100_sxm", 8, instance="p5.48xlarge", term="3yr")
    need = Need((lot,), horizon_months=36, growth_per_month=0.05)
    quote = quotes(CATALOG, lot, need)[0]
    names = {"lead.cloud_months": 0.0, "finance.price_drift": 0.1, DEMAND: 1.0, NETWORK_LOST: 0.0}
    rent = cloud_way(need, (quote,))(ASSUMPTIONS.pinned(names).central()).costs["rent"][0]
    assert rent == pytest.approx([8 * 1.05**month * quote.rate * 730.5 for month in range(36)])
    cloud = ownership(need, CATALOG, draws=20)[0]
    assert cloud.commitment is not None
    assert cloud.commitment.usd == pytest.approx(36 * rent[0])
