"""Plans: from a workload and a catalogue to a recommendation with intervals and sources."""

from bessemer_planner.plan.encode import plan_json, read_plan
from bessemer_planner.plan.make import make_plan
from bessemer_planner.plan.summary import recommended
from bessemer_planner.plan.types import Basis, ConfigurationRow, Fleet, Plan

__all__ = ["Basis", "ConfigurationRow", "Fleet", "Plan", "make_plan", "plan_json", "read_plan", "recommended"]
