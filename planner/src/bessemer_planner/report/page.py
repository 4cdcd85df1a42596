"""The report page of a plan: one self-contained HTML file, own style, inline SVG, no script, nothing fetched.

It prints what the plan holds and computes nothing but formatting; an unknown number is a dash.
"""

from collections.abc import Iterable, Sequence
from html import escape

from bessemer_planner.economics import Ownership
from bessemer_planner.plan import ConfigurationRow, Plan
from bessemer_planner.report import views
from bessemer_planner.report.style import STYLE
from bessemer_planner.types import IntervalEstimate

_DASH = "–"


def render(plan: Plan) -> str:
    """Return the page as HTML text."""
    fleet = plan.fleet
    tiles = (
        (usd(fleet.usd_per_month), "a month, mean of the first year"),
        (usd(fleet.usd_per_million_output_tokens), "per million output tokens, the purchases below alone"),
        (f"{fleet.peak_accelerators:,.0f}", f"accelerators at the peak ({fleet.mean_accelerators:,.1f} on average)"),
        (_DASH if fleet.peak_kw is None else f"{fleet.peak_kw:,.1f} kW", "at the meter at the peak"),
        (f"{fleet.load_share:.0%}", "of the running replicas' capacity used"),
    )
    models = [use.name for use in plan.workload.models]
    parts = [
        f"<h1>{escape(plan.workload.name)}</h1><p class='muted'>{escape(plan.workload.description)}</p>",
        f"<blockquote>{escape(plan.recommendation)}</blockquote>",
        f'<div class="tiles">{"".join(_tile(*tile) for tile in tiles)}</div>',
        _list("Mind", plan.warnings),
        f"<h2>The fleet</h2>{_purchases(plan)}{_charts(views.day(plan), views.demand(plan))}",
        f"<h2>Whose hardware</h2>{_ownership(plan)}",
        _charts(views.cash(plan), views.break_even(plan), views.ownership_tornado(plan)),
        "<h2>What drives the answer, and what would change it</h2>",
        _charts(views.tornado(plan), views.staircase(plan)),
        _charts(views.volumes(plan), views.energy(plan)),
        _list("", tuple(f"If {change.when}: {change.then}." for change in plan.changes)),
        f"<h2>Configurations</h2>{_configurations(plan.configurations)}",
        _charts(*(views.pareto(plan, model) for model in models)),
        f"<h2>Nearest measured points</h2>{_nearest(plan)}",
        f"<h2>Refused</h2>{_refused(plan)}",
        f"<h2>What it rests on</h2>{_assumptions(plan)}",
        f"<p class='muted'>{escape(_how(plan))}</p>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Plan: {escape(plan.workload.name)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>"
    )


def usd(value: float | None) -> str:
    """Write dollars; unknown is a dash."""
    if value is None:
        return _DASH
    sign = "-" if value < 0 else ""
    size = abs(value)
    for limit, unit in ((1e9, "B"), (1e6, "M")):
        if size >= limit:
            return f"{sign}${size / limit:,.2f}{unit}"
    return f"{sign}${size:,.0f}" if size >= 100 else f"{sign}${size:,.3g}"


def milliseconds(value: IntervalEstimate) -> str:
    """Write seconds as milliseconds with their interval."""
    return (
        f"{value.value * 1e3:,.0f} ms<small>{value.low * 1e3:,.0f} to {value.high * 1e3:,.0f}</small>"
        if value.value >= 0.1
        else f"{value.value * 1e3:.3g} ms<small>{value.low * 1e3:.3g} to {value.high * 1e3:.3g}</small>"
    )


def money(value: IntervalEstimate | None) -> str:
    """Write dollars with P10 to P90."""
    if value is None:
        return _DASH
    return f"{usd(value.value)}<small>P10 {usd(value.low)}, P90 {usd(value.high)}</small>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Return a table of ready HTML cells."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _tile(value: str, text: str) -> str:
    return f'<div class="tile"><b>{escape(value)}</b><span>{escape(text)}</span></div>'


def _charts(*charts: str) -> str:
    return f'<div class="charts">{"".join(charts)}</div>'


def _list(title: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    head = f"<h3>{escape(title)}</h3>" if title else ""
    return f"{head}<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def _purchases(plan: Plan) -> str:
    rows = [
        (
            escape(f"{one.units} x {one.instance}"),
            escape(f"{one.accelerators} x {one.accelerator}"),
            escape(one.term.replace("_", " ")),
            usd(one.usd_per_hour),
            f"{one.unit_hours_per_month:,.0f}",
            usd(one.usd_per_month),
            f"{escape(one.region)}<small>{escape(one.price_date)}, {escape(one.price_source)}</small>",
        )
        for one in plan.fleet.purchases
    ]
    for one in plan.fleet.bookings:
        where = f"{one.instance}, {(one.term or '').replace('_', ' ')}" if one.booked_share else "idle accelerators"
        text = f"tuning: {escape(one.name)}<small>{one.booked_share:.0%} booked by itself</small>"
        rows.append((text, escape(where), "", "", "", usd(one.usd_per_month), ""))
    head = ("Units", "Accelerators", "Term", "Per hour", "Hours a month", "A month", "Price of")
    return table(head, rows)


def _ownership(plan: Plan) -> str:
    owners = plan.ownership
    rows: list[tuple[str, ...]] = []

    def row(name: str, cells: Iterable[str]) -> None:
        rows.append((f"<b>{name}</b>", *cells))

    row("fleet", (escape(plan.owned_fleets.get(owner.owner.value, "")) for owner in owners))
    row("possible", (_possible(owner) for owner in owners))
    row("commitment", (_DASH if one.commitment is None else escape(one.commitment.text) for one in owners))
    row("sovereignty", (escape(one.sovereignty.text) for one in owners))
    row("speed to market", (escape(one.speed.text) for one in owners))
    row("management", (escape(one.management.text) for one in owners))
    row("present cost", (money(one.money.present_cost_usd if one.money else None) for one in owners))
    row("net present value", (money(one.money.npv_usd if one.money else None) for one in owners))
    hours = (one.money.usd_per_accelerator_hour if one.money else None for one in owners)
    tokens = (one.money.usd_per_million_tokens if one.money else None for one in owners)
    row("per accelerator-hour, all costs<small>staff, space and power, too</small>", (money(one) for one in hours))
    row("per million output tokens, all costs", (money(one) for one in tokens))
    row("break-even", (_break_even(one) for one in owners))
    return table(("", *(owner.name for owner in owners)), rows, "text compare")


def _possible(owner: Ownership) -> str:
    verdict = '<span class="pass">yes</span>' if owner.feasible else '<span class="fail">no</span>'
    return verdict + "".join(f"<small>{escape(reason)}</small>" for reason in owner.reasons)


def _break_even(owner: Ownership) -> str:
    found = owner.money.break_even if owner.money else None
    if found is None:
        return _DASH
    when = "not within the horizon" if found.month is None else f"month {found.month:.0f}"
    share = _DASH if found.utilisation is None else f"{found.utilisation:.0%} of the hours in use"
    return f"{when}<small>{share}</small><small>cheaper in {found.cheaper_probability:.0%} of the draws</small>"


def _configurations(rows: Sequence[ConfigurationRow]) -> str:
    head = (
        "Configuration", "TTFT", "TPOT", "Requests/s", "Tokens/s", "USD per M", "J per token", "Simulated",
    )  # fmt: skip
    note = (
        "<p class='note'>Of one replica at the largest load within the limits: means with the interval that should "
        "hold 80 % of measurements; output tokens, at full load and the cheapest allowed price.</p>"
    )
    return note + table(head, (_configuration(row) for row in rows), "wide")


def _configuration(row: ConfigurationRow) -> tuple[str, ...]:
    badges = f'<span class="badge">{row.basis.value}</span>' + ('<span class="badge on">chosen</span>' * row.chosen)
    verdict = _DASH
    if row.verdict is not None:
        one = row.verdict
        verdict = (
            f"{one.within:.1%} within both limits<small>TTFT {one.ttft_s * 1e3:,.0f} ms, TPOT "
            f"{one.tpot_s * 1e3:.3g} ms at the percentile; {one.requests:,} requests</small>"
        )
    tokens = row.output_tokens_s
    return (
        f"{escape(row.model)} on {escape(views.label(row))}{badges}<small>{escape(row.engine_version)}; "
        f"{escape(row.instance or 'no price')}</small>",
        milliseconds(row.ttft_s),
        milliseconds(row.tpot_s),
        f"{row.requests_s:,.3g}",
        f"{tokens.value:,.0f}<small>{tokens.low:,.0f} to {tokens.high:,.0f}</small>",
        usd(row.usd_per_million_output_tokens),
        _DASH if row.joules_per_output_token is None else f"{row.joules_per_output_token:.3g}",
        verdict,
    )


def _nearest(plan: Plan) -> str:
    rows = []
    for row in plan.configurations:
        if row.chosen:
            for near in row.nearest:
                version = near.engine_version or "(version unknown)"
                setting = (
                    f"{near.model} on {near.accelerator}, {near.engine} {version}, {near.precision}, "
                    f"TP{near.tp}, {near.isl} in, {near.osl} out, {near.concurrency} in flight"
                )
                rows.append(
                    (
                        escape(views.label(row)),
                        f'{escape(setting)}<span class="badge">measured</span><small>{escape(near.id)}</small>',
                        f"{near.ttft_s * 1e3:,.0f} ms",
                        f"{near.tpot_s * 1e3:.3g} ms",
                        f"{near.distance:.2f}",
                    )
                )
    if not rows:
        return "<p>None.</p>"
    return table(("For", "Measured point", "TTFT", "TPOT", "Distance"), rows)


def _refused(plan: Plan) -> str:
    rows = [
        (escape(one.model), escape(f"{one.accelerator} {one.what}"), escape(one.reason)) for one in plan.refused[:20]
    ]
    note = f"<p class='note'>{plan.solving.refused} configurations were refused.</p>"
    return note + (table(("Model", "Configuration", "Why"), rows, "text") if rows else "")


def _assumptions(plan: Plan) -> str:
    rows = [
        (escape(one.name), escape(one.value), f"{escape(one.source)}<small>{escape(one.date or '')}</small>")
        for one in plan.assumptions
    ]
    return table(("What", "Value", "Source"), rows, "text")


def _how(plan: Plan) -> str:
    solving = plan.solving
    return (
        f"{solving.configurations} configurations, {solving.rounds} rounds of optimiser and simulator, "
        f"{sum(solving.cuts.values())} rates lowered, {solving.seconds:.1f} s; made {plan.made_at}. Intervals of "
        "predictions should hold 80 % of measurements."
    )
