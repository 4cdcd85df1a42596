"""The report page of a plan: one self-contained HTML file, no script, nothing fetched.

It prints what the plan holds and computes nothing but formatting; an unknown number is a dash.
"""

from bessemer_planner.pages import DASH, environment
from bessemer_planner.plan import Plan
from bessemer_planner.report import views

REFUSED = 20
"""Refused configurations on the page."""


def render(plan: Plan) -> str:
    """Return the page as HTML text."""
    made = environment("bessemer_planner.report", {"usd": usd, "label": views.label})
    return made.get_template("plan.html").render(plan=plan, views=views, refused=plan.refused[:REFUSED])


def usd(value: float | None) -> str:
    """Write dollars; unknown is a dash."""
    if value is None:
        return DASH
    sign = "-" if value < 0 else ""
    size = abs(value)
    for limit, unit in ((1e9, "B"), (1e6, "M")):
        if size >= limit:
            return f"{sign}${size / limit:,.2f}{unit}"
    return f"{sign}${size:,.0f}" if size >= 100 else f"{sign}${size:,.3g}"
