"""The report page of one turn of the loop: a table with intervals, curves, the gate and the guarantee, lineage.

One self-contained HTML page: no script, nothing fetched. It prints what it is given; it computes
nothing but formatting, and an unknown number is a dash, never a guess.
"""

from bessemer.core.evaluations import GateResult
from bessemer.core.routes import Guarantee
from bessemer.core.types import Frozen, Interval
from bessemer_planner.pages import DASH, Bar, BarChart, LineChart, ReliabilityChart, environment


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


class RungLine(Frozen, frozen=True):
    """One rung of the route's ladder, as measured on the selection items."""

    name: str
    n: int
    score: Interval | None
    cost_per_1k_usd: float | None
    ms: float | None
    """Median of an answer, the gateway included."""
    share: float | None
    """Part of the calibration items that it answers in the route; None: it is not asked."""
    note: str
    """Whether it is in the route, and why."""
    label: str = ""
    """`simulated` where that is true."""
    version: str | None = None


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
    rungs: tuple[RungLine, ...] = ()
    ladder: LineChart | None = None
    """Quality against cost of the rungs."""
    verdicts: tuple[str, ...] = ()
    """Whether a language model pays for what the rungs hand over."""


def render(report: Report) -> str:
    """Return the page as HTML text."""
    made = environment("bessemer.flywheel", {"usd": usd, "percent": percent, "points": points})
    charts = (_cost_chart(report), _quality_chart(report))
    return made.get_template("turn.html").render(report=report, systems=charts, handing=_handing(report))


def usd(value: float | None) -> str:
    """Write dollars with enough digits to tell small costs apart; unknown is a dash."""
    if value is None:
        return DASH
    if value == 0:
        return "$0"
    return f"${value:,.2f}" if value >= 1 else f"${value:.2g}" if value >= 0.0001 else f"${value:.1e}"


def percent(value: float | None, digits: int = 1) -> str:
    """Write a fraction in percent; unknown is a dash."""
    return DASH if value is None else f"{value * 100:.{digits}f} %"


def points(value: float) -> str:
    """Write a difference of fractions in percentage points, with its sign."""
    return f"{value * 100:+.1f}"


def _cost_chart(report: Report) -> BarChart:
    bars = tuple(Bar(name=row.name, value=row.cost_per_1k_usd, text=usd(row.cost_per_1k_usd)) for row in report.systems)
    return BarChart(title="Cost of 1,000 requests", x_label="USD", bars=bars)


def _quality_chart(report: Report) -> BarChart:
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
    return BarChart(title=f"{report.metric} with 95 % intervals", x_label=report.metric, bars=bars)


def _handing(report: Report) -> tuple[LineChart | ReliabilityChart | None, ...]:
    title = "Reliability of the calibrated confidence"
    return report.quality_curve, ReliabilityChart(title, report.reliability, report.calibration_note)
