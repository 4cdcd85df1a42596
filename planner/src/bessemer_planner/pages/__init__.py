"""What every page is made of: charts, one stylesheet, one base template. It knows nothing of plans or evaluations."""

from bessemer_planner.pages.charts import (
    Bar,
    BarChart,
    LineChart,
    ReliabilityChart,
    Series,
    draw,
    plain_number,
    short_number,
    ticks,
)
from bessemer_planner.pages.environment import DASH, environment, image

__all__ = [
    "DASH",
    "Bar",
    "BarChart",
    "LineChart",
    "ReliabilityChart",
    "Series",
    "draw",
    "environment",
    "image",
    "plain_number",
    "short_number",
    "ticks",
]
