"""Charts as inline SVG: lines with bands, steps, dots and marks, bars with intervals, tornado, reliability.

Values in, markup out; text that it is given is escaped by `Markup.format` and `Markup.join`, never by hand. Colours are
CSS variables, so the stylesheet sets light and dark. Every chart has a title and a description for screen readers; a
point tells its values on hover.
"""

import math
from collections.abc import Iterable, Sequence

import msgspec
from markupsafe import Markup

WIDTH, HEIGHT = 540, 300
LEFT, RIGHT, TOP, BOTTOM = 66, 18, 16, 46
COLOURS = 7
"""Colours of the stylesheet: `--c0` and on."""
BAR_NAMES, BAR_TEXTS, BAR_ROW = 226, 100, 30
"""Pixels for the names on the left of bars, the texts on their right, and the height of a row."""


class Series(msgspec.Struct, frozen=True):
    """A named line; `low` and `high` (same length) draw a band around it."""

    name: str
    points: tuple[tuple[float, float], ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    marks: bool = False
    """Its points are marked, and tell their values on hover."""
    dashed: bool = False
    dots: bool = False
    """Its points are rings that no line joins."""
    stairs: bool = False
    colour: int | None = None
    """Number of its colour; its place among the lines by default."""


class LineChart(msgspec.Struct, frozen=True):
    """Lines over common axes; percent axes take fractions, logarithmic axes drop values that are not positive."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_percent: bool = False
    y_percent: bool = False
    y_range: tuple[float, float] | None = None
    note: str = ""
    x_log: bool = False
    y_log: bool = False
    from_zero: bool = False
    """The y axis starts at zero, wherever the values are; without it only where they come near."""
    short: bool = False
    """Numbers have three digits at most and k, M or G for thousands."""


class Bar(msgspec.Struct, frozen=True):
    """One horizontal bar from `start` to `value`; `text` is written at its end."""

    name: str
    value: float | None
    text: str
    low: float | None = None
    """Lower end of its interval, drawn as a whisker; likewise the next."""
    high: float | None = None
    start: float = 0.0


class BarChart(msgspec.Struct, frozen=True):
    """Horizontal bars on one linear axis; a bar without a value shows its text alone."""

    title: str
    x_label: str
    bars: tuple[Bar, ...]
    note: str = ""
    base: float | None = None
    """A vertical line, such as the central case of a tornado."""
    one_colour: bool = False


class ReliabilityChart(msgspec.Struct, frozen=True):
    """Bins of (mean confidence, share correct, n) against the diagonal; a mark's area grows with n."""

    title: str
    bins: tuple[tuple[float, float, int], ...]
    note: str = ""


class DrawnChart(msgspec.Struct, frozen=True):
    """What is drawn of a chart, before a page frames it."""

    described: str
    body: Markup
    height: float = HEIGHT
    keys: tuple[tuple[str, str, int], ...] = ()
    """Kind (`key`, with `dashed` or `point`), name and colour of each line."""


def draw(chart: LineChart | BarChart | ReliabilityChart) -> Markup:
    """Return a chart as a figure. A chart without points says so instead of drawing an empty frame."""
    drawn = drawing(chart)
    if not drawn.body:
        return Markup('<p class="note">{}: no data.</p>').format(chart.title)
    key = Markup('<span><i class="{}" style="--key:var(--c{})"></i>{}</span>')
    legend = _joined(key.format(kind, colour, name) for kind, name, colour in drawn.keys)
    return Markup(
        "<figure><figcaption>{title}</figcaption>{legend}"
        '<svg viewBox="0 0 {width} {height}" role="img"><title>{title}</title><desc>{described}</desc>{body}</svg>'
        "{note}</figure>"
    ).format(
        title=chart.title,
        legend=Markup('<div class="legend">{}</div>').format(legend) if legend else "",
        width=WIDTH,
        height=drawn.height,
        described=drawn.described,
        body=drawn.body,
        note=Markup('<p class="note">{}</p>').format(chart.note) if chart.note else "",
    )


def drawing(chart: LineChart | BarChart | ReliabilityChart) -> DrawnChart:
    """Return what is drawn of a chart; its body is empty where there is nothing to draw."""
    if isinstance(chart, BarChart):
        return _bars(chart)
    return _lines(chart) if isinstance(chart, LineChart) else _reliability(chart)


def short_number(value: float) -> str:
    """Write a number in at most three significant digits, thousands with k, M, G."""
    value = float(f"{value:.3g}")
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def plain_number(value: float) -> str:
    """Write a number in at most four significant digits, thousands in full."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers (1, 2, 2.5 or 5 times a power of ten) that lie within [low, high]."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


class _Axis(msgspec.Struct, frozen=True):
    """The map of one axis from values to pixels, and how its values are written."""

    low: float
    high: float
    first: float
    last: float
    log: bool = False
    percent: bool = False
    short: bool = False

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        if self.log:
            share = (math.log(max(value, self.low)) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.first + min(max(share, -0.05), 1.05) * (self.last - self.first)

    def ticks(self) -> list[float]:
        """Return round values within the axis."""
        if not self.log:
            return ticks(self.low, self.high)
        powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
        found = [10.0**power * factor for power in (powers.start - 1, *powers) for factor in (1, 2, 5)]
        inside = [value for value in found if self.low * 0.999 <= value <= self.high * 1.001]
        return inside if len(inside) <= 7 else [value for value in inside if math.log10(value) % 1 < 1e-9]

    def write(self, value: float) -> str:
        """Write a value of a point."""
        return short_number(value) if self.short else plain_number(value)

    def label(self, tick: float) -> str:
        """Write a tick."""
        return f"{tick:.0%}" if self.percent else self.write(tick)


def _x_axis(chart: LineChart, values: Sequence[float]) -> _Axis:
    low, high = (0.0, 1.0) if chart.x_percent else (min(values), max(values))
    if chart.x_log:
        low, high = low / 1.15, high * 1.15 if high > low else low * 2
    high = high if high > low else low + 1.0
    return _Axis(low, high, LEFT, WIDTH - RIGHT, log=chart.x_log, percent=chart.x_percent, short=chart.short)


def _y_axis(chart: LineChart, values: Sequence[float]) -> _Axis:
    low, high = chart.y_range or (min(values), max(values))
    if chart.y_range is None and chart.y_log:
        low, high = low / 1.15, high * 1.15 if high > low else low * 2
    elif chart.y_range is None:
        low = 0.0 if chart.from_zero and low > 0 else low
        margin = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
        low = 0.0 if 0 <= low < margin * 2 else low - margin
        high = min(high + margin, 1.0) if chart.y_percent and high <= 1.0 else high + margin
    high = high if high > low else low + 1.0
    return _Axis(low, high, HEIGHT - BOTTOM, TOP, log=chart.y_log, percent=chart.y_percent, short=chart.short)


def _lines(chart: LineChart) -> DrawnChart:
    lines = [_kept(line, chart) for line in chart.series]
    points = [point for line in lines for point in line.points]
    if not points:
        return DrawnChart("", Markup())
    ys = [y for _, y in points] + [value for line in lines for value in (*line.low, *line.high)]
    x = _x_axis(chart, [point[0] for point in points])
    y = _y_axis(chart, [value for value in ys if value > 0] if chart.y_log else ys)
    coloured = [((index if line.colour is None else line.colour) % COLOURS, line) for index, line in enumerate(lines)]
    kinds = [("key point" if line.dots else "key dashed" if line.dashed else "key") for line in lines]
    ends = (
        f"{line.name}: from {y.write(line.points[0][1])} to {y.write(line.points[-1][1])}"
        for line in lines
        if line.points
    )
    return DrawnChart(
        described=f"{chart.y_label} over {chart.x_label}. " + "; ".join(ends),
        body=_joined(
            (
                _grid(x, y, chart.x_label, chart.y_label),
                *(_band(line, x, y, colour) for colour, line in coloured),
                *(_line(line, x, y, colour) for colour, line in coloured),
            )
        ),
        keys=tuple(
            (kind, line.name, colour) for kind, (colour, line) in zip(kinds, coloured, strict=True) if len(lines) > 1
        ),
    )


def _kept(line: Series, chart: LineChart) -> Series:
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


def _grid(x: _Axis, y: _Axis, x_label: str, y_label: str) -> Markup:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    rule = Markup(
        '<line class="grid" x1="{}" x2="{}" y1="{at:.1f}" y2="{at:.1f}"/>'
        '<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>'
    )
    tick = Markup(
        '<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{}" y2="{}"/>'
        '<text class="tick" x="{at:.1f}" y="{}" text-anchor="middle">{}</text>'
    )
    frame = Markup(
        '<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>'
        '<text class="label" x="{middle}" y="{foot}" text-anchor="middle">{x_label}</text>'
        '<text class="label" transform="translate(14 {height}) rotate(-90)" text-anchor="middle">{y_label}</text>'
    )
    return _joined(
        (
            *(rule.format(LEFT, right, LEFT - 8, y.at(v) + 4, y.label(v), at=y.at(v)) for v in y.ticks()),
            *(tick.format(bottom, bottom + 4, bottom + 17, x.label(v), at=x.at(v)) for v in x.ticks()),
            frame.format(
                left=LEFT,
                right=right,
                bottom=bottom,
                middle=(LEFT + right) / 2,
                foot=HEIGHT - 8,
                x_label=x_label,
                height=(TOP + bottom) / 2,
                y_label=y_label,
            ),
        )
    )


def _line(line: Series, x: _Axis, y: _Axis, colour: int) -> Markup:
    placed = [(x.at(a), y.at(b)) for a, b in line.points]
    parts = []
    if len(placed) > 1 and not line.dots:
        path = f"M{placed[0][0]:.1f} {placed[0][1]:.1f}"
        for a, b in placed[1:]:
            path += f"H{a:.1f}V{b:.1f}" if line.stairs else f"L{a:.1f} {b:.1f}"
        kind = "line dashed" if line.dashed else "line"
        parts.append(Markup('<path class="{}" style="stroke:var(--c{})" d="{}"/>').format(kind, colour, path))
    if line.dots or line.marks or len(placed) == 1:
        mark = Markup(
            '<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="4" style="--c:var(--c{})"><title>{}: {}, {}</title></circle>'
        )
        kind = "ring" if line.dots else "mark"
        parts += [
            mark.format(kind, a, b, colour, line.name, x.write(value_x), y.write(value_y))
            for (a, b), (value_x, value_y) in zip(placed, line.points, strict=True)
        ]
    return _joined(parts)


def _band(line: Series, x: _Axis, y: _Axis, colour: int) -> Markup:
    if not line.low:
        return Markup()
    over = [f"{x.at(point[0]):.1f} {y.at(value):.1f}" for point, value in zip(line.points, line.high, strict=True)]
    under = [f"{x.at(point[0]):.1f} {y.at(value):.1f}" for point, value in zip(line.points, line.low, strict=True)]
    path = "L".join(over + under[::-1])
    return Markup('<path class="band" style="fill:var(--c{})" d="M{}Z"/>').format(colour, path)


def _bars(chart: BarChart) -> DrawnChart:
    if not chart.bars:
        return DrawnChart("", Markup())
    ends = [end for bar in chart.bars for end in (bar.start, bar.value, bar.low, bar.high) if end is not None]
    ends += [] if chart.base is None else [chart.base]
    low, high = min(ends), max(ends)
    axis = _Axis(low, high if high > low else low + 1, BAR_NAMES, WIDTH - BAR_TEXTS)
    same = chart.one_colour or chart.base is not None
    parts = [_bar(bar, axis, TOP + i * BAR_ROW, 0 if same else i % COLOURS) for i, bar in enumerate(chart.bars)]
    height = TOP + BAR_ROW * len(chart.bars) + 26
    if chart.base is not None:
        line = Markup('<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{}" y2="{}"/>')
        parts.append(line.format(TOP - 4, height - 24, at=axis.at(chart.base)))
    parts.append(Markup('<text class="tick" x="{}" y="{}">{}</text>').format(BAR_NAMES, height - 8, chart.x_label))
    return DrawnChart("; ".join(f"{bar.name}: {bar.text}" for bar in chart.bars), _joined(parts), height)


def _bar(bar: Bar, axis: _Axis, top: float, colour: int) -> Markup:
    start, end = sorted((axis.at(bar.start), axis.at(bar.start if bar.value is None else bar.value)))
    whisker = Markup()
    reach = end
    if bar.low is not None and bar.high is not None:
        left, right = axis.at(bar.low), axis.at(bar.high)
        reach = max(end, right)
        whisker = Markup(
            '<path class="whisker" d="M{left:.1f} {over}V{under}M{left:.1f} {middle}H{right:.1f}'
            'M{right:.1f} {over}V{under}"/>'
        ).format(left=left, right=right, over=top + 7, middle=top + 12, under=top + 17)
    return Markup(
        '<text class="label" x="{}" y="{}" text-anchor="end">{}</text>'
        '<rect x="{:.1f}" y="{}" width="{:.1f}" height="18" rx="3" style="fill:var(--c{})"/>{}'
        '<text class="value" x="{:.1f}" y="{}">{}</text>'
    ).format(
        BAR_NAMES - 8, top + 16, bar.name,
        start, top + 3, max(end - start, 1), colour, whisker,
        reach + 6, top + 16, bar.text,
    )  # fmt: skip


def _reliability(chart: ReliabilityChart) -> DrawnChart:
    if not chart.bins:
        return DrawnChart("", Markup())
    x = _Axis(0.0, 1.0, LEFT, WIDTH - RIGHT, percent=True)
    y = _Axis(0.0, 1.0, HEIGHT - BOTTOM, TOP, percent=True)
    largest = max(n for _, _, n in chart.bins)
    diagonal = Markup('<path class="line dashed" style="stroke:var(--muted)" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>')
    mark = Markup(
        '<circle class="bin" cx="{:.1f}" cy="{:.1f}" r="{:.1f}">'
        "<title>confidence {:.0%}, correct {:.0%}, {} answers</title></circle>"
    )
    return DrawnChart(
        described="; ".join(f"confidence {c:.2f}: {share:.2f} correct of {n}" for c, share, n in chart.bins),
        body=_joined(
            (
                _grid(x, y, "stated confidence", "share correct"),
                diagonal.format(x.at(0), y.at(0), x.at(1), y.at(1)),
                *(
                    mark.format(x.at(c), y.at(share), 3 + 9 * math.sqrt(n / largest), c, share, n)
                    for c, share, n in chart.bins
                ),
            )
        ),
    )


def _joined(parts: Iterable[Markup]) -> Markup:
    return Markup().join(parts)
