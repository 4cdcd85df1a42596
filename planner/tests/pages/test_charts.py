"""Charts: well-formed SVG whose marks lie inside the frame, in data order, with text for screen readers."""

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer_planner.pages import (
    Bar,
    BarChart,
    LineChart,
    ReliabilityChart,
    Series,
    charts,
    draw,
    image,
    plain_number,
    short_number,
)

numbers = st.floats(-1e6, 1e6, allow_nan=False)


def parsed(html):
    return ElementTree.fromstring(f"<div>{html}</div>")


def of(series, **options):
    return LineChart(title="T & <t>", x_label="x", y_label="y", series=tuple(series), **options)


@given(numbers, st.floats(1e-3, 1e6), st.integers(2, 8))
def test_ticks_are_round_ascending_and_inside(low, span, count):
    ticks = charts.ticks(low, low + span, count)
    assert ticks == sorted(ticks)
    assert len(ticks) <= 2 * count + 2
    tolerance = 1e-6 * max(abs(low), span)
    assert all(low - tolerance <= tick <= low + span + tolerance for tick in ticks)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=30))
@settings(max_examples=50)
def test_lines_stay_in_the_frame(points):
    html = draw(of([Series(name="s<1>", points=tuple(sorted(points)), marks=True)]))
    parsed(html)
    for x, y in re.findall(r'cx="([-\d.]+)" cy="([-\d.]+)"', html):
        assert charts.LEFT - 0.1 <= float(x) <= charts.WIDTH - charts.RIGHT + 0.1
        assert charts.TOP - 0.1 <= float(y) <= charts.HEIGHT - charts.BOTTOM + 0.1


def test_a_line_chart_names_its_lines_and_draws_bands():
    rising = Series(name="reward", points=((0, 0.1), (1, 0.9)), low=(0.0, 0.8), high=(0.2, 1.0))
    html = draw(of([rising, Series(name="bound", points=((0, 0.5), (1, 0.5)), dashed=True)]))
    tree = parsed(html)
    text = "".join(tree.itertext())
    assert "reward" in text
    assert "from 0.1 to 0.9" in text
    assert html.count('class="band"') == 1
    assert "dashed" in html


def test_no_data_is_said_not_drawn():
    assert "no data" in draw(of([]))
    assert "no data" in draw(of([Series("b", ())]))
    assert "no data" in draw(BarChart("t", "u", ()))
    assert "no data" in draw(ReliabilityChart("R", ()))


@given(st.lists(st.one_of(st.none(), st.floats(1e-6, 1e3)), min_size=1, max_size=6))
@settings(max_examples=50)
def test_bars_are_ordered_by_value_and_unknown_ones_have_no_length(values):
    bars = tuple(Bar(name=str(i), value=value, text="t") for i, value in enumerate(values))
    html = draw(BarChart(title="b", x_label="USD", bars=bars))
    parsed(html)
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', html)]
    assert len(widths) == len(values)
    assert all(math.isfinite(width) and width <= charts.WIDTH for width in widths)
    known = sorted((value, width) for value, width in zip(values, widths, strict=True) if value is not None)
    assert [w for _, w in known] == sorted(w for _, w in known)
    assert all(width == 1 for value, width in zip(values, widths, strict=True) if value is None)


def test_lengths_compare_as_numbers_do_and_intervals_are_drawn():
    bars = (Bar(name="a", value=0.76, text="a"), Bar(name="b", value=0.01, text="b", low=0.005, high=0.02))
    html = draw(BarChart(title="b", x_label="USD", bars=bars))
    first, second = (float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', html))
    assert first / second == pytest.approx(76, rel=0.05)
    assert html.count('class="whisker"') == 1


def test_reliability_shows_every_bin():
    html = draw(ReliabilityChart("R", ((0.6, 0.5, 10), (0.9, 0.95, 90)), "n = 100"))
    parsed(html)
    assert html.count('class="bin"') == 2
    assert "confidence 90%, correct 95%, 90 answers" in html


def test_values_that_an_axis_cannot_show_are_left_out():
    lines = (Series("a", ((0.0, 1.0), (float("nan"), 2.0), (3.0, float("inf")), (4.0, -1.0))), Series("b", ()))
    assert draw(of(lines, x_log=True)).count("<circle") == 1
    assert "no data" in draw(of([Series("a", ((-1.0, 1.0), (0.0, 2.0)))], x_log=True))


def test_stairs_rings_and_bands_of_logarithmic_axes_lie_in_the_frame():
    steps = Series("steps", ((1.0, 1.0), (10.0, 100.0)), low=(0.5, 50.0), high=(2.0, 200.0), stairs=True)
    html = draw(of([steps, Series("measured", ((3.0, 7.0),), dots=True)], x_log=True, y_log=True, short=True))
    parsed(html)
    assert re.search(r'class="line" [^>]*d="M[\d.]+ [\d.]+H[\d.]+V[\d.]+"', html)
    assert html.count('class="ring"') == 1
    assert "measured: 3, 7" in html


def test_a_tornado_has_its_base_and_bars_between_their_ends():
    bars = (Bar("price", 120.0, "1 to 3", start=80.0), Bar("load", 90.0, "10 to 20", start=110.0))
    html = draw(BarChart("t", "USD", bars, base=100.0))
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', html)]
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.01)
    assert html.count('class="axis"') == 1
    assert "<svg" in draw(BarChart("t", "u", (Bar("a", 1.0, "1", start=1.0),)))


def test_every_text_of_every_chart_is_escaped():
    bad = "<img src=x onerror=alert(1)>\"'</svg>"
    line = Series(bad, ((0, 1), (1, 2)), marks=True)
    drawn = (
        LineChart(bad, bad, bad, (line, line), note=bad),
        BarChart(bad, bad, (Bar(bad, 1.0, bad),), note=bad),
        ReliabilityChart(bad, ((0.5, 0.5, 3),), note=bad),
        LineChart(bad, bad, bad, ()),
    )
    for html in (*map(draw, drawn), image(drawn[0])):
        ElementTree.fromstring(f"<div>{html}</div>")
        assert "onerror" in html
        assert "<img" not in html


def test_a_chart_alone_is_an_svg_file_with_its_legend_and_colours():
    series = (Series(name="a", points=((0, 0.1), (1, 0.9))), Series(name="b", points=((0, 0.5), (1, 0.5))))
    tree = ElementTree.fromstring(image(of(series)))
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [node.text for node in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[:2] == ["a", "b"]
    assert "--c0" in image(of(series))


def test_numbers_are_short_or_plain():
    assert [short_number(value) for value in (999.6, 999_600.0, -999.6, 999.4)] == ["1k", "1M", "-1k", "999"]
    assert [short_number(value) for value in (0, 0.01234, 12.3456, 1234, 5.6e6, 7e9)] == [
        "0", "0.0123", "12.3", "1.23k", "5.6M", "7G",
    ]  # fmt: skip
    assert [plain_number(value) for value in (0, 0.012346, 12.3456, 1234.5)] == ["0", "0.01235", "12.35", "1,234"]
