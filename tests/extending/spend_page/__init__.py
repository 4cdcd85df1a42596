"""A page of somebody else's package: what each model cost, served at GET /v1/spend."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence

from starlette.types import ASGIApp

from bessemer.core.access import Action
from bessemer.http.edge import Call, PageResponse
from bessemer.http.routing import Endpoint
from bessemer.store import usage
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


async def spend(call: Call) -> ASGIApp:
    """GET /v1/spend: what each version has cost so far, as a page."""
    spent: dict[str, list[float]] = defaultdict(list)
    for row in await asyncio.to_thread(usage.find, call.database):
        spent[row.version or "no model"].append(row.cost_usd or 0.0)
    return PageResponse(render("Spending", spent))


SPEND = Endpoint("GET", "/v1/spend", spend, Action.OBJECT_VIEW, "text/html")
