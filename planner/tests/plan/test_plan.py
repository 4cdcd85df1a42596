"""A whole plan: its numbers agree with each other, its limits hold, and what cannot be is refused."""

import itertools
import json
import typing
from datetime import date, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from planner.tests.plan.conftest import SMALL

from bessemer_planner.catalog import HardwareCatalog, load_catalog
from bessemer_planner.economics import Lot, Need, ownership
from bessemer_planner.errors import InputError, Unsatisfiable
from bessemer_planner.fleet.choose import choose
from bessemer_planner.fleet.configurations import configurations, demanded, predictions, settled
from bessemer_planner.fleet.demand import demand_of
from bessemer_planner.fleet.verify import verify
from bessemer_planner.performance import Performance
from bessemer_planner.plan import Basis, Plan, make_plan, plan_json, recommended
from bessemer_planner.plan.assumed import stale, warnings_of
from bessemer_planner.plan.fleet import fleet_of
from bessemer_planner.plan.make import offers_of
from bessemer_planner.plan.summary import recommendation
from bessemer_planner.plan.types import Booking
from bessemer_planner.plan.what_if import WhatIf
from bessemer_planner.types import Owner
from bessemer_planner.workload import Lengths, Workload, parse_workload, read_workload

PLANS = Path(__file__).parents[3] / "plans"


def test_the_fleet_costs_what_its_parts_cost(plan: Plan) -> None:
    parts = sum(one.usd_per_month for one in (*plan.fleet.purchases, *plan.fleet.bookings))
    assert plan.fleet.usd_per_month == pytest.approx(parts, rel=1e-6)
    for one in plan.fleet.purchases:
        assert one.usd_per_month == pytest.approx(one.usd_per_hour * one.unit_hours_per_month)
        assert one.price_date
        assert one.price_source


def test_what_the_recommendation_names_adds_up(plan: Plan) -> None:
    booking = Booking("weekly adapters", "p5.48xlarge", "capacity_block", 1.0, 100.0, 5432.0)
    fleet = msgspec.structs.replace(plan.fleet, bookings=(booking,))
    text = recommendation(plan.workload, plan.configurations, fleet, plan.ownership)
    assert "and $5,432 a month for weekly adapters on p5.48xlarge (capacity block, run by run): $" in text
    rare = msgspec.structs.replace(fleet, usd_per_thousand_requests=3912.4)
    assert "$3,912 per thousand requests" in recommendation(plan.workload, plan.configurations, rare, plan.ownership)
    idle = msgspec.structs.replace(booking, booked_share=0.0, usd_per_month=0.0)
    fleet = msgspec.structs.replace(plan.fleet, bookings=(idle,))
    assert "adapters" not in recommendation(plan.workload, plan.configurations, fleet, plan.ownership)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ('[sovereignty]\nownership = ["ai_factory"]',
         r"ai_factory: an AI factory starts at about 3,000 .*needs 8;.*Nearest: \"cloud\" in sovereignty.ownership\."),
        ("[time]\nlead_time_months = 0.01", r"cloud: half of the time.*Nearest: time\.lead_time_months = 0\.5\."),
        ('[time]\nlead_time_months = 0.01\n[sovereignty]\nownership = ["own"]',
         r"^No allowed way of owning keeps all rules \(own: half.*Nearest: time\.lead_time_months = 9\.\d\."),
    ],
)  # fmt: skip
def test_a_fleet_that_nobody_may_own_is_refused(catalog: HardwareCatalog, rules: str, words: str) -> None:
    with pytest.raises(Unsatisfiable, match=words):
        make_plan(parse_workload(SMALL.replace("[fleet]", f"{rules}\n[fleet]")), catalog)


def test_costs_per_token_follow_from_the_traffic(plan: Plan) -> None:
    workload = plan.workload
    requests = workload.traffic.requests_per_month
    out = requests * 1.2 * workload.traffic.output_tokens.mean
    assert plan.fleet.usd_per_million_output_tokens == pytest.approx(plan.fleet.usd_per_month / out * 1e6)
    assert plan.fleet.usd_per_thousand_requests == pytest.approx(plan.fleet.usd_per_month / requests * 1e3)


def test_every_chosen_configuration_was_simulated_within_the_limits(plan: Plan) -> None:
    chosen = [row for row in plan.configurations if row.chosen]
    assert {row.model for row in chosen} == {"llama-3.1-8b", "llama-3.1-70b"}
    limits = plan.workload.limits
    for row in chosen:
        assert row.verdict is not None
        assert row.verdict.ttft_s <= limits.ttft_s
        assert row.verdict.tpot_s <= limits.tpot_s
        assert row.verdict.rate == pytest.approx(row.requests_s)
        assert row.basis in set(Basis)
        assert (row.basis is Basis.EXTRAPOLATED) == bool(row.basis_note)
        assert row.tpot_s.low <= row.tpot_s.value <= row.tpot_s.high


def test_a_configuration_is_as_busy_as_its_rate_says(plan: Plan) -> None:
    """Little's law: requests in flight are requests a second times the time that their answers take."""
    answer = plan.workload.traffic.output_tokens.mean
    for row in plan.configurations:
        in_flight = row.requests_s * answer * row.tpot_s.value
        assert row.concurrency == pytest.approx(in_flight, rel=0.02), row.name


def test_the_whole_cascade_is_simulated_at_the_busiest_hour(plan: Plan) -> None:
    whole = plan.end_to_end
    assert whole is not None
    assert whole.escalated == pytest.approx(0.2, abs=0.03)
    assert whole.escalated_ttft_p50_s > whole.ttft_p50_s
    assert whole.latency_p95_s >= whole.latency_p50_s


def test_running_replicas_carry_the_busiest_hour(plan: Plan) -> None:
    rates = {row.name: row.requests_s for row in plan.configurations if row.chosen}
    demand = {line.name: np.array(line.weekday) for line in plan.fleet.demand}
    for line in plan.fleet.replicas:
        name = line.name.split(" @ ")[0]
        model = name.split(" on ")[0]
        interactive = demand[model] * (1 - plan.workload.traffic.batch_share)
        assert np.all((np.array(line.weekday) - plan.workload.fleet.spares) * rates[name] >= interactive * 0.999)


def test_ownership_is_compared_three_ways_with_intervals(plan: Plan) -> None:
    assert [one.owner.value for one in plan.ownership] == ["cloud", "ai_factory", "own"]
    assert set(plan.owned_fleets) == {"cloud", "ai_factory", "own"}
    factory = plan.ownership[1]
    assert not factory.feasible
    assert any("3,000" in reason for reason in factory.reasons)
    for one in plan.ownership:
        assert one.sovereignty.text
        assert one.speed.months.low <= one.speed.months.value <= one.speed.months.high
        if one.money is not None:
            cost = one.money.present_cost_usd
            assert cost.low <= cost.value <= cost.high
            assert len(one.money.cumulative_p50) == plan.workload.time.horizon_months


def test_tighter_limits_never_cost_less(plan: Plan) -> None:
    costs = [step.usd_per_month if step.usd_per_month is not None else np.inf for step in plan.steps]
    assert all(left >= right * 0.999 for left, right in itertools.pairwise(costs))
    asked = next(step for step in plan.steps if step.factor == 1.0)
    assert asked.usd_per_month == pytest.approx(plan.fleet.usd_per_month, rel=1e-6)


def test_the_plan_s_own_limits_and_traffic_name_the_plan_s_own_fleet(plan: Plan, catalog: HardwareCatalog) -> None:
    """The estimator knows neither batch work nor tuning exactly, and may prefer another fleet than the optimiser."""
    workload = plan.workload
    offers = offers_of(workload, catalog)
    names = tuple(dict.fromkeys(offer.accelerator for offer in offers))
    predicted, _ = predictions(workload, catalog, Performance.load(), names)
    found, _ = configurations(workload, predicted)
    chosen = choose(workload, catalog, demand_of(workload), found, offers)
    known = next(iter(chosen.solution.replicas))
    other = next(one.name for one in chosen.problem.columns if one.name not in chosen.solution.replicas)
    running = {other if name == known else name: row for name, row in chosen.solution.replicas.items()}
    solution = msgspec.structs.replace(chosen.solution, replicas=running)
    what_if = WhatIf(workload, catalog, predicted, offers, msgspec.structs.replace(chosen, solution=solution))
    steps = what_if.steps()
    here = next(step for step in steps if step.factor == 1.0)
    assert here.what == "; ".join(running)
    alike = [step for step in steps if step.usd_per_month == pytest.approx(here.usd_per_month, rel=1e-9)]
    assert len(alike) > 1
    assert {step.what for step in alike} == {here.what}
    assert here.usd_per_month == pytest.approx(chosen.solution.usd_per_year / 12)
    point = next(one for one in what_if.volumes(200) if one.requests_per_month == 2_000_000)
    assert point.what == here.what


def test_more_traffic_costs_more_and_less_per_token(plan: Plan) -> None:
    assert list(np.diff([one.usd_per_month for one in plan.volumes]) >= -1e-6) == [True] * (len(plan.volumes) - 1)
    assert plan.volumes[0].usd_per_million_output_tokens > plan.volumes[-1].usd_per_million_output_tokens


def test_growth_is_in_every_cost_per_token_and_defaults_are_said(catalog: HardwareCatalog) -> None:
    months = "months = [1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8]"
    text = SMALL.split("[[models]]")[0].replace("batch_share = 0.2", f"growth_per_month = 0.05\n{months}")
    text = text.replace("mean = 200, p95 = 500", "mean = 200")
    plan = make_plan(parse_workload(text + '[[models]]\nname = "llama-3.1-8b"\n'), catalog)
    here = next(one for one in plan.volumes if one.requests_per_month == plan.workload.traffic.requests_per_month)
    assert here.usd_per_month == pytest.approx(plan.fleet.usd_per_month)
    assert here.usd_per_million_output_tokens == pytest.approx(plan.fleet.usd_per_million_output_tokens)
    stated = {one.name: one.value for one in plan.assumptions}
    assert stated["weekend"] == "0.5 times the requests of a weekday"
    assert stated["traffic.output_tokens.p95"] == "95th percentile 500 tokens, 2.5 times the mean"
    assert "traffic.prompt_tokens.p95" not in stated
    answer = plan.workload.traffic.output_tokens.mean
    per_thousand = plan.fleet.usd_per_million_output_tokens * answer * 1e3 / 1e6
    assert plan.fleet.usd_per_thousand_requests == pytest.approx(per_thousand)


def test_break_even_is_with_the_cloud_beside_it() -> None:
    """Owning gb200 is compared with the fleet that is cheapest in the cloud, not with renting gb200."""
    catalog, lots = load_catalog(), (Lot("gb200", 3600),)
    need = Need(lots)
    cheap = Need((Lot("rtx_pro_6000_server", 100),))
    own = {}
    for name, rented in (("same", None), ("cheap", cheap)):
        sides = ownership(need, catalog, rented=rented, draws=50)
        own[name] = next(one for one in sides if one.owner is Owner.OWN).money
        assert own[name] is not None
    same, other = own["same"].break_even, own["cheap"].break_even
    assert same.month is not None
    assert same.cheaper_probability > 0.5
    assert other.month is None
    assert other.cheaper_probability == 0.0
    assert other.utilisation == same.utilisation


def test_drivers_changes_and_sources_are_there(plan: Plan, heard: list[str]) -> None:
    widths = [one.width for one in plan.drivers]
    assert widths == sorted(widths, reverse=True)
    assert {"requests a month", "escalated share", "prices of instances"} <= {one.name for one in plan.drivers}
    assert plan.changes
    assert all(one.source for one in plan.assumptions)
    assert any("solving" in text for text in heard)
    assert any("simulating" in text for text in heard)


def test_a_plan_is_json_that_other_tools_can_read(plan: Plan) -> None:
    text = plan_json(plan)
    value = json.loads(text)
    assert value["schema"] == "bessemer.plan/1"
    assert value["workload"]["name"] == "small"
    assert b"NaN" not in text
    assert b"Infinity" not in text


def test_the_same_question_has_the_same_answer(plan: Plan, catalog: HardwareCatalog) -> None:
    again = make_plan(plan.workload, catalog)
    assert again.recommendation == plan.recommendation
    assert again.fleet.usd_per_month == pytest.approx(plan.fleet.usd_per_month, rel=0.01)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (("tpot_s = 0.06", "tpot_s = 0.0001"), Unsatisfiable, "even alone"),
        (('accelerators = ["h100_sxm", "b200_sxm"]', "[money]\nbudget_per_month = 100"),
         Unsatisfiable, "cheapest fleet"),
        (('"h100_sxm", "b200_sxm"', '"h1000"'), InputError, "known: "),
        (('"h100_sxm", "b200_sxm"', '"a100"\n]\ninstances = ["p5.48xlarge"'), Unsatisfiable, "allow more"),
        (("[fleet]", '[sovereignty]\nregions = ["mars-"]\n[fleet]'), Unsatisfiable, "sovereignty.regions"),
        (('"h100_sxm", "b200_sxm"', '"tpu_v6e"'), Unsatisfiable,
         r"^A price is what is missing: none of tpu_v6e.*v6e-1"),
        (('"h100_sxm", "b200_sxm"', '"trainium3"'), Unsatisfiable,
         r"^A price .*trn3-gen1-ultraserver or trn3-gen2-ultra"),
        (('["h100_sxm", "b200_sxm"]', '["trainium3"]\n[sovereignty]\nownership = ["own"]'), Unsatisfiable,
         "^A purchase price is what is missing: none of trainium3"),
        (('"llama-3.1-8b"', '"llama-9-8b"'), Unsatisfiable, r"^models\.0\.name: .*known models close.*`config`"),
        (("[cascade]", "config = { num_hidden_layers = 2 }\n[cascade]"), InputError, "hidden_size"),
        (("[fleet]", "[fleet]\nquota = { nothing = 1 }"), InputError, "catalogue"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_reason(
    catalog: HardwareCatalog, change: tuple[str, str], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        make_plan(parse_workload(SMALL.replace(*change)), catalog)


def test_data_that_may_not_leave_are_served_by_owned_machines(catalog: HardwareCatalog) -> None:
    text = SMALL.replace("[fleet]", '[sovereignty]\nownership = ["own"]\n[fleet]')
    plan = make_plan(parse_workload(text), catalog)
    assert {one.term for one in plan.fleet.purchases} == {"own"}
    assert [one.feasible for one in plan.ownership] == [False, False, True]


def test_batch_work_alone_needs_no_spares(catalog: HardwareCatalog) -> None:
    text = SMALL.split("[[models]]")[0].replace("batch_share = 0.2", "batch_share = 1.0")
    text += '[[models]]\nname = "llama-3.1-8b"\n[fleet]\naccelerators = ["h100_sxm"]\n'
    plan = make_plan(parse_workload(text), catalog)
    line = plan.fleet.replicas[0]
    assert max(line.weekday) >= 1
    assert min(line.weekday) == 0


def test_a_cautious_plan_runs_no_fewer_replicas(plan: Plan, catalog: HardwareCatalog) -> None:
    fleet = msgspec.structs.replace(plan.workload.fleet, cautious=True)
    limits = msgspec.structs.replace(plan.workload.limits, tpot_s=0.15)
    loose = msgspec.structs.replace(plan.workload, limits=limits)
    careful = make_plan(msgspec.structs.replace(loose, fleet=fleet), catalog)
    assert careful.fleet.usd_per_month >= make_plan(loose, catalog).fleet.usd_per_month * 0.99


def test_disaggregation_is_verified_by_the_simulator(catalog: HardwareCatalog) -> None:
    workload = parse_workload(SMALL.replace("ttft_s = 2.0", "ttft_s = 1.0").replace("tpot_s = 0.06", "tpot_s = 0.02"))
    predicted, _ = predictions(workload, catalog, Performance.load(), ("h100_sxm",))
    split = [one for one in configurations(workload, predicted)[0] if one.prefill_replicas]
    assert split
    for one in split:
        assert one.accelerators <= 8
        verdict = verify(one, workload, one.rate, 1)
        assert verdict.requests > 500
        assert verdict.keeps
        told = settled(one, demanded(workload, one.model).lengths)
        assert verdict.tpot_p50_s == pytest.approx(told.tpot_s, rel=0.1)
        in_flight = one.rate / one.decode_replicas * workload.output_tokens(one.model).mean * told.tpot_s
        assert told.load == pytest.approx(in_flight, rel=0.02)


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.toml")), ids=lambda path: path.stem)
def test_ready_plans_are_valid(path: Path, catalog: HardwareCatalog) -> None:
    workload = read_workload(path)
    assert workload.description
    assert demand_of(workload).requests_per_year(workload.models[0].name) > 0


def test_there_is_a_ready_plan_for_each_situation() -> None:
    names = {path.stem for path in PLANS.glob("*.toml")}
    assert names == {"pilots", "production", "differentiated", "regulated", "industrial"}


def test_the_lines_of_the_documentation_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = PLANS.parent
    page = root.joinpath("docs", "planner.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(root)
    exec(code, {})
    assert capsys.readouterr().out.startswith("Run ")


def structs_of(kind: type) -> set[type]:
    """A struct and those that its fields hold, in tuples and unions too."""
    found = {kind}
    pending = [field.type for field in msgspec.structs.fields(kind)]
    while pending:
        part = pending.pop()
        pending += typing.get_args(part)
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            found |= structs_of(part)
    return found


def test_the_documentation_names_every_field_of_a_workload() -> None:
    page = PLANS.parent.joinpath("docs", "planner.md").read_text()
    names = {field.name for kind in structs_of(Workload) for field in msgspec.structs.fields(kind)}
    for name in names:
        assert f"`{name}`" in page or f"[{name}]" in page, name


def test_commitments_reach_the_ownership_comparison_as_commitments(catalog: HardwareCatalog) -> None:
    """Three-year instances and hourly ones of the same accelerator: bound for the first alone, and by their term."""
    text = SMALL.replace("2_000_000", "60_000_000").replace('"h100_sxm", "b200_sxm"', '"h100_sxm"')
    plan = make_plan(parse_workload(text + 'terms = ["on_demand", "3yr"]\ninstances = ["p5.48xlarge"]\n'), catalog)
    committed = [one for one in plan.fleet.purchases if one.committed]
    assert committed
    assert len(plan.fleet.purchases) > len(committed)
    cloud = plan.ownership[0]
    assert cloud.commitment is not None
    assert cloud.money is not None
    growth_free = sum(one.units * one.usd_per_hour * 730.5 for one in committed)
    assert cloud.commitment.usd == pytest.approx(36 * growth_free)
    assert cloud.commitment.minimum_accelerators == sum(one.units * one.accelerators for one in committed)
    rent = cloud.money.cash.by_cause["rent"]
    hourly = sum(one.usd_per_month for one in (*plan.fleet.purchases, *plan.fleet.bookings)) - growth_free
    assert -rent[2] == pytest.approx(growth_free + hourly, rel=0.1)
    assert -rent[2] >= growth_free


def test_what_failures_cost_a_tuning_run_is_in_the_plan(plan: Plan) -> None:
    told = next(one for one in plan.assumptions if one.name == "failures of quarterly")
    assert told.value.startswith("200 declared accelerator-hours a run become 200: 8 work together and lose 0.1")
    assert "Llama 3" in told.source
    assert "2410.21680" in told.source
    booking = next(one for one in json.loads(plan_json(plan))["fleet"]["bookings"] if one["name"] == "quarterly")
    assert 0.99 < booking["goodput"] < 1


def test_the_width_of_the_cache_is_stated_with_the_setting_that_makes_it_so(
    plan: Plan, catalog: HardwareCatalog
) -> None:
    told = [one.value for one in plan.assumptions if one.name == "KV cache"]
    assert told == ["8 bits a value under vllm: set --kv-cache-dtype fp8"]
    workload = parse_workload(SMALL.replace("[fleet]", '[fleet]\nkv_precision = "bf16"'))
    wide = make_plan(workload, catalog)
    told = [one.value for one in wide.assumptions if one.name == "KV cache"]
    assert told == ["16 bits a value under vllm: the default, without --kv-cache-dtype fp8"]
    assert wide.fleet.usd_per_month > 0.999 * plan.fleet.usd_per_month


def test_old_runs_and_old_prices_are_said(catalog: HardwareCatalog) -> None:
    workload = parse_workload(SMALL)
    predicted, _ = predictions(workload, catalog, Performance.load(), ("h100_sxm", "b200_sxm"))
    found, _ = configurations(workload, predicted)
    demand = demand_of(workload)
    chosen = choose(workload, catalog, demand, found, offers_of(workload, catalog))
    fleet = fleet_of(workload, catalog, demand, chosen)
    dated = {chosen.behind[name].prediction.measured for name in chosen.solution.replicas} - {""}
    day = date.fromisoformat(max(dated))
    prices = [one for one in fleet.purchases if one.price_date]
    assert prices
    newest = max(date.fromisoformat(one.price_date) for one in prices)
    assert not [text for text in stale(chosen, fleet, day) if "months old" in text and str(day) in text]
    assert not [text for text in stale(chosen, fleet, newest) if "price" in text and str(newest) in text]
    later = stale(chosen, fleet, max(day, newest) + timedelta(days=200))
    assert any(str(day) in text and "newer versions may have changed" in text for text in later)
    assert all(any(one.instance in text and "plan refresh" in text for text in later) for one in prices)


def test_prompts_that_are_often_too_long_are_said(plan: Plan) -> None:
    rows = plan.configurations
    assert not [one for one in plan.warnings if "too long" in one]
    traffic = plan.workload.traffic
    for prompt in (Lengths(60_000, p95=140_000), Lengths(60_000, quantiles=(10_000, 60_000, 150_000))):
        longer = msgspec.structs.replace(plan.workload, traffic=msgspec.structs.replace(traffic, prompt_tokens=prompt))
        told = [one for one in warnings_of(longer, rows, plan.fleet, None) if "too long" in one]
        assert [("llama-3.1-8b" in one, "131,072" in one) for one in told] == [(True, True), (False, True)]


def test_a_machine_that_is_bought_whole_for_want_of_a_price_is_named(catalog: HardwareCatalog) -> None:
    """Spot prices are known of machines of eight alone."""
    spot = """
name = "spot"
[traffic]
requests_per_month = 100_000
prompt_tokens = { mean = 800 }
output_tokens = { mean = 200 }
[[models]]
name = "llama-3.1-8b"
[fleet]
accelerators = ["rtx_pro_6000_server"]
spares = 0
terms = ["spot"]
"""
    whole = make_plan(parse_workload(spot), catalog)
    (told,) = [text for text in whole.warnings if "bought whole" in text]
    assert "g7e.48xlarge (8 accelerators)" in told
    assert "g7e.2xlarge" in told
    assert "for spot" in told
    hourly = make_plan(parse_workload(spot.replace('"spot"]', '"on_demand"]')), catalog)
    assert not [text for text in hourly.warnings if "bought whole" in text]
    assert hourly.fleet.usd_per_month < whole.fleet.usd_per_month


def test_no_way_is_taken_because_it_serves_later(plan: Plan) -> None:
    """The same three ways, with the share of draws in which the own site is cheaper set by hand."""
    cloud, _, own = plan.ownership
    assert cloud.feasible
    assert own.money is not None
    assert own.money.break_even is not None
    for share, owner in ((0.29, Owner.CLOUD), (0.88, Owner.OWN)):
        even = msgspec.structs.replace(own.money.break_even, cheaper_probability=share)
        money = msgspec.structs.replace(own.money, break_even=even)
        ways = (cloud, msgspec.structs.replace(own, money=money, feasible=True))
        best = recommended(plan.workload, ways)
        assert best is not None
        assert best.owner is owner
        said = recommendation(plan.workload, plan.configurations, plan.fleet, ways)
        assert f"in {share:.0%} of the draws" in said
    alone = recommended(plan.workload, (msgspec.structs.replace(own, feasible=True),))
    assert alone is not None
    assert alone.owner is Owner.OWN


def test_owned_machines_are_counted_and_paid_as_in_the_ledger(catalog: HardwareCatalog) -> None:
    """Three DGX and near 91,000 USD a month, staff included: one machine's hourly share is not what a site costs."""
    plan = make_plan(read_workload(PLANS / "regulated.toml"), catalog)
    own = plan.ownership[2]
    assert own.money is not None
    month = -sum(own.money.cash.total) / 60
    assert month == pytest.approx(91_200, rel=0.05)
    assert "Buy 24 accelerators (DGX B200, 8 GPUs; spares" in plan.recommendation
    assert f"${month:,.0f} a month on average over 60 months" in plan.recommendation
