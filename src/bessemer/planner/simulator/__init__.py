"""Request-level simulation of a serving cluster: discrete events, exact to the engine step."""

from bessemer.planner.simulator.simulate import simulate
from bessemer.planner.simulator.types import (
    Autoscaler,
    Cascade,
    Cluster,
    Failures,
    Handoff,
    Pool,
    PrefixBlocks,
    Requests,
    Router,
    ScalePoint,
    SimulationResult,
    TuningJob,
)

__all__ = [
    "Autoscaler",
    "Cascade",
    "Cluster",
    "Failures",
    "Handoff",
    "Pool",
    "PrefixBlocks",
    "Requests",
    "Router",
    "ScalePoint",
    "SimulationResult",
    "TuningJob",
    "simulate",
]
