"""Charts as inline SVG: lines with bands, steps, tornado. Colours are CSS variables, so the page sets light and dark.

Values in, text out. Every chart has a title and a description for screen readers; a point tells its values on hover.
"""

import math
from collections.abc import Sequence
from html import escape

import msgspec

WIDTH, HEIGHT = 540, 300
LEFT, RIGHT, TOP, BOTTOM = 66, 16, 14, 46
COLOURS = 7


class ChartLine(msgspec.Struct, frozen=True):
    """A named line; `low` and `high` draw a band; `dots` draws its points without joining them."""

    name: str
    points: tuple[tuple[float, float], ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    dots: bool = False
    marks: bool = False
    stairs: bool = False
    dashed: bool = False
    colour: int | None = None


class Chart(msgspec.Struct, frozen=True):
    """Lines over common axes; logarithmic axes drop values that are not positive."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[ChartLine, ...]
    note: str = ""
    x_log: bool = False
    y_log: bool = False
    from_zero: bool = True


class ChartBar(msgspec.Struct, frozen=True):
    """A horizontal bar from `start` to `end`."""

    name: str
    start: float
    end: float
    text: str


def number(value: float) -> str:
    """Write a number in at most three significant digits, thousands with k, M, G."""
    value = float(f"{value:.3g}")
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


class _Axis(msgspec.Struct, frozen=True):
    """The map of one axis from values to pixels."""

    low: float
    high: float
    first: float
    last: float
    log: bool

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        if self.log:
            share = (math.log(max(value, self.low)) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.first + min(max(share, -0.05), 1.05) * (self.last - self.first)

    def ticks(self) -> list[float]:
        """Return round values within the axis."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            found = [10.0**power * factor for power in (powers.start - 1, *powers) for factor in (1, 2, 5)]
            inside = [value for value in found if self.low * 0.999 <= value <= self.high * 1.001]
            return inside if len(inside) <= 7 else [value for value in inside if math.log10(value) % 1 < 1e-9]
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _axis(values: Sequence[float], first: float, last: float, *, log: bool, from_zero: bool) -> _Axis:
    low, high = min(values), max(values)
    if log:
        return _Axis(low / 1.15, high * 1.15 if high > low else low * 2, first, last, log=True)
    if from_zero and low >= 0:
        low = 0.0
    margin = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    return _Axis(low if low == 0 else low - margin, high + margin, first, last, log=False)


def line_chart(chart: Chart) -> str:
    """Draw lines. A chart without points says so instead of drawing an empty frame."""
    lines = [_kept(line, chart) for line in chart.lines]
    points = [point for line in lines for point in line.points]
    if not points:
        return f'<p class="note">{escape(chart.title)}: nothing to show.</p>'
    ys = [y for _, y in points] + [value for line in lines for value in (*line.low, *line.high)]
    ys = [value for value in ys if value > 0] if chart.y_log else ys
    x = _axis([point[0] for point in points], LEFT, WIDTH - RIGHT, log=chart.x_log, from_zero=False)
    y = _axis(ys, HEIGHT - BOTTOM, TOP, log=chart.y_log, from_zero=chart.from_zero)
    body = [_grid(x, y, chart)]
    for index, line in enumerate(lines):
        colour = (index if line.colour is None else line.colour) % COLOURS
        body.append(_band(line, x, y, colour) + _drawn(line, x, y, colour))
    described = f"{chart.y_label} over {chart.x_label}: " + "; ".join(
        f"{line.name} from {number(line.points[0][1])} to {number(line.points[-1][1])}" for line in lines if line.points
    )
    return _figure(chart.title, chart.note, described, "".join(body), HEIGHT, _legend(lines))


def _kept(line: ChartLine, chart: Chart) -> ChartLine:
    """Drop what a logarithmic axis cannot show, and what is not finite."""
    keep = [
        i
        for i, (x, y) in enumerate(line.points)
        if math.isfinite(x) and math.isfinite(y) and (x > 0 or not chart.x_log) and (y > 0 or not chart.y_log)
    ]
    return msgspec.structs.replace(
        line,
        points=tuple(line.points[i] for i in keep),
        low=tuple(line.low[i] for i in keep) if line.low else (),
        high=tuple(line.high[i] for i in keep) if line.high else (),
    )


def _grid(x: _Axis, y: _Axis, chart: Chart) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in y.ticks():
        at = y.at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{number(value)}</text>')
    for value in x.ticks():
        at = x.at(value)
        parts.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 17}" text-anchor="middle">{number(value)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    middle = (LEFT + right) / 2
    parts.append(
        f'<text class="label" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(chart.x_label)}</text>'
    )
    turn = f'transform="translate(14 {(TOP + bottom) / 2}) rotate(-90)"'
    parts.append(f'<text class="label" {turn} text-anchor="middle">{escape(chart.y_label)}</text>')
    return "".join(parts)


def _drawn(line: ChartLine, x: _Axis, y: _Axis, colour: int) -> str:
    placed = [(x.at(a), y.at(b)) for a, b in line.points]
    if not placed:
        return ""
    path = f"M{placed[0][0]:.1f} {placed[0][1]:.1f}"
    for a, b in placed[1:]:
        path += f"H{a:.1f}V{b:.1f}" if line.stairs else f"L{a:.1f} {b:.1f}"
    dash = " dashed" if line.dashed else ""
    parts = [] if line.dots else [f'<path class="line{dash}" style="stroke:var(--c{colour})" d="{path}"/>']
    if line.dots or line.marks or len(placed) == 1:
        kind = "measured" if line.dots else "mark"
        for (a, b), (value_x, value_y) in zip(placed, line.points, strict=True):
            parts.append(f'<circle class="{kind}" cx="{a:.1f}" cy="{b:.1f}" r="4" style="--c:var(--c{colour})">')
            parts.append(f"<title>{escape(line.name)}: {number(value_x)}, {number(value_y)}</title></circle>")
    return "".join(parts)


def _band(line: ChartLine, x: _Axis, y: _Axis, colour: int) -> str:
    if not line.low:
        return ""
    over = [f"{x.at(point[0]):.1f} {y.at(value):.1f}" for point, value in zip(line.points, line.high, strict=True)]
    under = [f"{x.at(point[0]):.1f} {y.at(value):.1f}" for point, value in zip(line.points, line.low, strict=True)]
    return f'<path class="band" style="fill:var(--c{colour})" d="M{"L".join(over + under[::-1])}Z"/>'


def bar_chart(
    title: str,
    unit: str,
    bars: Sequence[ChartBar],
    note: str = "",
    base: float | None = None,
    *,
    one_colour: bool = False,
) -> str:
    """Draw horizontal bars over a common axis; `base` is a vertical line, such as the central case of a tornado."""
    if not bars:
        return f'<p class="note">{escape(title)}: nothing to show.</p>'
    names, texts, row = 226, 100, 28
    values = [value for bar in bars for value in (bar.start, bar.end)] + ([] if base is None else [base])
    axis = _Axis(
        min(values), max(values) if max(values) > min(values) else min(values) + 1, names, WIDTH - texts, log=False
    )
    parts = []
    for index, bar in enumerate(bars):
        top = TOP + index * row
        start, end = sorted((axis.at(bar.start), axis.at(bar.end)))
        parts.append(f'<text class="label" x="{names - 8}" y="{top + 15}" text-anchor="end">{escape(bar.name)}</text>')
        parts.append(f'<rect x="{start:.1f}" y="{top + 2}" width="{max(end - start, 1.5):.1f}" height="18" rx="3"')
        parts.append(f' style="fill:var(--c{0 if one_colour or base is not None else index % COLOURS})"/>')
        parts.append(f'<text class="value" x="{end + 6:.1f}" y="{top + 15}">{escape(bar.text)}</text>')
    height = TOP + row * len(bars) + 24
    if base is not None:
        at = axis.at(base)
        parts.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP - 4}" y2="{height - 22}"/>')
    parts.append(f'<text class="tick" x="{names}" y="{height - 6}">{escape(unit)}</text>')
    return _figure(title, note, "; ".join(f"{bar.name}: {bar.text}" for bar in bars), "".join(parts), height, "")


def _legend(lines: Sequence[ChartLine]) -> str:
    if len(lines) < 2:
        return ""
    keys = []
    for index, line in enumerate(lines):
        colour = (index if line.colour is None else line.colour) % COLOURS
        kind = "key point" if line.dots else "key dashed" if line.dashed else "key"
        keys.append(f'<span><i class="{kind}" style="--key:var(--c{colour})"></i>{escape(line.name)}</span>')
    return f'<div class="legend">{"".join(keys)}</div>'


def _figure(title: str, note: str, described: str, body: str, height: float, legend: str) -> str:
    caption = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>{legend}"
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img"><title>{escape(title)}</title>'
        f"<desc>{escape(described)}</desc>{body}</svg>{caption}</figure>"
    )
