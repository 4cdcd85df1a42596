"""A page of somebody else's package: what each model cost, day by day."""

from collections.abc import Mapping, Sequence

from bessemer_planner.pages import LineChart, Series, environment


def usd(value: float) -> str:
    """Write dollars."""
    return f"${value:,.2f}"


def render(title: str, days: Mapping[str, Sequence[float]]) -> str:
    """Return the page of each model's dollars by day."""
    lines = tuple(Series(model, tuple(enumerate(spent, 1))) for model, spent in days.items())
    chart = LineChart("Dollars by day", "day", "USD", lines)
    template = environment(__package__, {"usd": usd}).get_template("spend.html")
    return template.render(title=title, days=days, chart=chart)
