"""The charts of a plan: which values of it are drawn, and how they are labelled."""

from bessemer_planner.economics import Swing
from bessemer_planner.pages import Bar, BarChart, LineChart, Series, short_number
from bessemer_planner.plan import ConfigurationRow, Plan, recommended

_SHOWN = 6
"""Configurations of one model in a chart."""


def pareto(plan: Plan, model: str) -> LineChart:
    """Draw throughput per accelerator against the speed that one user sees; measured points as rings."""
    rows = [row for row in plan.configurations if row.model == model and row.curve][:_SHOWN]
    lines = []
    for index, row in enumerate(rows):
        points = tuple((1 / p.tpot_s.value, p.output_tokens_s.value / row.accelerators) for p in row.curve)
        lines.append(Series(f"{label(row)} ({row.basis.value})", points, marks=True, colour=index))
    measured = {(near.id): near for row in rows for near in row.nearest}
    rings = tuple(
        (1 / near.tpot_s, near.concurrency / (near.ttft_s + near.tpot_s * near.osl) * near.osl / (near.tp * near.dp))
        for near in measured.values()
        if near.tpot_s > 0 and near.tp > 0
    )
    if rings:
        lines.append(Series("measured, nearest points (other lengths or models)", rings, dots=True, colour=_SHOWN))
    return LineChart(
        f"{model}: throughput against latency",
        "output tokens/s that one user sees",
        "output tokens/s per accelerator",
        tuple(lines),
        note="Each mark is a number of requests in flight (1, 4, 16, ...); up and to the right is better.",
        x_log=True,
        y_log=True,
        short=True,
    )


def label(row: ConfigurationRow) -> str:
    """Return a short name of a configuration."""
    split = f" {row.prefill_replicas}P{row.decode_replicas}D" if row.prefill_replicas else ""
    return f"{row.accelerator} TP{row.tensor_parallel} {row.precision}{split}"


def staircase(plan: Plan) -> LineChart:
    """Draw what other latency limits would cost."""
    points = tuple((step.tpot_s * 1000, step.usd_per_month) for step in plan.steps if step.usd_per_month is not None)
    infeasible = [f"{step.tpot_s * 1000:.3g} ms" for step in plan.steps if step.usd_per_month is None]
    note = "Both limits move together; predicted, without simulating again."
    if infeasible:
        note += f" Infeasible at {', '.join(infeasible)}."
    return LineChart(
        "Cost against the latency limit",
        "TPOT limit, ms",
        "USD a month",
        (Series("cost", points, marks=True, stairs=True),),
        note=note,
        x_log=True,
        from_zero=True,
        short=True,
    )


def volumes(plan: Plan) -> LineChart:
    """Draw the cost of a million output tokens against traffic."""
    points = tuple((one.requests_per_month, one.usd_per_million_output_tokens) for one in plan.volumes)
    return LineChart(
        "Cost per token against traffic",
        "requests a month",
        "USD per million output tokens",
        (Series("cost", points, marks=True),),
        note="Idle floors dominate on the left; predicted, without simulating again.",
        x_log=True,
        y_log=True,
        short=True,
    )


def break_even(plan: Plan) -> LineChart:
    """Draw what a useful accelerator-hour costs by utilisation, in each way of owning, for the plan's horizon."""
    shares = [0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    years = plan.workload.time.horizon_months / 12
    possible = {owner.owner for owner in plan.ownership if owner.feasible}
    lines = []
    for curve in plan.hours:
        if possible and curve.owner not in possible:
            continue
        nearest = min(range(len(curve.years)), key=lambda i: abs(curve.years[i] - years))
        hourly = curve.usd_per_hour[nearest]
        points = tuple((share * 100, hourly / share) for share in shares)
        lines.append(Series(f"{_OWNERS[curve.owner.value]}, {_years(curve.years[nearest])}", points))
    return LineChart(
        "Break-even by utilisation",
        "hours in use, %",
        "USD per useful accelerator-hour",
        tuple(lines),
        note="What is held costs the same whether it works or not.",
        y_log=True,
        short=True,
    )


def _years(count: float) -> str:
    return "1 year" if count == 1 else f"{count:g} years"


_OWNERS = {"cloud": "public cloud", "ai_factory": "AI factory", "own": "own data centre"}


def cash(plan: Plan) -> LineChart:
    """Draw the sum of all cash by month with its P10 to P90 band, delays included."""
    possible = [owner for owner in plan.ownership if owner.feasible and owner.money is not None]
    shown = possible or [owner for owner in plan.ownership if owner.money is not None]
    lines = []
    for owner in shown:
        assert owner.money is not None
        points = tuple((float(month), value) for month, value in enumerate(owner.money.cumulative_p50, 1))
        name = owner.name if owner.feasible else f"{owner.name} (not possible under the rules)"
        lines.append(
            Series(
                name, points, tuple(owner.money.cumulative_p10), tuple(owner.money.cumulative_p90), dashed=not possible
            )
        )
    left_out = [owner.name for owner in plan.ownership if owner not in shown]
    note = "P50 with P10 to P90 over demand, prices, delay and costs; the service's value comes in once it serves."
    if left_out:
        note += f" Not possible under the rules: {', '.join(left_out)}."
    return LineChart(
        "Cumulative cash",
        "months from the decision",
        "USD, sum of all cash so far",
        tuple(lines),
        note=note,
        short=True,
    )


def day(plan: Plan) -> LineChart:
    """Draw replicas over a weekday of the busiest month."""
    lines = [
        Series(line.name.split(" @ ")[0], tuple(enumerate(line.weekday)), stairs=True) for line in plan.fleet.replicas
    ]
    return LineChart(
        "The fleet over a weekday",
        "hour",
        "replicas, spares included",
        tuple(lines),
        note="The busiest month of the first year.",
        from_zero=True,
        short=True,
    )


def demand(plan: Plan) -> LineChart:
    """Draw requests a second over weekday and weekend day."""
    lines = []
    for index, line in enumerate(plan.fleet.demand):
        lines.append(Series(f"{line.name}, weekday", tuple(enumerate(line.weekday)), colour=index))
        lines.append(Series(f"{line.name}, weekend", tuple(enumerate(line.weekend)), dashed=True, colour=index))
    return LineChart("Requests over the day", "hour", "requests/s", tuple(lines), from_zero=True, short=True)


def tornado(plan: Plan) -> BarChart:
    """Draw what moves the monthly cost."""
    note = "Each input alone, at the ends of its range (beside the bar); the line is this plan."
    bars = tuple(_ends(one) for one in plan.drivers)
    return BarChart("What drives the cost", "USD a month", bars, note, base=plan.fleet.usd_per_month)


def ownership_tornado(plan: Plan) -> BarChart | None:
    """Draw what moves the present cost of the recommended way of owning, where there is one."""
    owner = recommended(plan.workload, plan.ownership)
    if owner is None or owner.money is None:
        return None
    title = f"What drives the present cost: {owner.name.lower()}"
    return BarChart(title, "USD, present cost", tuple(_ends(one) for one in owner.money.tornado[:8]), one_colour=True)


def _ends(one: Swing) -> Bar:
    text = f"{short_number(one.low_input)} to {short_number(one.high_input)}"
    return Bar(one.name, one.usd_at_high, text, start=one.usd_at_low)


def energy(plan: Plan) -> BarChart:
    """Draw energy per output token: the thriftiest configuration of every model on every accelerator."""
    best: dict[tuple[str, str], float] = {}
    for row in plan.configurations:
        if row.joules_per_output_token is not None:
            key = (row.model, row.accelerator)
            best[key] = min(best.get(key, row.joules_per_output_token), row.joules_per_output_token)
    ordered = sorted(best.items(), key=lambda item: item[1])
    bars = tuple(Bar(f"{model}, {accelerator}", joules, f"{joules:.3g} J") for (model, accelerator), joules in ordered)
    note = "At the meter, at full load: provisioned power x load factor x PUE."
    return BarChart("Energy per output token", "J per output token", bars[:16], note, one_colour=True)
