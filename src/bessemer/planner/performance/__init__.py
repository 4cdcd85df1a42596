"""How fast a deployment is: capacity, step times with intervals, steady state, evaluation, training time."""

from bessemer.planner.performance.capacity import Capacity, capacity
from bessemer.planner.performance.predict import NearestPoint, Performance, Prediction, Steady

__all__ = ["Capacity", "NearestPoint", "Performance", "Prediction", "Steady", "capacity"]
