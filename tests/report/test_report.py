"""The report page: complete, honest about what is unknown, self-contained, and drawn by a real browser."""

import re
from html.parser import HTMLParser

import msgspec
import pytest
from planner.tests.browser import in_browser, needs_chromium
from planner.tests.markup import PAYLOADS, Elements, poisoned

from bessemer.core.evaluations import GateResult
from bessemer.core.routes import Guarantee
from bessemer.core.types import Interval
from bessemer.flywheel.report import Report, SystemRow, Tile, percent, render, usd
from bessemer_planner.pages import LineChart, Series

VOID = {"meta", "br", "img", "link"}


def interval(value, spread=0.03):
    return Interval(value=value, low=value - spread, high=value + spread)


def sample() -> Report:
    steps = tuple(range(0, 121, 4))
    return Report(
        title="One turn of the flywheel",
        summary="600 held-out requests, seed 0, commit abc1234, 2 cores.",
        metric="F1",
        tiles=(
            Tile(value="97 % cheaper", text="per request than the incumbent"),
            Tile(value="+38.2 points", text="F1 against the incumbent"),
            Tile(value="94 %", text="answered by the small model"),
        ),
        systems=(
            SystemRow(name="base", n=600, score=interval(0.41), cost_per_1k_usd=0.0051, input_tokens=91),
            SystemRow(
                name="incumbent <ten-shot>", n=600, score=interval(0.52), cost_per_1k_usd=0.22, label="recorded",
                input_tokens=1190, output_tokens=1, latency_p50_s=0.41,
            ),
            SystemRow(
                name="tuned", n=600, score=interval(0.9), cost_per_1k_usd=0.0051, version="smollm2-135m@0123456789ab",
                input_tokens=91, output_tokens=1, latency_p50_s=0.031, small_share=1.0,
            ),
            SystemRow(name="cascade", n=600, score=None, cost_per_1k_usd=None, small_share=0.94, unscorable=600),
        ),
        curves=(
            LineChart(
                title="Loss", x_label="step", y_label="loss",
                series=(Series(name="loss", points=tuple((s, 0.7 / (1 + s / 20)) for s in steps)),),
            ),
            LineChart(
                title="Mean reward", x_label="step", y_label="reward", y_percent=True,
                series=(
                    Series(name="training", points=tuple((s, 0.5 + 0.4 * s / 120) for s in steps)),
                    Series(name="selection split", points=((0, 0.5), (60, 0.7), (120, 0.88)), marks=True),
                ),
            ),
        ),
        quality_curve=LineChart(
            title="Quality against escalated share", x_label="escalated to the incumbent", y_label="F1",
            x_percent=True, y_percent=True,
            series=(
                Series(
                    name="cascade", points=tuple((i / 20, 0.9 - 0.38 * (i / 20) ** 2) for i in range(21)),
                    low=tuple(0.87 - 0.38 * (i / 20) ** 2 for i in range(21)),
                    high=tuple(0.93 - 0.38 * (i / 20) ** 2 for i in range(21)),
                ),
                Series(name="incumbent", points=((0, 0.52), (1, 0.52)), dashed=True),
            ),
        ),
        reliability=((0.55, 0.52, 30), (0.7, 0.66, 41), (0.85, 0.88, 77), (0.97, 0.98, 290)),
        calibration_note="438 answers of the threshold half; ECE 0.021.",
        gate=GateResult(
            passed=True, rule="The lower 95 % bound of F1(tuned) - F1(incumbent) is at least -2 points.",
            difference=interval(0.38), margin=0.02,
        ),
        gate_note="",
        guarantee=Guarantee(
            metric="accuracy", method="Learn then Test, Hoeffding-Bentkus", alpha=0.02, delta=0.1, n=219,
            dataset_sha256="f" * 64, statement="With probability at least 90 % the cascade loses at most 2 points.",
        ),
        guarantee_note="",
        lineage=(("base", "smollm2-135m"), ("dataset", "f" * 64), ("seed", "0"), ("grader", '{"type":"feedback"}')),
        steps=(("traffic", "1,200 requests answered", 41.2), ("fine-tuning", "120 steps", 330.0)),
        notes=("Feedback is simulated: the generator's own labels stand in for people.",),
    )  # fmt: skip


class Balanced(HTMLParser):
    """Fails on a tag that is closed wrongly."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_self_contained():
    page = render(sample())
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert not re.search(r"(src|href)=|@import|url\(|<script", page)
    assert "prefers-color-scheme:dark" in page


def test_the_page_says_what_was_measured_and_labels_what_was_not():
    page = render(sample())
    for text in (
        "90.0 %", "87.0 % to 93.0 %", "recorded", "unscorable", "incumbent &lt;ten-shot&gt;", "Passed.",
        "at least -2 points", "loses at most 2 points", "Hoeffding-Bentkus", "f" * 64, "simulated",
    ):  # fmt: skip
        assert text in page, text
    assert "None" not in page


def test_without_gate_and_guarantee_the_page_says_so():
    bare = msgspec.structs.replace(
        sample(), gate=None, gate_note="No gate was run.", guarantee=None, guarantee_note="Nothing was certified.",
        quality_curve=None, reliability=(), curves=(), notes=(),
    )  # fmt: skip
    page = render(bare)
    assert "No gate was run." in page
    assert "Nothing was certified." in page


def test_a_gate_whose_metric_is_undefined_says_only_its_margin():
    gate = msgspec.structs.replace(sample().gate, passed=False, difference=None, rule="Undefined: failed.")
    page = render(msgspec.structs.replace(sample(), gate=gate))
    assert "Undefined: failed." in page
    assert "Measured difference" not in page


def test_numbers_are_written_for_people():
    assert [usd(v) for v in (None, 0.0, 0.0051, 0.00000312, 64.4, 1234.5)] == [
        "–", "$0", "$0.0051", "$3.1e-06", "$64.40", "$1,234.50",
    ]  # fmt: skip
    assert percent(None) == "–"
    assert percent(0.6389) == "63.9 %"


@needs_chromium
def test_a_browser_shows_the_page_and_complains_of_nothing(tmp_path):
    page = tmp_path / "report.html"
    page.write_text(render(sample()))
    shown = in_browser(page, tmp_path)
    assert shown.complaints == []
    assert "incumbent <ten-shot>" in shown.elements.text
    assert ("figure",) in shown.elements.tags


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_of_a_report_becomes_markup(payload: str) -> None:
    page = render(poisoned(sample(), payload))
    told = Elements(page)
    assert told.tags <= Elements(render(sample())).tags
    assert told.text.count(payload) > 30
    assert "default-src 'none'" in page
