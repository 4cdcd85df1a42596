"""The report page of one turn of the loop: a table with intervals, curves, the gate and the guarantee, lineage.

One self-contained HTML page: own style, inline SVG, no script, nothing fetched. It prints what it is given; it computes
nothing but formatting, and an unknown number is a dash, never a guess.
"""

from collections.abc import Iterable
from html import escape

from bessemer.core.evaluations import GateResult
from bessemer.core.types import Frozen, Guarantee, Interval
from bessemer.flywheel.charts import Bar, BarChart, LineChart, bar_chart, line_chart, reliability_chart

STYLE = """
:root{color-scheme:light dark;--bg:#fff;--panel:#f6f7f9;--ink:#15181d;--muted:#626b78;--line:#dfe3e8;--good:#0b7a4b;
--bad:#b3261e;--c0:#2563b0;--c1:#d9631e;--c2:#1c8a5f;--c3:#8a4fbf;--c4:#b58900;--c5:#68707c}
@media (prefers-color-scheme:dark){:root{--bg:#14171c;--panel:#1c2027;--ink:#e8eaee;--muted:#9aa4b2;--line:#323842;
--good:#4cc38a;--bad:#ff8a80;--c0:#6ea8f0;--c1:#f39a5e;--c2:#54c594;--c3:#bf94ea;--c4:#e0bd4a;--c5:#a3abb8}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1080px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:28px;line-height:1.25;margin:0 0 4px}h2{font-size:19px;margin:40px 0 12px}
p{margin:8px 0;max-width:76ch}.muted,.note{color:var(--muted)}.note{font-size:14px;margin:4px 0 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:16px;margin:24px 0}
.tile{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:14px 16px}
.tile b{display:block;font-size:26px;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span{color:var(--muted);font-size:14px}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:8px 12px;border-bottom:1px solid var(--line);text-align:right;vertical-align:top}
th{color:var(--muted);font-size:14px;font-weight:600;white-space:nowrap}
th:first-child,td:first-child,.text td,.text th{text-align:left}
td small{color:var(--muted);display:block;font-size:13px;white-space:nowrap}
.badge{border:1px solid var(--line);border-radius:4px;color:var(--muted);font-size:12px;margin-left:6px;padding:1px 6px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));gap:24px}
figure{background:var(--panel);border:1px solid var(--line);border-radius:8px;margin:0;padding:14px 16px}
figcaption{font-weight:600;margin-bottom:6px}svg{display:block;height:auto;width:100%;overflow:visible}
svg text{fill:var(--ink);font:13px system-ui,-apple-system,"Segoe UI",sans-serif;font-variant-numeric:tabular-nums}
svg .tick{fill:var(--muted);font-size:12px}svg .label{fill:var(--muted)}
.grid{stroke:var(--line)}.axis{stroke:var(--muted)}.line{fill:none;stroke-width:2.2;stroke-linejoin:round}
.whisker{fill:none;stroke:var(--ink);stroke-width:1.5}
.dashed{stroke-dasharray:6 5}.band{opacity:.18}.bin{fill:var(--c0);fill-opacity:.65;stroke:var(--c0)}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:14px;color:var(--muted);margin-bottom:6px}
.key{border-top:3px solid var(--key);display:inline-block;margin-right:6px;vertical-align:middle;width:18px}
.key.dashed{border-top-style:dashed}
.pass{color:var(--good);font-weight:600}.fail{color:var(--bad);font-weight:600}
blockquote{border-left:3px solid var(--c0);margin:8px 0;padding:2px 0 2px 16px;max-width:76ch}
code{font:13px ui-monospace,SFMono-Regular,Menlo,monospace;overflow-wrap:anywhere}
"""


class SystemRow(Frozen, frozen=True):
    """One system as measured on the held-out items."""

    name: str
    n: int
    score: Interval | None
    """In the metric's unit: fractions for F1 and accuracy."""
    cost_per_1k_usd: float | None
    label: str = ""
    """`recorded` or `simulated` where that is true; shown beside the name."""
    version: str | None = None
    small_share: float | None = None
    """Share of requests that the small model answered; None where it does not apply."""
    input_tokens: float | None = None
    """Mean per request."""
    output_tokens: float | None = None
    latency_p50_s: float | None = None
    """Median while many requests were under way at once: it tells of the batch, not of a request alone."""
    unscorable: int = 0


class Tile(Frozen, frozen=True):
    """A headline number and what it says."""

    value: str
    text: str


class Report(Frozen, frozen=True):
    """Everything on the page."""

    title: str
    summary: str
    metric: str
    tiles: tuple[Tile, ...]
    systems: tuple[SystemRow, ...]
    curves: tuple[LineChart, ...]
    quality_curve: LineChart | None
    reliability: tuple[tuple[float, float, int], ...]
    calibration_note: str
    gate: GateResult | None
    gate_note: str
    guarantee: Guarantee | None
    guarantee_note: str
    lineage: tuple[tuple[str, str], ...]
    steps: tuple[tuple[str, str, float], ...]
    """What was done, with what outcome, in how many seconds."""
    notes: tuple[str, ...]


def render(report: Report) -> str:
    """Return the page as HTML text."""
    parts = [
        f"<h1>{escape(report.title)}</h1><p class='muted'>{escape(report.summary)}</p>",
        f'<div class="tiles">{"".join(_tile(tile) for tile in report.tiles)}</div>',
        f"<h2>Quality and cost on held-out requests</h2>{systems_table(report)}",
        f'<div class="charts" style="margin-top:24px">{_cost_chart(report)}{_quality_chart(report)}</div>',
        f"<h2>Is it good enough?</h2>{_gate(report)}",
        f"<h2>When does it hand over?</h2>{_guarantee(report)}<div class='charts'>",
        line_chart(report.quality_curve) if report.quality_curve else "",
        reliability_chart("Reliability of the calibrated confidence", report.reliability, report.calibration_note),
        f"</div><h2>Training</h2><div class='charts'>{''.join(line_chart(curve) for curve in report.curves)}</div>",
        f"<h2>Where the version comes from</h2>{_pairs(report.lineage)}",
        f"<h2>What happened</h2>{_steps(report)}",
        f"<h2>Notes</h2>{''.join(f'<p>{escape(note)}</p>' for note in report.notes)}" if report.notes else "",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(report.title)}</title><style>{STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>"
    )


def usd(value: float | None) -> str:
    """Write dollars with enough digits to tell small costs apart; unknown is a dash."""
    if value is None:
        return "–"
    if value == 0:
        return "$0"
    return f"${value:,.2f}" if value >= 1 else f"${value:.2g}" if value >= 0.0001 else f"${value:.1e}"


def percent(value: float | None, digits: int = 1) -> str:
    """Write a fraction in percent; unknown is a dash."""
    return "–" if value is None else f"{value * 100:.{digits}f} %"


def points(value: float) -> str:
    """Write a difference of fractions in percentage points, with its sign."""
    return f"{value * 100:+.1f}"


def systems_table(report: Report) -> str:
    """Return the table of systems."""
    head = ("System", report.metric, "Cost per 1,000", "Small share", "Tokens in / out", "Batch latency", "n")
    rows = "".join(_system(row) for row in report.systems)
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    note = (
        "<p class='note'>Batch latency: the median while all held-out requests were asked, many at once; a request "
        "alone takes less, and how many were under way differs between rows.</p>"
    )
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table></div>{note}'


def _system(row: SystemRow) -> str:
    badge = f'<span class="badge">{escape(row.label)}</span>' if row.label else ""
    version = f"<small><code>{escape(row.version)}</code></small>" if row.version else ""
    if row.score is None:
        score = "unscorable"
    else:
        score = f"{percent(row.score.value)}<small>{percent(row.score.low)} to {percent(row.score.high)}</small>"
    latency = "–" if row.latency_p50_s is None else f"{row.latency_p50_s * 1000:,.0f} ms"
    tokens = " / ".join("–" if value is None else f"{value:,.0f}" for value in (row.input_tokens, row.output_tokens))
    unscorable = f"<small>{row.unscorable} unscorable</small>" if row.unscorable else ""
    cells = (score, usd(row.cost_per_1k_usd), percent(row.small_share, 0), tokens, latency, f"{row.n:,}{unscorable}")
    return f"<tr><td>{escape(row.name)}{badge}{version}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _tile(tile: Tile) -> str:
    return f'<div class="tile"><b>{escape(tile.value)}</b><span>{escape(tile.text)}</span></div>'


def _cost_chart(report: Report) -> str:
    bars = tuple(Bar(name=row.name, value=row.cost_per_1k_usd, text=usd(row.cost_per_1k_usd)) for row in report.systems)
    return bar_chart(BarChart(title="Cost of 1,000 requests", x_label="USD", bars=bars))


def _quality_chart(report: Report) -> str:
    bars = tuple(
        Bar(
            name=row.name,
            value=row.score.value if row.score else None,
            text=percent(row.score.value) if row.score else "unscorable",
            low=row.score.low if row.score else None,
            high=row.score.high if row.score else None,
        )
        for row in report.systems
    )
    return bar_chart(BarChart(title=f"{report.metric} with 95 % intervals", x_label=report.metric, bars=bars))


def _gate(report: Report) -> str:
    if report.gate is None:
        return f"<p>{escape(report.gate_note)}</p>"
    gate = report.gate
    verdict = '<span class="pass">Passed.</span>' if gate.passed else '<span class="fail">Not passed.</span>'
    measured = f"Margin {gate.margin * 100:.1f} points."
    if (found := gate.difference) is not None:
        measured = (
            f"Measured difference {points(found.value)} points ({points(found.low)} to {points(found.high)}, "
            f"{found.level:.0%} {found.method}); margin {gate.margin * 100:.1f} points."
        )
    note = f"<p>{escape(report.gate_note)}</p>" if report.gate_note else ""
    return f"<blockquote>{escape(gate.rule)}</blockquote><p>{verdict} {escape(measured)}</p>{note}"


def _guarantee(report: Report) -> str:
    note = f"<p>{escape(report.guarantee_note)}</p>" if report.guarantee_note else ""
    if report.guarantee is None:
        return note
    guarantee = report.guarantee
    facts = (
        f"Method: {guarantee.method}; risk at most {number_text(guarantee.alpha)} with probability at least "
        f"{1 - guarantee.delta:.0%}; {guarantee.n:,} calibration items that neither training nor selection saw."
    )
    return f"<blockquote>{escape(guarantee.statement)}</blockquote><p class='muted'>{escape(facts)}</p>{note}"


def number_text(value: float) -> str:
    """Write a bound without trailing zeros."""
    return f"{value:.4g}"


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td><code>{escape(value)}</code></td></tr>" for name, value in pairs)
    return f'<div class="scroll"><table class="text"><tbody>{rows}</tbody></table></div>'


def _steps(report: Report) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td style='text-align:left'>{escape(outcome)}</td><td>{seconds:,.1f} s</td></tr>"
        for name, outcome, seconds in report.steps
    )
    return f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>'
