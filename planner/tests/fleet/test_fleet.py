"""The fleet program: optimal on problems that can be counted by hand, and feasible on drawn ones."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import milp

from bessemer_planner.economics.types import HOURS_PER_YEAR
from bessemer_planner.errors import PlannerError, Unsatisfiable
from bessemer_planner.fleet.combinations import cheapest, cheapest_payment
from bessemer_planner.fleet.demand import demand_of
from bessemer_planner.fleet.milp import peak_units, solve_fleet
from bessemer_planner.fleet.types import Column, FleetProblem, FleetSolution, Offer, TuningNeed
from bessemer_planner.workload import parse_workload

WORKLOAD = """
name = "x"
[traffic]
requests_per_month = 1e6
growth_per_month = {growth}
batch_share = {batch}
prompt_tokens = {{ mean = 1000 }}
output_tokens = {{ mean = 300 }}
[[models]]
name = "a"
"""
DAY = np.repeat([1.0, 3.0], 12)
"""Twelve quiet and twelve busy hours."""


def problem(rate: float = 1.0, spares: int = 0, **changes: object) -> FleetProblem:
    hours = np.full((1, 2, 24), HOURS_PER_YEAR / 48)
    demand = np.broadcast_to(DAY, (1, 2, 24)) * 0.99
    made = FleetProblem(
        hours=hours,
        columns=(Column("c", "a", "i", 1, rate, rate),),
        offers=(
            Offer("i", "gpu", 1, "on_demand", 2.0, committed=False),
            Offer("i", "gpu", 1, "1yr", 1.2, committed=True),
        ),
        interactive={"a": demand},
        batch={"a": np.zeros((1, 2, 24))},
        spares=spares,
        configurations=1,
    )
    return msgspec.structs.replace(made, **changes)


def check(made: FleetProblem, found: FleetSolution) -> None:
    """Every request is served, replicas fit on paid units, spares are held, the cost is the sum of its parts."""
    columns = {column.name: column for column in made.columns}
    for model, wanted in made.interactive.items():
        served = sum(rate for name, rate in found.served.items() if columns[name].model == model)
        assert np.allclose(served, wanted, atol=1e-6)
    for name, replicas in found.replicas.items():
        need = found.served.get(name, 0.0) / columns[name].rate
        assert np.all(replicas >= need + made.spares - 1e-6)
        work = found.batch_served.get(name, 0.0) / columns[name].batch_rate
        assert np.all(replicas >= need + work - 1e-4)
    cost = 0.0
    for instance in {offer.instance for offer in made.offers}:
        paid = np.zeros(made.hours.shape)
        for offer in made.offers:
            if offer.instance == instance:
                units = found.on_demand.get((instance, offer.term), found.committed.get((instance, offer.term), 0))
                paid = paid + units * offer.accelerators
                cost += float((made.hours * units).sum()) * offer.usd_per_hour
        taken = sum(
            (found.replicas[name] * columns[name].accelerators for name in found.replicas
             if columns[name].instance == instance), np.asarray(found.tuning.get(instance, 0.0)),
        )  # fmt: skip
        assert np.all(taken <= paid + 1e-4)
    booked = sum(12 * found.booked.get(need.name, 0) * (need.booked_usd_per_month or 0) for need in made.tuning)
    assert found.usd_per_year == pytest.approx(cost + booked, rel=1e-6)


def test_what_always_runs_is_committed_and_the_peak_is_hourly() -> None:
    found = solve_fleet(problem())
    check(problem(), found)
    assert found.committed == {("i", "1yr"): 1}
    assert found.on_demand["i", "on_demand"].max() == 2
    assert found.usd_per_year == pytest.approx(HOURS_PER_YEAR * (1.2 + 2 * 2.0 / 2))


def test_a_unit_needed_long_enough_is_committed() -> None:
    cheap = (problem().offers[0], msgspec.structs.replace(problem().offers[1], usd_per_hour=0.9))
    found = solve_fleet(problem(offers=cheap))
    assert found.committed == {("i", "1yr"): 3}
    assert not found.on_demand


def test_spares_are_paid_in_every_hour() -> None:
    found = solve_fleet(problem(spares=2))
    check(problem(spares=2), found)
    assert found.replicas["c"].min() == 3
    assert found.replicas["c"].max() == 5


def test_batch_work_fills_the_troughs() -> None:
    waiting = {"a": np.full((1, 2, 24), 0.9)}
    free = problem(offers=(msgspec.structs.replace(problem().offers[1], usd_per_hour=0.9), problem().offers[0]))
    with_batch = msgspec.structs.replace(free, batch=waiting)
    found = solve_fleet(with_batch)
    check(with_batch, found)
    assert found.usd_per_year == pytest.approx(solve_fleet(free).usd_per_year)
    assert sum(found.batch_served.values()).sum(axis=2) == pytest.approx(np.full((1, 2), 0.9 * 24))


def test_a_deadline_of_an_hour_leaves_no_trough_to_fill() -> None:
    waiting = np.zeros((1, 2, 24))
    waiting[:, :, 18] = 3.0  # busy hours: 3 of 3 replicas are taken
    free = problem(batch={"a": waiting}, deadline_hours=24)
    tight = msgspec.structs.replace(free, deadline_hours=1)
    assert solve_fleet(tight).usd_per_year > solve_fleet(free).usd_per_year


def test_tuning_runs_on_idle_accelerators_before_it_is_booked() -> None:
    committed = (msgspec.structs.replace(problem().offers[1], usd_per_hour=0.9), problem().offers[0])
    idle = 2 * 12 / 24 * HOURS_PER_YEAR / 12
    need = TuningNeed("q", {"i": 0.9 * idle}, booked_usd_per_month=500.0, booked_on=("i", "on_demand"))
    found = solve_fleet(problem(offers=committed, tuning=(need,)))
    check(problem(offers=committed, tuning=(need,)), found)
    assert found.booked["q"] == pytest.approx(0, abs=1e-6)
    more = msgspec.structs.replace(need, hours_per_month={"i": 2 * idle})
    assert solve_fleet(problem(offers=committed, tuning=(more,))).booked["q"] == pytest.approx(0.5, abs=0.02)


def test_infeasible_says_why_and_what_would_be() -> None:
    with pytest.raises(Unsatisfiable, match=r"budget of \$10 .* cheapest fleet costs"):
        solve_fleet(problem(budget_per_year=120.0))
    with pytest.raises(Unsatisfiable, match="without it the fleet's peak is i 3"):
        solve_fleet(problem(quota={"i": 2}))
    hourly_only = (problem().offers[0],)
    with pytest.raises(Unsatisfiable, match="tuning"):
        solve_fleet(problem(offers=hourly_only, tuning=(TuningNeed("q", {}),)))
    with pytest.raises(Unsatisfiable, match="No configuration serves 'a'"):
        solve_fleet(problem(columns=()))


def test_the_gap_is_that_of_every_combination_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ran out of time at 100 with a bound of 80 may still beat the 90 of another that was solved."""
    made = problem(columns=(Column("c", "a", "i", 1, 1.0, 1.0), Column("d", "a", "i", 1, 1.01, 1.01)))
    whole = solve_fleet(made)
    late, done = (msgspec.structs.replace(whole, usd_per_year=usd, gap=gap) for usd, gap in ((100.0, 0.2), (90.0, 0.0)))
    answers = iter([late, done])
    monkeypatch.setattr("bessemer_planner.fleet.milp._solve", lambda *_: next(answers))
    monkeypatch.setattr("bessemer_planner.fleet.milp._HOPELESS", np.inf)
    found = solve_fleet(made)
    assert found.usd_per_year == 90
    assert found.gap == pytest.approx(1 - 80 / 90)


def twelve_months(**changes: object) -> FleetProblem:
    """Demand that grows over a year, batch work and tuning on two kinds of units."""
    shape = (12, 2, 24)
    growth = np.linspace(1.0, 1.8, 12)[:, None, None]
    demand = np.broadcast_to(DAY, shape) * growth * 2.3
    return msgspec.structs.replace(
        problem(
            columns=(Column("c", "a", "i", 1, 0.7, 1.0), Column("d", "a", "j", 2, 1.9, 2.2)),
            offers=(
                *problem().offers,
                Offer("j", "gpu", 8, "on_demand", 9.0, committed=False),
                Offer("j", "gpu", 8, "1yr", 5.5, committed=True),
            ),
        ),
        hours=np.full(shape, HOURS_PER_YEAR / 576),
        interactive={"a": demand},
        batch={"a": 0.2 * demand},
        **changes,
    )


def test_no_clock_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans used to end a search after 1.33 s: on a loaded machine another fleet, or parts of replicas."""
    seen: list[dict[str, float]] = []

    def told(*arguments: object, **given: object) -> object:
        seen.append(dict(given["options"]))  # scipy empties it
        return milp(*arguments, **given)

    monkeypatch.setattr("bessemer_planner.fleet.program.milp", told)
    made = twelve_months()
    first, second = solve_fleet(made), solve_fleet(made)
    assert seen
    assert all(options["node_limit"] > 0 and options["time_limit"] >= 60 for options in seen)
    assert (first.usd_per_year, first.gap, first.committed) == (second.usd_per_year, second.gap, second.committed)
    assert first.gap <= 0.01


def test_a_search_that_the_clock_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bessemer_planner.fleet.program._SAFETY_S", 1e-3)
    with pytest.raises(PlannerError, match=r"did not finish .* lower fleet\.configurations"):
        solve_fleet(twelve_months())


def test_a_mixture_too_large_to_solve_at_once_is_no_dearer_than_one_configuration() -> None:
    """Its gap is to a bound that no mixture is below."""
    made = twelve_months(configurations=2)
    found, alone = solve_fleet(made), solve_fleet(twelve_months())
    check(made, found)
    assert found.usd_per_year <= alone.usd_per_year
    assert 0.0 <= found.gap < 0.3
    assert found.usd_per_year * (1 - found.gap) <= alone.usd_per_year


def test_a_quota_and_granularity_are_kept() -> None:
    big = problem(
        columns=(Column("c", "a", "i", 2, 1.0, 1.0), Column("d", "a", "j", 2, 1.0, 1.0)),
        offers=(
            Offer("i", "gpu", 8, "on_demand", 4.0, committed=False),
            Offer("j", "gpu", 2, "on_demand", 2.0, committed=False, most_units=3),
        ),
    )
    found = solve_fleet(big)
    check(big, found)
    assert peak_units(found) == {"i": 1}  # one node of eight holds four replicas for less than three small ones
    assert solve_fleet(msgspec.structs.replace(big, quota={"i": 1})).usd_per_year == found.usd_per_year


@settings(max_examples=15)
@given(st.floats(0.2, 5), st.integers(0, 2), st.floats(0.3, 4), st.floats(0.3, 4), st.floats(0, 2), st.integers(1, 24))
def test_every_solution_carries_the_demand(
    rate: float, spares: int, hourly: float, yearly: float, waiting: float, deadline: int
) -> None:
    made = problem(
        rate,
        spares,
        offers=(
            Offer("i", "gpu", 1, "on_demand", hourly, committed=False),
            Offer("i", "gpu", 1, "1yr", yearly, committed=True),
        ),
        batch={"a": np.full((1, 2, 24), waiting)},
        deadline_hours=deadline,
    )
    check(made, solve_fleet(made))


@given(st.lists(st.integers(0, 4), min_size=4, max_size=4), st.floats(0.1, 3), st.floats(0.1, 3))
def test_the_closed_form_equals_the_best_of_all_commitments(units: list[int], hourly: float, yearly: float) -> None:
    hours = np.array([10.0, 20.0, 30.0, 40.0])
    needed = np.array(units, dtype=float)
    offers = (Offer("i", "g", 1, "od", hourly, committed=False), Offer("i", "g", 1, "1yr", yearly, committed=True))
    tried = [
        n * yearly * 100 + float((np.maximum(needed - n, 0) * hours).sum()) * hourly for n in range(max(units) + 1)
    ]
    assert cheapest_payment(needed, hours, offers) == pytest.approx(min(tried))


def test_the_closed_form_agrees_with_the_program_without_batch_and_tuning() -> None:
    two = problem(
        columns=(Column("c", "a", "i", 1, 0.7, 1.0), Column("d", "a", "j", 1, 1.4, 1.4)),
        offers=(*problem().offers, Offer("j", "gpu", 1, "on_demand", 3.1, committed=False)),
    )
    assert cheapest(two)[0] == pytest.approx(solve_fleet(two).usd_per_year, rel=0.006)


def test_several_configurations_of_a_model_are_no_dearer_than_one() -> None:
    two = problem(
        columns=(Column("c", "a", "i", 1, 0.7, 1.0), Column("d", "a", "j", 1, 2.0, 2.0)),
        offers=(*problem().offers, Offer("j", "gpu", 1, "on_demand", 3.1, committed=False)),
    )
    mixed = solve_fleet(msgspec.structs.replace(two, configurations=2))
    check(msgspec.structs.replace(two, configurations=2), mixed)
    assert mixed.usd_per_year <= solve_fleet(two).usd_per_year * 1.006


@given(st.floats(-0.05, 0.2), st.floats(0, 1))
def test_demand_keeps_the_year(growth: float, batch: float) -> None:
    demand = demand_of(parse_workload(WORKLOAD.format(growth=growth, batch=batch)))
    assert float(demand.hours.sum()) == pytest.approx(HOURS_PER_YEAR)
    assert demand.requests_per_year("a") == pytest.approx(1e6 * sum((1 + growth) ** m for m in range(12)), rel=1e-6)
