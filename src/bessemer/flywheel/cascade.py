"""Cascade: a small version answers and hands over to a large one when it is not sure enough.

The raw confidence is mapped to P(correct) on the selection split, the threshold is chosen by
distribution-free risk control on the whole calibration split, which neither training nor selection has seen. The map
may be optimistic, because checkpoint and bias were chosen on its items: it only ranks, and the guarantee does not rest
on it. Where there is no selection split, the calibration split is cut in two by hash, one half for each.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from bessemer.core.datasets import Dataset, Example, Split
from bessemer.core.errors import Conflict, InvalidRequest
from bessemer.core.evaluations import CascadePoint, CascadeResult
from bessemer.core.routes import CachePolicy, ConfidenceScore, Guarantee, Route, Step, Target
from bessemer.core.wire import CascadeRequest, MetricName
from bessemer.evals import calibration, metrics
from bessemer.evals.confidence import fit_confidence
from bessemer.evals.guarantee import Population, certify
from bessemer.evals.measures import Metric
from bessemer.evals.metrics import ItemTerms, Terms, Unknown, mean_terms
from bessemer.evals.outcomes import Outcomes
from bessemer.evals.paired import spent
from bessemer.evals.risk import F1Loss, KeptError, Loss
from bessemer.evals.runs import for_each
from bessemer.evals.thresholds import ThresholdPlan, grid_for_error, grid_from, halves, nested
from bessemer.flywheel import standing
from bessemer.flywheel.cascade_items import (
    ConfidenceItems,
    GradedAnswer,
    ItemAnswer,
    Parts,
    ThresholdItems,
    chosen_items,
    fit_items,
)
from bessemer.flywheel.evaluation import CONCURRENCY, ask, build_metric, item_hash, read_journal, split_examples
from bessemer.flywheel.services import FlywheelServices
from bessemer.flywheel.unseen import unseen
from bessemer.gateway.cascade import raw_score
from bessemer.store import audit, looks
from bessemer.store import datasets as dataset_rows
from bessemer.store.looks import Look, Purpose

Array = npt.NDArray[np.float64]

_PER_ITEM: dict[MetricName, str] = {
    "accuracy": "accuracy",
    "f1": "accuracy",
    "attributes": "F1 of an item",
    "reward": "reward",
}
"""What rules `error` and `loss` promise a mean of: the quality of one answer. Rule `f1` bounds F1 itself."""


OnProgress = Callable[[int, int], None]


def check(request: CascadeRequest, services: FlywheelServices) -> Dataset:
    """Refuse a request that cannot run, or whose route would promise too little, naming the field. Returns the dataset.

    What a route may lose is the operator's to say; a rule that does not compare with the large model needs a small
    version that passed its gate.
    """
    policy = services.catalog.gate_policy
    if not 0 < request.delta < 1:
        raise InvalidRequest("`delta` must lie between 0 and 1.", param="delta")
    if not 0 <= request.alpha < 1:
        raise InvalidRequest("`alpha` must be at least 0 and below 1.", param="alpha")
    if request.split in (Split.TRAIN, Split.SELECTION):
        raise InvalidRequest(
            f"The split {request.split.value!r} has taught or chosen the versions: the calibration split keeps the "
            "promise.",
            param="split",
        )
    for name in (request.route, request.small, request.large):
        services.check_may_ask(name)
    small, large = services.catalog.resolve(request.small), services.catalog.resolve(request.large)
    if request.activate:
        compared = request.rule != "error"
        if compared and request.alpha > policy.max_margin:
            raise InvalidRequest(
                f"`alpha` is what the route may lose: at most {policy.max_margin:g} here (the operator's [gate] "
                "max_margin); with `activate` false any is tried.",
                param="alpha",
            )
        _check_gated(request, services)
    if small.version.id == large.version.id:
        raise InvalidRequest("`small` and `large` are the same version.", param="large")
    _metric(request, services)
    return dataset_rows.get(services.database, request.dataset)


def _check_gated(request: CascadeRequest, services: FlywheelServices) -> None:
    names = [request.small, request.large] if request.rule == "error" else [request.large]
    route = Route(name=request.route, steps=(Step(targets=tuple(Target(model=name) for name in names)),))
    if found := standing.ungated(services, route):
        raise Conflict(f"{found[0]!r} has not passed a gate that counts: evaluate it first.", code="gate_missing")


def build(
    services: FlywheelServices,
    request: CascadeRequest,
    job_id: str,
    folder: Path,
    progress: Callable[[str], OnProgress],
) -> CascadeResult:
    """Calibrate and choose the threshold; `apply` puts the cascade into force."""
    dataset = check(request, services)
    parts, left_out = _parts(services, request, dataset)
    version = services.catalog.resolve(request.small).version.id
    # Before the first item is asked: what it answers can be read as it comes, whatever becomes of the job.
    seen = Look(id=job_id, created_at=time.time(), purpose=Purpose.CASCADE, subject=version)
    look = looks.number(services.database, seen, [item_hash(example) for example in parts.choose])
    examples = (*parts.fit, *parts.choose)
    small = _ask_all(services, request.small, request.score, examples, folder / "small.jsonl", progress("small"))
    large = None
    if request.rule != "error":
        path = folder / "large.jsonl"
        answers = _ask_all(services, request.large, None, parts.choose, path, progress("large"))
        large = (answers, services.wait(_grade(services, request, parts.choose, answers)))
    grades = services.wait(_grade(services, request, examples, small))
    fit = fit_items(parts.fit, small, grades)
    chosen = chosen_items(parts.choose, (small, grades), large, _largest(request))
    fitted = fit_confidence(fit.raw, fit.quality, version=version, score=request.score, dataset_sha256=dataset.sha256)
    confidence = calibration.apply(fitted, chosen.raw)
    shown = ~np.isnan(confidence)
    choice = certify(
        _plan(request, fit, calibration.apply(fitted, fit.raw), len(confidence)),
        _outcomes(chosen, confidence),
        delta=request.delta,
        look=look,
        names=(version, services.catalog.resolve(request.large).version.id),
        population=_population(services, request, dataset, chosen),
        dataset_sha256=dataset.sha256,
    )
    guarantee = choice.guarantee and _with_unknown(choice.guarantee, chosen.unknown)
    return CascadeResult(
        route=request.route,
        small=version,
        large=request.large,
        threshold=choice.chosen.thresholds[0] if choice.chosen else None,
        accepted_share=choice.chosen.accepted_share if choice.chosen else None,
        guarantee=guarantee,
        calibration=fitted,
        curve=tuple(
            CascadePoint(
                threshold=point.thresholds[0] or 0.0,
                accepted_share=point.accepted_share,
                risk=point.empirical_risk,
                p_value=point.p_value,
            )
            for point in choice.curve
        ),
        expected_calibration_error=calibration.ece(confidence[shown], chosen.small_quality[shown]),
        reliability=calibration.reliability(confidence[shown], chosen.small_quality[shown]),
        applied=request.activate and choice.chosen is not None,
        look=look,
        delta_spent=spent(request.delta, look),
        unknown=chosen.unknown,
        left_out=left_out,
    )


def apply(services: FlywheelServices, request: CascadeRequest, result: CascadeResult, job_id: str) -> None:
    """Put the cascade into force if a threshold is certified and `activate` is set; a second time changes nothing."""
    if not result.applied:
        return
    catalog, route = services.catalog, _route(request, result, services.catalog.kept_answers(request.route))
    _check_gated(request, services)  # an alias may have moved while the items were asked
    # A killed job comes here again; a route that is put twice is not rolled back in one step.
    if not catalog.has_route(route.name) or catalog.route(route.name) != route:
        action = "route.updated" if catalog.has_route(route.name) else "route.created"
        with services.database.transaction():
            catalog.put_route(route, reason=f"cascade with threshold {result.threshold:.4f}")
            audit.append(services.database, audit.SYSTEM, action, route.name, {"job": job_id})


def _parts(services: FlywheelServices, request: CascadeRequest, dataset: Dataset) -> tuple[Parts, int]:
    """Return the items that neither model was trained on, and how many are left out because one was."""
    splits = [Split.SELECTION, request.split] if dataset.counts.get(Split.SELECTION, 0) else [request.split]
    asked = [split_examples(services, dataset, split) for split in splits]
    both = (request.small, request.large)
    kept = [unseen(services, both, examples, split) for split, examples in zip(splits, asked, strict=True)]
    left_out = sum(map(len, asked)) - sum(map(len, kept))
    if len(kept) > 1:
        return Parts(*kept), left_out
    fit = halves([example.id for example in kept[0]])
    marked = list(zip(kept[0], fit.tolist(), strict=True))
    return Parts(tuple(e for e, fits in marked if fits), tuple(e for e, fits in marked if not fits)), left_out


def _route(request: CascadeRequest, result: CascadeResult, cache: CachePolicy | None) -> Route:
    first = Step(targets=(Target(model=result.small),), threshold=result.threshold, calibration=result.calibration)
    last = Step(targets=(Target(model=request.large),))
    return Route(name=request.route, steps=(first, last), guarantee=result.guarantee, cache=cache)


def _metric(request: CascadeRequest, services: FlywheelServices) -> Metric:
    return build_metric(request.metric, request.labels, request.positive, request.grader, services.graders)


def _quality_metric(request: CascadeRequest, services: FlywheelServices) -> Metric:
    """Per-item quality in [0, 1]: for F1 of a label, whether the label is right."""
    if request.metric == "f1":
        return build_metric("accuracy", request.labels, None, None, services.graders)
    return _metric(request, services)


def _ask_all(
    services: FlywheelServices,
    target: str,
    score: ConfidenceScore | None,
    examples: Sequence[Example],
    path: Path,
    progress: OnProgress,
) -> dict[str, ItemAnswer]:
    """Ask a target about every example, and how sure it is when there is a `score`.

    Answers are kept in a file, so that an interrupted job continues.
    """
    done = read_journal(path, ItemAnswer)
    missing = [example for example in examples if example.id not in done]
    of_tokens = score not in {None, ConfidenceScore.CHOICE_MARGIN}

    async def one(example: Example) -> None:
        inference = await ask(services, target, example, "calibration", logprobs=of_tokens)
        raw = None if score is None else raw_score(score, inference.calls[-1])
        asked = ItemAnswer(id=example.id, text=inference.output, score=raw)
        done[example.id] = asked
        journal.write(msgspec.json.encode(asked) + b"\n")
        progress(len(done), len(examples))

    with path.open("ab", buffering=0) as journal:
        services.wait(for_each(one, missing, CONCURRENCY))
    return done


async def _grade(
    services: FlywheelServices, request: CascadeRequest, examples: Sequence[Example], asked: Mapping[str, ItemAnswer]
) -> dict[str, GradedAnswer]:
    """Score each answer once; F1 of a label is made of its terms, and judged by whether the label is right."""
    quality_metric, metric = _quality_metric(request, services), _metric(request, services)
    graded: dict[str, GradedAnswer] = {}
    for example in examples:
        text = asked[example.id].text
        if text is not None:
            terms = await metric.score(text, example)
            quality = await quality_metric.score(text, example) if request.metric == "f1" else terms
            graded[example.id] = GradedAnswer(_as_quality(quality), terms)
    return graded


def _as_quality(score: ItemTerms) -> ItemTerms:
    """Return terms as those of a mean: the item's own value, over 1."""
    if isinstance(score, Terms):
        return mean_terms(score.quality)
    return score and Unknown(mean_terms(score.worst.quality), mean_terms(score.best.quality))


def _largest(request: CascadeRequest) -> float:
    """Return what bounds the denominator of an item's terms, before any is seen."""
    return 2.0 * request.attributes if request.metric == "attributes" else 2.0


def _plan(request: CascadeRequest, fit: ConfidenceItems, fitted: Array, n: int) -> ThresholdPlan:
    """Return what is tested under the request's rule on n items, by the items that fitted the confidence map alone."""
    alpha, metric = request.alpha, _PER_ITEM[request.metric]
    if request.rule == "error":
        error = 1.0 - float(fit.quality.mean())
        grid = grid_for_error(fitted, fit.quality, n, alpha=alpha)
        return nested(KeptError(alpha, metric), grid, max(0.0, (error - alpha) / (1.0 - alpha)))
    if request.rule == "loss":
        return nested(Loss(alpha, metric), grid_from(fitted))
    guess = metrics.total(Terms(*row) for row in fit.terms.tolist()) or 0.5
    approximate = request.rule == "bootstrap"
    return nested(F1Loss(alpha, largest=_largest(request), guess=guess, approximate=approximate), grid_from(fitted))


def _outcomes(items: ThresholdItems, confidence: Array) -> Outcomes:
    """Return the items as both models answered them; without the large one's answers its quality is not known."""
    unknown = np.full(len(confidence), np.nan)
    large = unknown if items.large_quality is None else items.large_quality
    terms = None if items.large_terms is None else np.stack([items.small_terms, items.large_terms], axis=1)
    return Outcomes(confidence[:, None], np.stack([items.small_quality, large], axis=1), terms)


def _population(
    services: FlywheelServices, request: CascadeRequest, dataset: Dataset, items: ThresholdItems
) -> Population:
    """Return what the items are, and so what the guarantee speaks of."""
    asked = dataset.provenance.get("request") or {}
    judged = asked.get("require_feedback", True) or items.left_out
    ends = (dataset.provenance.get("first_inference_at"), dataset.provenance.get("last_inference_at"))
    first, last = ("an unknown day" if end is None else _day(float(end)) for end in ends)
    return Population(
        unit="distinct inputs" if asked.get("deduplicate", True) else "requests",
        filter="with feedback, each counted once" if judged else "each counted once",
        source=f"the {request.split.value} split of {dataset.id}",
        period=(first, last),
        temperatures={
            f"the {role} model": _temperature(services, target)
            for role, target in (("small", request.small), ("large", request.large))
        },
    )


def _with_unknown(found: Guarantee, unknown: int) -> Guarantee:
    """Return the guarantee with how many items were counted at their worst."""
    told = f" {unknown} whose score is not known count against the small model." if unknown else ""
    return msgspec.structs.replace(found, unknown=unknown, statement=f"{found.statement}{told}")


def _temperature(services: FlywheelServices, target: str) -> str:
    own = services.catalog.resolve(target).version.temperature
    return "of the model's default" if own is None else f"{own:g}"


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()
