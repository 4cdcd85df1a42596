"""The report page: self-contained, complete, and safe for any text."""

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from planner.tests.browser import in_browser, needs_chromium
from planner.tests.markup import PAYLOADS, Elements, poisoned

from bessemer_planner.economics import BreakEven
from bessemer_planner.errors import InputError
from bessemer_planner.plan import Plan, plan_json, read_plan
from bessemer_planner.report import render
from bessemer_planner.report.views import ownership_tornado

VOID = {"meta", "line", "circle", "rect", "path", "br"}


class Nesting(HTMLParser):
    """Checks that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(plan: Plan) -> str:
    return render(plan)


def test_the_page_needs_no_network(page: str) -> None:
    assert not re.findall(r"<(?:script|link|img|iframe|object|embed)\b", page)
    assert not re.findall(r"(?:src|href|url)\s*[=(]", page)
    assert "default-src 'none'" in page
    assert "@import" not in page


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_of_a_plan_becomes_markup(plan: Plan, page: str, payload: str) -> None:
    told = Elements(render(poisoned(plan, payload)))
    assert told.tags <= Elements(page).tags
    assert told.text.count(payload) > 100


def test_the_page_is_well_formed(page: str) -> None:
    parser = Nesting()
    parser.feed(page)
    assert parser.open == []
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|[a-z]+nan[a-z]*", "", page.lower())


@pytest.mark.parametrize(
    "title",
    ["throughput against latency", "Cost against the latency limit", "Break-even by utilisation", "Cumulative cash",
     "The fleet over a weekday", "What drives the cost", "Energy per output token", "Cost per token against traffic"],
)  # fmt: skip
def test_every_view_is_drawn(page: str, title: str) -> None:
    figure = re.search(rf"<figcaption>[^<]*{title}</figcaption>.*?</figure>", page, re.DOTALL)
    assert figure is not None
    assert "<path" in figure[0] or "<rect" in figure[0]


def test_numbers_are_labelled(page: str, plan: Plan) -> None:
    assert page.count(">chosen<") == sum(row.chosen for row in plan.configurations)
    assert re.search(r'badge">(predicted|extrapolated)<', page)
    if any(row.nearest for row in plan.configurations if row.chosen):
        assert 'badge">measured<' in page


def test_text_is_escaped(plan: Plan) -> None:
    workload = msgspec.structs.replace(plan.workload, name="<script>alert(1)</script>")
    assert "<script" not in render(msgspec.structs.replace(plan, workload=workload))


def test_costs_say_what_is_in_them(page: str) -> None:
    assert "per million output tokens, the purchases below alone" in page
    assert "per million output tokens, all costs" in page


def test_the_present_cost_of_the_recommended_way_is_drawn(plan: Plan) -> None:
    ways = []
    for owner, share in zip(plan.ownership, (None, 0.2, 0.9), strict=True):
        money = owner.money or plan.ownership[0].money
        assert money is not None
        even = None if share is None else BreakEven(month=12.0, utilisation=0.5, cheaper_probability=share)
        money = msgspec.structs.replace(money, break_even=even)
        ways.append(msgspec.structs.replace(owner, feasible=True, money=money))
    told = msgspec.structs.replace(plan, ownership=tuple(ways))
    drawn = ownership_tornado(told)
    assert drawn is not None
    assert drawn.title == "What drives the present cost: own data centre"
    barred = tuple(msgspec.structs.replace(one, feasible=False) for one in ways)
    assert ownership_tornado(msgspec.structs.replace(plan, ownership=barred)) is None


def test_a_year_is_one_and_an_unknown_version_is_said(plan: Plan) -> None:
    time = msgspec.structs.replace(plan.workload.time, horizon_months=12)
    workload = msgspec.structs.replace(plan.workload, time=time)
    rows = tuple(
        msgspec.structs.replace(
            row, nearest=tuple(msgspec.structs.replace(near, engine_version="") for near in row.nearest)
        )
        for row in plan.configurations
    )
    page = render(msgspec.structs.replace(plan, workload=workload, configurations=rows))
    assert "public cloud, 1 year<" in page
    assert "1 years" not in page
    assert "vllm (version unknown), " in page
    assert "vllm ," not in page


def test_a_plan_is_read_back_as_it_was_and_gives_the_same_page(plan: Plan, page: str) -> None:
    kept = msgspec.json.encode({"id": "plan-1", "object": "plan", **msgspec.json.decode(plan_json(plan))})
    assert msgspec.json.decode(plan_json(read_plan(kept))) == msgspec.json.decode(plan_json(plan))
    assert render(read_plan(kept)) == page
    for other in (b"{}", b"[]", b"{", plan_json(plan).replace(b'"fleet"', b'"flete"')):
        with pytest.raises(InputError, match="no plan of this release"):
            read_plan(other)


@needs_chromium
def test_a_browser_shows_the_page_and_complains_of_nothing(plan: Plan, page: str, tmp_path: Path) -> None:
    (tmp_path / "plan.html").write_text(page)
    shown = in_browser(tmp_path / "plan.html", tmp_path)
    assert shown.complaints == []
    assert plan.recommendation in shown.elements.text
    assert ("figure",) in shown.elements.tags


@needs_chromium
def test_a_browser_runs_no_script_of_a_page_and_says_so(page: str, tmp_path: Path) -> None:
    (tmp_path / "plan.html").write_text(page.replace("<main>", "<main><script>document.title = 'ran'</script>"))
    shown = in_browser(tmp_path / "plan.html", tmp_path)
    assert ["Content Security Policy" in complaint for complaint in shown.complaints] == [True]
