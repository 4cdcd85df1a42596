"""Markup has two sources: templates, which escape, and the one chart module."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (ROOT / "src", ROOT / "planner" / "src", ROOT / "lab")


def test_markup_is_made_by_the_chart_module_alone() -> None:
    made = re.compile(
        r"markupsafe|\bMarkup\b|html import escape|html\.escape|<(?:table|td|svg|div|p|h\d)\b[^>]*>|<!doctype"
    )
    found = {path.name for folder in SOURCES for path in folder.rglob("*.py") if made.search(path.read_text())}
    assert found == {"charts.py"}


def test_no_template_turns_escaping_off() -> None:
    templates = [path for folder in SOURCES for path in folder.rglob("templates/*") if path.suffix != ".css"]
    assert {"page.html", "plan.html", "turn.html", "chart.svg"} <= {path.name for path in templates}
    for path in templates:
        text = path.read_text()
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", text), path
        for attribute in re.findall(r"<\w+[^>]*=(?![\"'])[^>]*\{\{", re.sub(r"\{%.*?%\}", "", text)):
            raise AssertionError(f"{path}: an attribute without quotes: {attribute}")
