"""Cascade: a small version answers and hands over to a large one when it is not sure enough.

The calibration split is cut in two halves by hash: on one the raw confidence is mapped to P(correct) (isotonic), on the
other the threshold is chosen by distribution-free risk control. Neither half was seen by training or selection.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from bessemer.core.errors import InvalidRequest
from bessemer.core.types import Calibration, Dataset, Example, Frozen, Guarantee, Route, Split, Step, Target
from bessemer.evals import calibration, risk, runs
from bessemer.flywheel.evaluation import MetricRequest, ask, as_answer, build_metric, read_items, split_examples
from bessemer.flywheel.services import Services
from bessemer.gateway.cascade import SCORES, raw_score


class CurvePoint(Frozen, frozen=True):
    """One threshold of the quality-cost curve on the threshold half."""

    threshold: float
    accepted_share: float
    risk: float
    p_value: float


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
    reliability: tuple[tuple[float, float, int], ...]
    """Bins of (mean confidence, share correct, n) on the threshold half."""
    applied: bool


class Scored(Frozen, frozen=True):
    """One calibration item as the small version answered it."""

    id: str
    terms: tuple[float, float]
    score: float


def check(request: CascadeRequest, services: Services) -> None:
    """Refuse a request that cannot run, naming the field."""
    if request.score not in SCORES:
        raise InvalidRequest(f"Unknown score {request.score!r}; known: {', '.join(SCORES)}.", param="score")
    if not 0 < request.delta < 1:
        raise InvalidRequest("delta must lie between 0 and 1.", param="delta")
    if request.alpha < 0:
        raise InvalidRequest("alpha must not be negative.", param="alpha")
    services.catalog.resolve(request.small)
    services.catalog.resolve(request.large)
    build_metric(request.metric)


def score_small(
    services: Services,
    request: CascadeRequest,
    dataset: Dataset,
    folder: Path,
    progress: Callable[[int, int], None],
) -> runs.Run:
    """Ask the small version on the calibration split; its raw confidence goes into each item's `score`."""

    async def infer(example: Example) -> runs.Answer:
        inference = await ask(services, request.small, example, "calibration")
        answer = as_answer(inference)
        return msgspec.structs.replace(answer, score=raw_score(request.score, inference.calls[-1]))

    return _run(services, request, dataset, infer, folder / "small.jsonl", progress)


def score_large(
    services: Services,
    request: CascadeRequest,
    dataset: Dataset,
    folder: Path,
    progress: Callable[[int, int], None],
) -> runs.Run | None:
    """Ask the large model on the same items; None when the rule does not need it."""
    if request.rule == "error" or request.target is not None:
        return None

    async def infer(example: Example) -> runs.Answer:
        return as_answer(await ask(services, request.large, example, "calibration"))

    return _run(services, request, dataset, infer, folder / "large.jsonl", progress)


def _run(
    services: Services,
    request: CascadeRequest,
    dataset: Dataset,
    infer: Callable[[Example], object],
    path: Path,
    progress: Callable[[int, int], None],
) -> runs.Run:
    examples = split_examples(services, dataset, request.split)
    done = read_items(path)
    with path.open("ab", buffering=0) as journal:

        def keep(item: runs.ItemScore) -> None:
            journal.write(msgspec.json.encode(item) + b"\n")

        run: runs.Run = services.wait(
            runs.evaluate(
                infer,  # type: ignore[arg-type]
                examples,
                build_metric(request.metric),
                name=path.stem,
                concurrency=request.concurrency,
                done=done,
                progress=progress,
                on_item=keep,
            )
        )
    return run
