"""A route's ladder: rungs fitted from feedback, scored on the same items, joined into the cheapest route that is safe.

Rungs are fitted on the training split. On the selection split their confidence is calibrated, the best single one is
chosen, and a path of thresholds is laid; on the calibration split the path is tested, which is one look at it. The
incumbent's recorded answers count where there are any, so that nobody pays for them twice.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from bessemer.core.errors import Conflict, InvalidRequest
from bessemer.core.evaluations import EvaluationRow
from bessemer.core.types import Calibration, Dataset, Example, Frozen, Guarantee, Interval, Route, Split, Step, Target
from bessemer.core.wire import LadderRequest
from bessemer.evals.runs import ItemScore, summarise
from bessemer.flywheel import rungs, standing
from bessemer.flywheel.evaluation import build_metric, item_hash, split_examples
from bessemer.flywheel.rungs import FittedRung
from bessemer.flywheel.services import FlywheelServices
from bessemer.ladder.kinds import FITS
from bessemer.store import audit, looks
from bessemer.store import datasets as dataset_rows
from bessemer.store.looks import Look, Purpose


class RungRow(Frozen, frozen=True):
    """One rung, scored on the calibration split."""

    kind: str
    """Of the fit; `model` for one that was there, `incumbent` for the last."""
    version: str | None
    quality: Interval | None
    n: int
    usd_per_1k: float | None
    ms: float | None
    """Median of its answers' milliseconds, the gateway included; None where they were recorded earlier."""
    fit_s: float | None
    ece: float | None
    """Expected calibration error of its confidence."""
    skipped: str | None = None


class LadderPoint(Frozen, frozen=True):
    """One vector of thresholds on the path that was tested."""

    thresholds: tuple[float, ...]
    usd_per_1k: float | None
    risk: float
    p_value: float | None


class LadderResult(Frozen, frozen=True):
    """What was fitted, measured and decided."""

    route: str
    incumbent: str
    rungs: tuple[RungRow, ...]
    best_single: str | None
    """The cheapest version of at least the quality that was asked for."""
    steps: tuple[Step, ...]
    """Of the route that is proposed; none: nothing was certified."""
    shares: tuple[float, ...]
    """Part of the calibration items that each step answers."""
    usd_per_1k: float | None
    """Of the proposed route."""
    guarantee: Guarantee | None
    curve: tuple[LadderPoint, ...]
    look: int
    delta_spent: float
    summary: str
    seconds: float
    applied: bool


def check(request: LadderRequest, services: FlywheelServices) -> Dataset:
    """Refuse a request that cannot run, naming the field. Returns the dataset."""
    policy = services.catalog.gate_policy
    if not 0 < request.delta < 1:
        raise InvalidRequest("`delta` must lie between 0 and 1.", param="delta")
    if not 0 <= request.alpha < 1:
        raise InvalidRequest("`alpha` must be at least 0 and below 1.", param="alpha")
    if request.activate and request.alpha > policy.max_margin:
        raise InvalidRequest(
            f"`alpha` is what the route may lose: at most {policy.max_margin:g} here (the operator's [gate] "
            "max_margin); with `activate` false any is tried.",
            param="alpha",
        )
    if not 1 <= request.seconds <= 86_400:
        raise InvalidRequest("`seconds` must be from 1 to 86400.", param="seconds")
    known = {fit.kind for fit in FITS}
    if unknown := [kind for kind in request.rungs if kind not in known]:
        raise InvalidRequest(
            f"There is no rung {unknown[0]!r}. Known: {', '.join(sorted(known))}.", param="rungs"
        )
    if request.metric == "f1" and request.positive is None:
        raise InvalidRequest("The metric 'f1' needs `positive`, the label that counts as positive.", param="positive")
    for name in (incumbent(request, services), *request.models):
        services.check_may_ask(name)
        services.catalog.route_or_target(name)
    if request.activate:
        _check_gated(request, services)
    return dataset_rows.get(services.database, request.dataset)


def incumbent(request: LadderRequest, services: FlywheelServices) -> str:
    """Return who answers last: the one that is named, else the last step of the route as it is.

    Raises InvalidRequest where there is neither.
    """
    if request.incumbent is not None:
        return request.incumbent
    if not services.catalog.has_route(request.route):
        raise InvalidRequest(f"There is no route {request.route!r} yet: name the `incumbent`.", param="incumbent")
    last = services.catalog.route(request.route).steps[-1].targets
    if len(last) > 1:
        raise InvalidRequest(
            f"The route {request.route!r} asks several models in its last step: name the `incumbent`.",
            param="incumbent",
        )
    return last[0].model


def _check_gated(request: LadderRequest, services: FlywheelServices) -> None:
    last = Target(model=incumbent(request, services))
    if found := standing.ungated(services, Route(name=request.route, steps=(Step(targets=(last,)),))):
        raise Conflict(f"{found[0]!r} has not passed a gate that counts: evaluate it first.", code="gate_missing")



class Scored(Frozen, frozen=True):
    """A system's answers on the selection and the calibration items, in their order."""

    kind: str
    target: str
    version: str | None
    optimise: tuple[ItemScore, ...]
    calibrate: tuple[ItemScore, ...]
