"""Workloads: what is to be served, declared in a file or measured from traffic."""

from bessemer_planner.workload.read import check_workload, convert_workload, parse_workload, read_workload
from bessemer_planner.workload.traces import Measured, Recorded, measure, read_trace, recorded
from bessemer_planner.workload.types import (
    Cascade,
    FleetLimits,
    LatencyLimits,
    Lengths,
    ModelUse,
    Money,
    Sovereignty,
    Time,
    Traffic,
    Tuning,
    Workload,
)

__all__ = [
    "Cascade",
    "FleetLimits",
    "LatencyLimits",
    "Lengths",
    "Measured",
    "ModelUse",
    "Money",
    "Recorded",
    "Sovereignty",
    "Time",
    "Traffic",
    "Tuning",
    "Workload",
    "check_workload",
    "convert_workload",
    "measure",
    "parse_workload",
    "read_trace",
    "read_workload",
    "recorded",
]
