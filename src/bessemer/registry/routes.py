"""What a route must satisfy to answer every request, whoever is behind its targets."""

import math

from bessemer.core.errors import InvalidRequest
from bessemer.core.routes import Calibration, Route

LARGEST = 100
"""Targets of a route: each is looked up whenever the route changes."""


def check_steps(route: Route) -> None:
    """Raise InvalidRequest for a route that could end without an answer, or whose thresholds mean nothing."""
    if len(route.targets) > LARGEST:
        raise InvalidRequest(f"The route {route.name!r} has more than {LARGEST} targets.", param="targets")
    if not route.steps or not all(step.targets for step in route.steps):
        raise InvalidRequest(f"The route {route.name!r} needs a step, and each step a target.", param="steps")
    if route.steps[-1].threshold is not None:
        raise InvalidRequest(
            f"The last step of the route {route.name!r} has a threshold, so nothing answers when it refuses; add a "
            "step without one.",
            param="steps",
        )
    for step in route.steps:
        if step.threshold is not None and step.calibration is None:
            raise InvalidRequest(
                f"A step of the route {route.name!r} has a threshold but no calibration; `bessemer cascade run` makes "
                "both.",
                param="steps",
            )
        if step.calibration is not None:
            _check_calibration(step.calibration)


def _check_calibration(calibration: Calibration) -> None:
    x, y = calibration.x, calibration.y
    if not x or len(x) != len(y) or not all(map(math.isfinite, (*x, *y))):
        raise InvalidRequest("A calibration needs as many `y` as `x`, at least one, all finite.", param="calibration")
    if list(x) != sorted(x) or list(y) != sorted(y):
        raise InvalidRequest("A calibration's `x` and `y` must not fall.", param="calibration")
