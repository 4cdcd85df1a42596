"""The report of a plan: one HTML page with charts, beside the plan's own JSON."""

from bessemer.planner.report.page import render

__all__ = ["render"]
