"""How fast a deployment is: capacity, step times with intervals, steady state, evaluation, training time."""

from bessemer_planner.performance.capacity import Capacity, capacity
from bessemer_planner.performance.evaluate import PredictionErrors, evaluate, evaluate_held_out
from bessemer_planner.performance.nearest import NearestPoint
from bessemer_planner.performance.predict import Performance, ReplicaPrediction, Steady

__all__ = [
    "Capacity",
    "NearestPoint",
    "Performance",
    "PredictionErrors",
    "ReplicaPrediction",
    "Steady",
    "capacity",
    "evaluate",
    "evaluate_held_out",
]
