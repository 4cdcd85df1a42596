"""Cascade: a small version answers and hands over to a large one when it is not sure enough.

The raw confidence is mapped to P(correct) (isotonic) on the selection split, the threshold is chosen by
distribution-free risk control on the whole calibration split, which neither training nor selection has seen. The map
may be optimistic, because checkpoint and bias were chosen on its items: it only ranks, and the guarantee does not rest
on it. Where there is no selection split, the calibration split is cut in two by hash, one half for each.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Self

import msgspec
import numpy as np
import numpy.typing as npt

from bessemer.core.errors import InvalidRequest
from bessemer.core.openai import JSON, StrictWire
from bessemer.core.types import (
    Calibration,
    ConfidenceScore,
    Dataset,
    Example,
    Frozen,
    Guarantee,
    Route,
    Split,
    Step,
    Target,
)
from bessemer.evals import calibration, risk
from bessemer.evals.calibration import ReliabilityBin
from bessemer.evals.measures import Metric
from bessemer.evals.metrics import Terms
from bessemer.evals.runs import for_each
from bessemer.flywheel.evaluation import CONCURRENCY, MetricName, ask, build_metric, read_journal, split_examples
from bessemer.flywheel.services import Services
from bessemer.gateway.cascade import raw_score
from bessemer.store import audit
from bessemer.store import datasets as dataset_rows

Array = npt.NDArray[np.float64]

_PER_ITEM: dict[MetricName, str] = {
    "accuracy": "accuracy",
    "f1": "accuracy",
    "attributes": "F1 of an item",
    "reward": "reward",
}
"""What rules `error` and `loss` promise a mean of: the quality of one answer. Rule `f1` bounds F1 itself."""


class CascadeRequest(StrictWire):
    """Body of POST /v1/cascades: calibrate a small model, choose a threshold with a guarantee, write a route."""

    route: str
    """The route to write."""
    small: str
    """Target asked first."""
    large: str
    """Target that answers when the small one is not confident enough."""
    dataset: str
    split: Split = Split.CALIBRATION
    metric: MetricName = "accuracy"
    labels: tuple[str, ...] = ()
    positive: str | None = None
    grader: JSON | None = None
    rule: Literal["loss", "error", "f1", "bootstrap"] = "loss"
    """loss: mean quality lost against the large model is at most alpha. error: of the answers that the small model
    keeps, at most alpha are wrong (the large model's quality need not be known). f1: F1 is at least the large model's
    minus alpha. bootstrap: the same as f1, but not distribution-free."""
    attributes: int = 20
    """attributes: how many an item can have at most; bounds the metric's terms before any is seen."""
    score: ConfidenceScore = ConfidenceScore.CHOICE_MARGIN
    alpha: float = 0.02
    """Bound on the risk, in the metric's unit."""
    delta: float = 0.1
    """The bound holds with probability at least 1 - delta."""
    activate: bool = True
    """False: report the curve and the threshold, but leave the route as it is."""


class CurvePoint(Frozen, frozen=True):
    """One threshold of the quality-cost curve on the items that it was chosen on."""

    threshold: float
    accepted_share: float
    risk: float
    p_value: float | None


class CascadeResult(Frozen, frozen=True):
    """What was measured and decided. `threshold` is None when nothing was certified: the route stays as it was."""

    route: str
    small: str
    large: str
    threshold: float | None
    accepted_share: float | None
    guarantee: Guarantee | None
    calibration: Calibration
    curve: tuple[CurvePoint, ...]
    expected_calibration_error: float
    reliability: tuple[ReliabilityBin, ...]
    """Confidence against correctness on the items that the map has not seen."""
    applied: bool


Progress = Callable[[int, int], None]


def check(request: CascadeRequest, services: Services) -> Dataset:
    """Refuse a request that cannot run, naming the field. Returns the dataset."""
    if not 0 < request.delta < 1:
        raise InvalidRequest("`delta` must lie between 0 and 1.", param="delta")
    if request.alpha < 0:
        raise InvalidRequest("`alpha` must not be negative.", param="alpha")
    services.catalog.resolve(request.small)
    services.catalog.resolve(request.large)
    _metric(request, services)
    return dataset_rows.get(services.database, request.dataset)


def build(
    services: Services, request: CascadeRequest, folder: Path, progress: Callable[[str], Progress]
) -> CascadeResult:
    """Calibrate and choose the threshold; `apply` puts the cascade into force."""
    dataset = check(request, services)
    parts = _parts(services, request, dataset)
    examples = (*parts.fit, *parts.choose)
    small = _ask_all(services, request.small, request.score, examples, folder / "small.jsonl", progress("small"))
    large = None
    if request.rule != "error":
        path = folder / "large.jsonl"
        large = _ask_all(services, request.large, None, parts.choose, path, progress("large"))
    scored = _Scored.of(services, request, parts, small, large)
    version = services.catalog.resolve(request.small).version.id
    rest = scored.chooses
    fitted = calibration.fit_isotonic(
        scored.raw[~rest],
        scored.small_quality[~rest],
        version=version,
        score=request.score,
        dataset_sha256=dataset.sha256,
    )
    confidence = calibration.apply(fitted, scored.raw)
    choice = _choose(request, dataset, scored, confidence)
    return CascadeResult(
        route=request.route,
        small=version,
        large=request.large,
        threshold=choice.chosen.threshold if choice.chosen else None,
        accepted_share=choice.chosen.accepted_share if choice.chosen else None,
        guarantee=choice.guarantee,
        calibration=fitted,
        curve=tuple(
            CurvePoint(
                threshold=point.threshold,
                accepted_share=point.accepted_share,
                risk=point.empirical_risk,
                p_value=point.p_value,
            )
            for point in choice.curve
        ),
        expected_calibration_error=calibration.ece(confidence[rest], scored.small_quality[rest]),
        reliability=calibration.reliability(confidence[rest], scored.small_quality[rest]),
        applied=request.activate and choice.chosen is not None,
    )


def apply(services: Services, request: CascadeRequest, result: CascadeResult, job_id: str) -> None:
    """Put the cascade into force if a threshold is certified and `activate` is set; a second time changes nothing."""
    if not result.applied:
        return
    catalog, route = services.catalog, _route(request, result)
    # A killed job comes here again; a route that is put twice is not rolled back in one step.
    if not catalog.has_route(route.name) or catalog.route(route.name) != route:
        with services.database.transaction():
            catalog.put_route(route, reason=f"cascade with threshold {result.threshold:.4f}")
            audit.append(services.database, audit.SYSTEM, "route.updated", route.name, {"job": job_id})


class _Parts(NamedTuple):
    """What the confidence map is fitted on, and what the threshold is chosen on."""

    fit: tuple[Example, ...]
    choose: tuple[Example, ...]


def _parts(services: Services, request: CascadeRequest, dataset: Dataset) -> _Parts:
    examples = split_examples(services, dataset, request.split)
    if request.split is not Split.SELECTION and dataset.counts.get(Split.SELECTION, 0):
        return _Parts(split_examples(services, dataset, Split.SELECTION), examples)
    halves = risk.halves([example.id for example in examples])
    marked = list(zip(examples, halves.tolist(), strict=True))
    return _Parts(tuple(e for e, fit in marked if fit), tuple(e for e, fit in marked if not fit))


def _route(request: CascadeRequest, result: CascadeResult) -> Route:
    first = Step(targets=(Target(model=result.small),), threshold=result.threshold, calibration=result.calibration)
    last = Step(targets=(Target(model=request.large),))
    return Route(name=request.route, steps=(first, last), guarantee=result.guarantee)


def _metric(request: CascadeRequest, services: Services) -> Metric:
    return build_metric(request.metric, request.labels, request.positive, request.grader, services.graders)


def _quality_metric(request: CascadeRequest, services: Services) -> Metric:
    """Per-item quality in [0, 1]: for F1 of a label, whether the label is right."""
    if request.metric == "f1":
        return build_metric("accuracy", request.labels, None, None, services.graders)
    return _metric(request, services)


class _Asked(Frozen, frozen=True):
    """One calibration item as a version answered it."""

    id: str
    text: str | None
    score: float | None


def _ask_all(
    services: Services,
    target: str,
    score: ConfidenceScore | None,
    examples: Sequence[Example],
    path: Path,
    progress: Progress,
) -> dict[str, _Asked]:
    """Ask a target about every example, and how sure it is when there is a `score`.

    Answers are kept in a file, so that an interrupted job continues.
    """
    done = read_journal(path, _Asked)
    missing = [example for example in examples if example.id not in done]
    of_tokens = score not in {None, ConfidenceScore.CHOICE_MARGIN}

    async def one(example: Example) -> None:
        inference = await ask(services, target, example, "calibration", logprobs=of_tokens)
        raw = None if score is None else raw_score(score, inference.calls[-1])
        asked = _Asked(id=example.id, text=inference.output, score=raw)
        done[example.id] = asked
        journal.write(msgspec.json.encode(asked) + b"\n")
        progress(len(done), len(examples))

    with path.open("ab", buffering=0) as journal:
        services.wait(for_each(one, missing, CONCURRENCY))
    return done


class _Scored(NamedTuple):
    """The scorable items as arrays: raw confidence [n], quality [n], metric terms [n, 2]. Items of the map have NaN for
    the large model: it is not asked about them."""

    chooses: npt.NDArray[np.bool_]
    """[n]: items that the threshold is chosen on; the others fit the map."""
    raw: Array
    small_quality: Array
    large_quality: Array | None
    small_terms: Array
    large_terms: Array | None

    @classmethod
    def of(
        cls,
        services: Services,
        request: CascadeRequest,
        parts: _Parts,
        small: dict[str, _Asked],
        large: dict[str, _Asked] | None,
    ) -> Self:
        """Score the answers; items without score or confidence are left out. InvalidRequest if none remain."""
        examples = (*parts.fit, *parts.choose)
        choosing = {example.id for example in parts.choose}
        small_scores = services.wait(_grade(services, request, examples, small))
        large_scores = None if large is None else services.wait(_grade(services, request, parts.choose, large))
        keep = [
            example
            for example in examples
            if example.id in small_scores
            and small[example.id].score is not None
            and (large_scores is None or example.id in large_scores or example.id not in choosing)
        ]
        chooses = np.array([example.id in choosing for example in keep], dtype=np.bool_)
        if not chooses.any() or chooses.all():
            raise InvalidRequest(
                "Too few items of the selection and calibration splits can be scored with this metric: build a larger "
                "dataset.",
                param="dataset",
            )

        def column(scores: dict[str, _Grades], name: str) -> Array:
            unknown = Terms(np.nan, np.nan) if name == "terms" else np.nan
            values = (scores.get(example.id) for example in keep)
            return np.array([unknown if value is None else getattr(value, name) for value in values], dtype=np.float64)

        return cls(
            chooses,
            np.array([small[example.id].score for example in keep], dtype=np.float64),
            column(small_scores, "quality"),
            None if large_scores is None else column(large_scores, "quality"),
            column(small_scores, "terms"),
            None if large_scores is None else column(large_scores, "terms"),
        )


class _Grades(NamedTuple):
    quality: float
    terms: Terms


async def _grade(
    services: Services, request: CascadeRequest, examples: Sequence[Example], asked: dict[str, _Asked]
) -> dict[str, _Grades]:
    quality_metric, metric = _quality_metric(request, services), _metric(request, services)
    graded: dict[str, _Grades] = {}
    for example in examples:
        text = asked[example.id].text
        if text is None:
            continue
        quality = await quality_metric.score(text, example)
        terms = await metric.score(text, example)
        if quality is not None and terms is not None:
            graded[example.id] = _Grades(quality.quality, terms)
    return graded


def _choose(request: CascadeRequest, dataset: Dataset, scored: _Scored, confidence: Array) -> risk.ThresholdChoice:
    """Apply the request's rule on the items that the calibration map has not seen."""
    rest = scored.chooses
    scores, alpha, delta = confidence[rest], request.alpha, request.delta
    grid = risk.grid_from(confidence[~rest])
    sha = dataset.sha256
    if request.rule == "error":
        grid = risk.grid_for_error(confidence[~rest], scored.small_quality[~rest], int(rest.sum()), alpha=alpha)
        small = scored.small_quality[rest]
        return risk.choose_by_error(
            scores, small, alpha=alpha, delta=delta, grid=grid, metric=_PER_ITEM[request.metric], dataset_sha256=sha
        )
    assert scored.large_quality is not None and scored.large_terms is not None
    if request.rule == "loss":
        small, large = scored.small_quality[rest], scored.large_quality[rest]
        metric = _PER_ITEM[request.metric]
        return risk.choose_by_loss(
            scores, small, large, alpha=alpha, delta=delta, grid=grid, metric=metric, dataset_sha256=sha
        )
    small, large = scored.small_terms[rest], scored.large_terms[rest]
    if request.rule == "bootstrap":
        return risk.choose_by_bootstrap(scores, small, large, alpha=alpha, delta=delta, grid=grid, dataset_sha256=sha)
    largest = 2.0 if request.metric == "f1" else 2.0 * request.attributes
    return risk.choose_by_f1(
        scores, small, large, alpha=alpha, delta=delta, grid=grid, largest=largest, dataset_sha256=sha
    )
