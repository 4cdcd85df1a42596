"""Charts as inline SVG: lines, horizontal bars, reliability. Colours are CSS variables, so a page sets light and dark.

Pure text in, text out; knows nothing about jobs or evaluations. Every chart carries a title and a description for
screen readers, and each line is named beside its end as well as in the legend.
"""

import math
from collections.abc import Sequence
from html import escape

from bessemer.core.types import Frozen

WIDTH, HEIGHT = 520, 290
LEFT, RIGHT, TOP, BOTTOM = 58, 18, 16, 46


class Series(Frozen, frozen=True):
    """A named line; `low` and `high` (same length) draw an interval band around it."""

    name: str
    points: tuple[tuple[float, float], ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    marks: bool = False
    dashed: bool = False


class LineChart(Frozen, frozen=True):
    """Lines over a common x axis; percent axes take fractions."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_percent: bool = False
    y_percent: bool = False
    y_range: tuple[float, float] | None = None
    note: str = ""


class Bar(Frozen, frozen=True):
    """One horizontal bar; `text` is written at its end."""

    name: str
    value: float | None
    text: str
    low: float | None = None
    """Lower end of its interval, drawn as a whisker; likewise the next."""
    high: float | None = None


class BarChart(Frozen, frozen=True):
    """Horizontal bars, from zero; a bar without a value shows its text alone."""

    title: str
    x_label: str
    bars: tuple[Bar, ...]
    note: str = ""


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers (1, 2, 2.5 or 5 times a power of ten) that lie within [low, high]."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    rough = span / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """Write a number in at most four significant digits, without a trailing zero."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


class _Axes(Frozen, frozen=True):
    """The map from data to pixels."""

    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        """Return the pixel of an x value."""
        return LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return the pixel of a y value."""
        return HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)


def line_chart(chart: LineChart) -> str:
    """Draw lines. A chart without points says so instead of drawing an empty frame."""
    points = [point for series in chart.series for point in series.points]
    if not points:
        return f'<p class="empty">{escape(chart.title)}: no data.</p>'
    axes = _axes_of(chart, points)
    body = [_grid(axes, chart)]
    body += [_band(series, axes, index) for index, series in enumerate(chart.series) if series.low]
    body += [_line(series, axes, index) for index, series in enumerate(chart.series)]
    return _figure(chart.title, chart.note, _describe(chart), "".join(body), legend=_legend(chart.series))


def _axes_of(chart: LineChart, points: Sequence[tuple[float, float]]) -> _Axes:
    xs = [x for x, _ in points]
    ys = [y for _, y in points]
    for series in chart.series:
        ys += [*series.low, *series.high]
    low, high = chart.y_range or (min(ys), max(ys))
    if chart.y_range is None:
        margin = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
        low = 0.0 if 0 <= low < margin * 2 else low - margin
        high += margin
        high = min(high, 1.0) if chart.y_percent and max(ys) <= 1.0 else high
    x0, x1 = (0.0, 1.0) if chart.x_percent else (min(xs), max(xs))
    return _Axes(x0=x0, x1=x1 if x1 > x0 else x0 + 1.0, y0=low, y1=high if high > low else low + 1.0)


def _grid(axes: _Axes, chart: LineChart) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in ticks(axes.y0, axes.y1):
        y = axes.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = f"{value:.0%}" if chart.y_percent else number(value)
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for value in ticks(axes.x0, axes.x1):
        x = axes.x(value)
        label = f"{value:.0%}" if chart.x_percent else number(value)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{label}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(f'<text class="label" x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">')
    parts.append(f"{escape(chart.x_label)}</text>")
    middle = (TOP + bottom) / 2
    parts.append(f'<text class="label" transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">')
    parts.append(f"{escape(chart.y_label)}</text>")
    return "".join(parts)


def _line(series: Series, axes: _Axes, index: int) -> str:
    placed = [(axes.x(x), axes.y(y)) for x, y in series.points]
    path = " ".join(f"{'M' if i == 0 else 'L'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(placed))
    dash = " dashed" if series.dashed else ""
    parts = [f'<path class="line{dash}" style="stroke:var(--c{index % 6})" d="{path}"/>'] if len(placed) > 1 else []
    if series.marks or len(placed) == 1:
        for (x, y), (data_x, data_y) in zip(placed, series.points, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" style="fill:var(--c{index % 6})">')
            parts.append(f"<title>{escape(series.name)}: {number(data_x)}, {number(data_y)}</title></circle>")
    return "".join(parts)


def _band(series: Series, axes: _Axes, index: int) -> str:
    xs = [axes.x(x) for x, _ in series.points]
    upper = [f"{x:.1f} {axes.y(y):.1f}" for x, y in zip(xs, series.high, strict=True)]
    lower = [f"{x:.1f} {axes.y(y):.1f}" for x, y in zip(xs, series.low, strict=True)]
    return f'<path class="band" style="fill:var(--c{index % 6})" d="M{" L".join(upper + lower[::-1])}Z"/>'


def bar_chart(chart: BarChart) -> str:
    """Draw horizontal bars from zero on one linear axis, so that lengths compare as the numbers do."""
    ends = [end for bar in chart.bars for end in (bar.value, bar.high) if end is not None]
    row, name_width, text_width = 34, 160, 150
    high = max(ends, default=0.0) or 1.0
    scale = (WIDTH - name_width - text_width) / high
    parts = []
    for index, bar in enumerate(chart.bars):
        y = TOP + index * row
        width = max(bar.value or 0.0, 0.0) * scale
        parts.append(
            f'<text class="label" x="{name_width - 10}" y="{y + 17}" text-anchor="end">{escape(bar.name)}</text>'
        )
        parts.append(f'<rect x="{name_width}" y="{y + 3}" width="{max(width, 1):.1f}" height="20" rx="3"')
        parts.append(f' style="fill:var(--c{index % 6})"/>')
        if bar.low is not None and bar.high is not None:
            left, right = name_width + bar.low * scale, name_width + bar.high * scale
            width = max(width, right - name_width)
            parts.append(
                f'<path class="whisker" d="M{left:.1f} {y + 8}V{y + 18}M{left:.1f} {y + 13}H{right:.1f}'
                f'M{right:.1f} {y + 8}V{y + 18}"/>'
            )
        parts.append(f'<text class="value" x="{name_width + width + 8:.1f}" y="{y + 18}">{escape(bar.text)}</text>')
    height = TOP + row * len(chart.bars) + 26
    parts.append(f'<text class="tick" x="{name_width}" y="{height - 8}">{escape(chart.x_label)}</text>')
    described = "; ".join(f"{bar.name}: {bar.text}" for bar in chart.bars)
    return _figure(chart.title, chart.note, described, "".join(parts), height=height)


def reliability_chart(title: str, bins: Sequence[tuple[float, float, int]], note: str = "") -> str:
    """Draw bins of (mean confidence, share correct, n) against the diagonal; a mark's area grows with n."""
    if not bins:
        return f'<p class="empty">{escape(title)}: no data.</p>'
    chart = LineChart(
        title=title,
        x_label="stated confidence",
        y_label="share correct",
        series=(),
        x_percent=True,
        y_percent=True,
    )
    axes = _Axes(x0=0.0, x1=1.0, y0=0.0, y1=1.0)
    largest = max(n for _, _, n in bins)
    ends = [f"{axes.x(v):.1f}" for v in (0, 1)], [f"{axes.y(v):.1f}" for v in (0, 1)]
    parts = [_grid(axes, chart)]
    parts.append(f'<path class="line dashed" style="stroke:var(--muted)" d="M{ends[0][0]} {ends[1][0]} ')
    parts.append(f'L{ends[0][1]} {ends[1][1]}"/>')
    for confidence, correct, n in bins:
        radius = 3 + 9 * math.sqrt(n / largest)
        parts.append(f'<circle class="bin" cx="{axes.x(confidence):.1f}" cy="{axes.y(correct):.1f}" r="{radius:.1f}">')
        parts.append(f"<title>confidence {confidence:.0%}, correct {correct:.0%}, {n} answers</title></circle>")
    described = "; ".join(f"confidence {c:.2f}: {a:.2f} correct of {n}" for c, a, n in bins)
    return _figure(title, note, described, "".join(parts))


def _legend(series: Sequence[Series]) -> str:
    if len(series) < 2:
        return ""
    keys = (
        f'<span><i class="{"key dashed" if one.dashed else "key"}" style="--key:var(--c{index % 6})"></i>'
        f"{escape(one.name)}</span>"
        for index, one in enumerate(series)
    )
    return f'<div class="legend">{"".join(keys)}</div>'


def _describe(chart: LineChart) -> str:
    ends = (
        f"{one.name}: from {number(one.points[0][1])} to {number(one.points[-1][1])}"
        for one in chart.series
        if one.points
    )
    return f"{chart.y_label} over {chart.x_label}. " + "; ".join(ends)


def _figure(title: str, note: str, description: str, body: str, *, height: float = HEIGHT, legend: str = "") -> str:
    caption = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>{legend}"
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img"><title>{escape(title)}</title>'
        f"<desc>{escape(description)}</desc>{body}</svg>{caption}</figure>"
    )
