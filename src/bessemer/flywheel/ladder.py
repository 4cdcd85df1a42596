"""A route's ladder: rungs fitted from feedback, scored on the same items, joined into the cheapest route that is safe.

Rungs are fitted on the training split. On the selection split their confidence is calibrated, the best single one is
chosen, and a path of thresholds is laid; on the calibration split the path is tested, which is one look at it. The
incumbent's recorded answers count where there are any, so that nobody pays for them twice.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bessemer.core.datasets import Dataset, Split
from bessemer.core.errors import Conflict, InvalidRequest
from bessemer.core.ladders import LadderResult
from bessemer.core.routes import CachePolicy, Route, Step, Target
from bessemer.core.wire import LadderRequest
from bessemer.engine.rungs import committee, embedding, linear, pairs, rules, spans
from bessemer.engine.rungs.head import HeadKind
from bessemer.engine.rungs.kinds import KINDS, MAJORITY
from bessemer.flywheel import rungs, standing
from bessemer.flywheel.evaluation import build_metric, item_hash, split_examples
from bessemer.flywheel.ladder_outcome import INCUMBENT, MODEL, LadderPlan, LadderSystem, ScoredSystem
from bessemer.flywheel.measuring import fitted_on, is_audited, measured_on
from bessemer.flywheel.services import FlywheelServices
from bessemer.flywheel.unseen import unseen
from bessemer.store import audit, looks
from bessemer.store import datasets as dataset_rows
from bessemer.store.looks import Look, Purpose

_TURN: Final = (MAJORITY, pairs.KIND, linear.KIND, embedding.KIND, rules.KIND, committee.KIND, *HeadKind)
"""In which kinds are fitted while there is time: what suits fewer tasks, and these best, first; its members before a
committee, those last that need a network.
"""


def _turn(kind: str) -> int:
    return _TURN.index(kind) if kind in _TURN else len(_TURN)


def _kinds(request: LadderRequest) -> tuple[str, ...]:
    """Return the kinds whose answers have the form that the metric reads."""
    if request.metric == "attributes":
        return (spans.KIND,)
    return tuple(sorted(KINDS.keys() - {spans.KIND}, key=_turn))


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
    if unknown := [kind for kind in request.rungs if kind not in KINDS]:
        raise InvalidRequest(f"There is no rung {unknown[0]!r}. Known: {', '.join(KINDS)}.", param="rungs")
    if not 1 <= request.attributes <= 1000:
        raise InvalidRequest("`attributes` must be from 1 to 1000.", param="attributes")
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
        return _only_target(request.incumbent, services)
    if not services.catalog.has_route(request.route):
        raise InvalidRequest(f"There is no route {request.route!r} yet: name the `incumbent`.", param="incumbent")
    last = services.catalog.route(request.route).steps[-1].targets
    if len(last) > 1:
        raise InvalidRequest(
            f"The route {request.route!r} asks several models in its last step: name the `incumbent`.",
            param="incumbent",
        )
    return last[0].model


def _only_target(name: str, services: FlywheelServices) -> str:
    """Return what a route asks that was named as the incumbent: a step of the new route asks models, not routes."""
    if not services.catalog.has_route(name):
        return name
    steps = services.catalog.route(name).steps
    if len(steps) > 1 or len(steps[0].targets) > 1:
        raise InvalidRequest(
            f"The route {name!r} asks several models: name the model or version that is to answer last.",
            param="incumbent",
        )
    return steps[0].targets[0].model


def _check_gated(request: LadderRequest, services: FlywheelServices) -> None:
    last = Target(model=incumbent(request, services))
    if found := standing.ungated(services, Route(name=request.route, steps=(Step(targets=(last,)),))):
        raise Conflict(f"{found[0]!r} has not passed a gate that counts: evaluate it first.", code="gate_missing")


def plan(services: FlywheelServices, request: LadderRequest) -> LadderPlan:
    """Load what a ladder works on. Raises InvalidRequest when the dataset cannot carry one."""
    dataset = check(request, services)
    last = incumbent(request, services)
    taught = split_examples(services, dataset, Split.TRAIN)
    train, audited = fitted_on(taught), [example for example in taught if is_audited(example)]
    others = (last, *request.models)
    asked = {split: split_examples(services, dataset, split) for split in (Split.SELECTION, Split.CALIBRATION)}
    kept = {split: unseen(services, others, examples, split) for split, examples in asked.items()}
    measured = measured_on((*kept[Split.CALIBRATION], *unseen(services, others, audited, Split.TRAIN)))
    labels = rungs.labels_of(train, request)
    return LadderPlan(
        request=request,
        dataset=dataset,
        labels=labels,
        kinds=tuple(request.rungs) or _kinds(request),
        train=train,
        optimise=measured_on(kept[Split.SELECTION]).examples,
        calibrate=measured.examples,
        weights=measured.weights,
        filter=measured.filter,
        metric=build_metric(request.metric, labels, request.positive, None, services.graders),
        incumbent=last,
        monitor=services.catalog.monitor_policy,
        left_out=sum(map(len, asked.values())) - sum(map(len, kept.values())),
        joined=tuple(LadderSystem(_kind(name, services), name) for name in request.models),
    )


def _kind(name: str, services: FlywheelServices) -> str:
    """Return what a model that joins is: a rung of an earlier ladder has the kind that it was fitted as."""
    if services.catalog.has_target(name):
        return rungs.kind_of(services.catalog.resolve(name).version) or MODEL
    return MODEL


def enter_look(services: FlywheelServices, job_id: str, plan: LadderPlan) -> int:
    """Enter the ladder in the ledger of looks at its calibration items, and return its number.

    It is one look, however many rungs there are: none of them is scored on these items, only their routes are tested.
    """
    look = Look(id=job_id, created_at=time.time(), purpose=Purpose.CASCADE, subject=plan.request.route)
    return looks.number(services.database, look, [item_hash(example) for example in plan.calibrate])


def promised(services: FlywheelServices, plan: LadderPlan) -> bool:
    """Return whether the route in force has a promise that was tested on the calibration items of this dataset."""
    route = plan.request.route
    promise = services.catalog.route(route).guarantee if services.catalog.has_route(route) else None
    return promise is not None and promise.dataset_sha256 == plan.dataset.sha256


def score(
    services: FlywheelServices,
    plan: LadderPlan,
    system: LadderSystem,
    folder: Path,
    count: Callable[[int, int], None],
    *,
    test: bool = True,
) -> ScoredSystem:
    """Ask a system every item that it has not answered yet; `test` False: of the selection split alone."""
    examples = (*plan.optimise, *(plan.calibrate if test else ()))
    known = rungs.recorded(services, system.target, examples) if system.kind == INCUMBENT else {}
    items = rungs.score_all(services, system.target, examples, plan.metric, folder, count, known, plan.confidence)
    return ScoredSystem(system, items[: len(plan.optimise)], items[len(plan.optimise) :])


def _route(request: LadderRequest, result: LadderResult, cache: CachePolicy | None) -> Route:
    return Route(
        name=request.route, steps=result.steps, guarantee=result.guarantee, monitor=result.monitor, cache=cache
    )


def apply(services: FlywheelServices, request: LadderRequest, result: LadderResult, job_id: str) -> None:
    """Put the proposed route into force if it is to be; a second time changes nothing."""
    if not result.applied:
        return
    _check_gated(request, services)  # an alias may have moved while the items were asked
    catalog, route = services.catalog, _route(request, result, services.catalog.kept_answers(request.route))
    if not catalog.has_route(route.name) or catalog.route(route.name) != route:
        with services.database.transaction():
            catalog.put_route(route, reason=f"ladder of {len(route.steps)} steps")
            audit.append(services.database, audit.SYSTEM, "route.updated", route.name, {"job": job_id})
