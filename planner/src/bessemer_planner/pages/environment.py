"""Jinja2 as every page uses it: everything is escaped, and a name that is not there is an error.

A page's template extends `page.html`, which brings the stylesheet and a policy that forbids scripts and fetching.
"""

from collections.abc import Callable, Mapping

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from bessemer_planner.pages.charts import LEFT, WIDTH, LineChart, draw, drawing

DASH = "–"
"""What a page shows where a value is unknown."""


def environment(package: str = __package__, filters: Mapping[str, Callable[..., str]] | None = None) -> Environment:
    """Return what renders the templates of a package's `templates` folder; the names of the base's come first.

    `filters` write values as text; whatever they return is escaped. `draw` is the one filter that makes markup.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader(__package__), PackageLoader(package)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["dash"] = DASH
    made.filters.update(filters or {}, draw=draw)
    return made


def image(chart: LineChart) -> str:
    """Return a chart as an SVG file by itself, for a page that is not ours: its legend is inside, and its colours."""
    template = environment().get_template("chart.svg")
    return template.render(chart=chart, drawing=drawing(chart), width=WIDTH, left=LEFT) + "\n"
