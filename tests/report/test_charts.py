"""Charts: well-formed SVG whose marks lie inside the frame, in data order, with text for screen readers."""

import math
import re
from xml.etree import ElementTree

import pytest
from bessemer.flywheel.charts import Bar, BarChart, LineChart, Series
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.flywheel import charts

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
    html = charts.line_chart(of([Series(name="s<1>", points=tuple(sorted(points)), marks=True)]))
    parsed(html)
    for x, y in re.findall(r'cx="([-\d.]+)" cy="([-\d.]+)"', html):
        assert charts.LEFT - 0.1 <= float(x) <= charts.WIDTH - charts.RIGHT + 0.1
        assert charts.TOP - 0.1 <= float(y) <= charts.HEIGHT - charts.BOTTOM + 0.1


def test_a_line_chart_names_its_lines_and_draws_bands():
    rising = Series(name="reward", points=((0, 0.1), (1, 0.9)), low=(0.0, 0.8), high=(0.2, 1.0))
    html = charts.line_chart(of([rising, Series(name="bound", points=((0, 0.5), (1, 0.5)), dashed=True)]))
    tree = parsed(html)
    text = "".join(tree.itertext())
    assert "reward" in text
    assert "from 0.1 to 0.9" in text
    assert html.count('class="band"') == 1
    assert "dashed" in html


def test_no_data_is_said_not_drawn():
    assert "no data" in charts.line_chart(of([]))
    assert "no data" in charts.reliability_chart("R", ())


@given(st.lists(st.one_of(st.none(), st.floats(1e-6, 1e3)), min_size=1, max_size=6))
@settings(max_examples=50)
def test_bars_are_ordered_by_value_and_unknown_ones_have_no_length(values):
    bars = tuple(Bar(name=str(i), value=value, text="t") for i, value in enumerate(values))
    html = charts.bar_chart(BarChart(title="b", x_label="USD", bars=bars))
    parsed(html)
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', html)]
    assert len(widths) == len(values)
    assert all(math.isfinite(width) and width <= charts.WIDTH for width in widths)
    known = sorted((value, width) for value, width in zip(values, widths, strict=True) if value is not None)
    assert [w for _, w in known] == sorted(w for _, w in known)
    assert all(width == 1 for value, width in zip(values, widths, strict=True) if value is None)


def test_lengths_compare_as_numbers_do_and_intervals_are_drawn():
    bars = (Bar(name="a", value=0.76, text="a"), Bar(name="b", value=0.01, text="b", low=0.005, high=0.02))
    html = charts.bar_chart(BarChart(title="b", x_label="USD", bars=bars))
    first, second = (float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', html))
    assert first / second == pytest.approx(76, rel=0.05)
    assert html.count('class="whisker"') == 1


def test_reliability_shows_every_bin():
    html = charts.reliability_chart("R", ((0.6, 0.5, 10), (0.9, 0.95, 90)), "n = 100")
    parsed(html)
    assert html.count('class="bin"') == 2
    assert "confidence 90%, correct 95%, 90 answers" in html
