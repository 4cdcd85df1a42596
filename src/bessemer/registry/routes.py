"""What a route must satisfy to answer every request, whoever is behind its targets."""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from bessemer.core.errors import BessemerError, InvalidRequest
from bessemer.core.models import ModelVersion
from bessemer.core.routes import Calibration, Route, Target

LARGEST = 100
"""Targets of a route: each is looked up whenever the route changes."""


class Meant(Protocol):
    """What a target means right now."""

    @property
    def version(self) -> ModelVersion:
        """Who answers."""


def void(route: Route, resolve: Callable[[str], Meant]) -> str | None:
    """Return why a route's guarantee does not hold now; None: it does, or there is none.

    It is about the versions that were measured, each with its own prompt, at the thresholds that were chosen. One of an
    earlier release does not name them.
    """
    promise, state = route.guarantee, route.fallback
    if promise is None:
        return None
    if state is not None and (state.incumbent_only or any(one.step for one in state.rungs.values())):
        return "an alarm has made the route step back"
    if not promise.versions:
        return None
    targets = (target for step in route.steps for target in step.targets)
    reasons = (_unmeasured(target, resolve, promise.versions) for target in targets)
    return next((reason for reason in reasons if reason is not None), None)


def _unmeasured(target: Target, resolve: Callable[[str], Meant], measured: Sequence[str]) -> str | None:
    try:
        version = resolve(target.model).version
    except BessemerError as error:
        return f"{target.model!r} cannot answer: {error.message}"
    if version.id not in measured:
        return f"{target.model!r} is {version.id} now, which was not measured"
    if target.prompt not in (None, version.prompt):
        return f"{target.model!r} is asked with another prompt than the one that was measured"
    return None


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
