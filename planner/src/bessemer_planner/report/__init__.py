"""The report of a plan: one HTML page with charts, beside the plan's own JSON."""

from bessemer_planner.report.page import render
from bessemer_planner.report.write import write_plan

__all__ = ["render", "write_plan"]
