"""A page of somebody else's package: its own template on the base, charts of the one module, everything escaped."""

import importlib
from pathlib import Path

import jinja2
import pytest
from planner.tests.markup import PAYLOADS, Elements

from bessemer_planner.pages import environment

DAYS = {"small": (0.5, 1.25), "large": (20.0, 1000.0)}


@pytest.fixture
def spend_page(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("spend_page")


def test_it_has_the_style_the_policy_its_numbers_and_its_chart(spend_page) -> None:
    page = spend_page.render("Spending", DAYS)
    assert page.startswith("<!doctype html>")
    assert "default-src 'none'" in page
    assert "prefers-color-scheme:dark" in page
    told = Elements(page)
    assert "$1.75" in told.text
    assert "$1,020.00" in told.text
    assert "large: from 20 to 1,000" in told.text
    assert ("figure",) in told.tags


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_it_is_told_stays_text(spend_page, payload: str) -> None:
    told = Elements(spend_page.render(payload, {payload: (1.0, 2.0), "b": (1.0, 3.0)}))
    assert told.tags <= Elements(spend_page.render("Spending", DAYS)).tags
    assert told.text.count(payload) >= 4


def test_a_name_that_a_template_is_not_given_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="nothing"):
        environment().from_string("{{ nothing }}").render()


@pytest.mark.parametrize("text", ["<b>", "</style>"])
def test_a_filter_cannot_make_markup(text: str) -> None:
    made = environment(filters={"bad": lambda value: text})
    assert text not in made.from_string("{{ 1 | bad }}").render()
