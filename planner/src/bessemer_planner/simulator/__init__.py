"""Request-level simulation of a serving cluster: discrete events, exact to the engine step."""

from bessemer_planner.simulator.simulate import simulate
from bessemer_planner.simulator.types import (
    Autoscaler,
    Cluster,
    Escalation,
    Failures,
    Handoff,
    Pool,
    PrefixBlocks,
    Requests,
    Router,
    ScalePoint,
    SimulationResult,
)
from bessemer_planner.simulator.variants import BF16_KV, EAGLE3, FP8_KV, MTP, Variant, with_variant

__all__ = [
    "BF16_KV",
    "EAGLE3",
    "FP8_KV",
    "MTP",
    "Autoscaler",
    "Cluster",
    "Escalation",
    "Failures",
    "Handoff",
    "Pool",
    "PrefixBlocks",
    "Requests",
    "Router",
    "ScalePoint",
    "SimulationResult",
    "Variant",
    "simulate",
    "with_variant",
]
