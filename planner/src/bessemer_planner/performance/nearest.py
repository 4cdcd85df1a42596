"""The measured points that a prediction leans on: the nearest ones, the newest run of an engine, what is missing."""

import math
from collections import Counter
from collections.abc import Iterator

import msgspec

from bessemer_planner.performance.levels import BenchmarkRun
from bessemer_planner.types import Accelerator, Deployment, ModelShape

_KNOWN_RUN = 10


class Points(msgspec.Struct, frozen=True):
    """Measured points that are shipped; columns of equal length."""

    id: list[str]
    model: list[str]
    accelerator: list[str]
    engine: list[str]
    version: list[str]
    date: list[str]
    kind: list[str]
    speculative: list[bool]
    precision: list[str]
    sizes: list[tuple[int, int, int]]
    """Tensor, attention-data and expert parallel sizes."""
    load: list[tuple[int, int, int]]
    """Input tokens, output tokens, concurrency."""
    ttft_ms: list[float]
    tpot_ms: list[float]


class NearestPoint(msgspec.Struct, frozen=True):
    """A measured point close to what was asked."""

    id: str
    model: str
    accelerator: str
    engine: str
    engine_version: str
    precision: str
    tp: int
    dp: int
    ep: int
    isl: int
    osl: int
    concurrency: int
    ttft_s: float
    tpot_s: float
    distance: float
    """Natural-log units of load and size, plus one for each of engine, precision, GPU and model that differs."""


def nearest_points(
    points: Points,
    deployment: Deployment,
    shape: ModelShape,
    isl: float,
    osl: float,
    concurrency: float,
    count: int = 3,
) -> tuple[NearestPoint, ...]:
    """Return the `count` measured points nearest to a deployment under a load.

    A model is known by the name of its shape: a deployment calls it as its user does.
    """
    asked = (isl, osl, concurrency, deployment.tp * deployment.dp)
    fixed = (shape.name, deployment.accelerator, deployment.engine.value, deployment.precision.value)

    def distance(i: int) -> float:
        tp, dp, _ = points.sizes[i]
        there = (*points.load[i], tp * dp)
        named = (points.model[i], points.accelerator[i], points.engine[i], points.precision[i])
        apart = sum(a != b for a, b in zip(fixed, named, strict=True))
        return apart + sum(abs(math.log(max(a, 1) / b)) for a, b in zip(asked, there, strict=True))

    order = sorted(((distance(i), i) for i in range(len(points.id))), key=lambda pair: pair[0])
    return tuple(_point(points, i, far) for far, i in order[:count])


def newest_run(
    points: Points, deployment: Deployment, shape: ModelShape, architectures: dict[str, str], architecture: str
) -> tuple[str, BenchmarkRun] | None:
    """Return version and run of the measurement that stands for a deployment.

    Same engine (and version, where one is asked for); then same model and architecture, same model, same
    architecture, the newest. Runs of fewer than ten points stand for others only where there is nothing else; runs
    with draft tokens are left aside.
    """
    runs = Counter(zip(points.engine, points.version, points.model, points.date, strict=True))
    best: tuple[tuple[bool, bool, bool, bool, str], int] | None = None
    for i in range(len(points.id)):
        if points.engine[i] != deployment.engine.value or points.speculative[i]:
            continue
        if deployment.engine_version is not None and points.version[i] != deployment.engine_version:
            continue
        same = architectures.get(points.accelerator[i]) == architecture
        model = points.model[i] == shape.name
        known = runs[points.engine[i], points.version[i], points.model[i], points.date[i]] >= _KNOWN_RUN
        rank = (known, model and same, model, same, points.date[i])
        if best is None or rank > best[0]:
            best = (rank, i)
    if best is None:
        return None
    at = best[1]
    return points.version[at], BenchmarkRun(points.date[at], points.kind[at])


def missing(
    points: Points, deployment: Deployment, shape: ModelShape, accelerator: Accelerator, isl: float, osl: float
) -> str | None:
    """Say what of a deployment was never measured, or None when it lies inside what was."""
    rows = list(zip(points.model, points.accelerator, points.engine, points.precision, strict=True))
    engine, precision = deployment.engine.value, deployment.precision.value
    gaps = []
    if accelerator.name not in points.accelerator:
        gaps.append(f"accelerator {accelerator.name} was never measured")
    if shape.name not in points.model:
        gaps.append(f"model {shape.name} was never measured")
    if not gaps and (shape.name, accelerator.name) not in {(m, a) for m, a, _, _ in rows}:
        gaps.append(f"{shape.name} was never measured on {accelerator.name}")
    if engine not in points.engine:
        gaps.append(f"engine {engine} was never measured")
    elif not gaps and (shape.name, accelerator.name, engine, precision) not in set(rows):
        gaps.append(f"{shape.name} on {accelerator.name} was never measured with {engine} in {precision}")
    gaps.extend(_outside(points, isl, osl))
    return "; ".join(gaps) or None


def _outside(points: Points, isl: float, osl: float) -> Iterator[str]:
    for name, value, column in (("input", isl, 0), ("output", osl, 1)):
        measured = [load[column] for load in points.load]
        if not min(measured) / 1.5 <= value <= max(measured) * 1.5:
            yield f"{name} length {value:.0f} outside the measured {min(measured)} to {max(measured)} tokens"


def _point(points: Points, i: int, far: float) -> NearestPoint:
    tp, dp, ep = points.sizes[i]
    isl, osl, concurrency = points.load[i]
    return NearestPoint(
        id=points.id[i],
        model=points.model[i],
        accelerator=points.accelerator[i],
        engine=points.engine[i],
        engine_version=points.version[i],
        precision=points.precision[i],
        tp=tp,
        dp=dp,
        ep=ep,
        isl=isl,
        osl=osl,
        concurrency=concurrency,
        ttft_s=points.ttft_ms[i] / 1e3,
        tpot_s=points.tpot_ms[i] / 1e3,
        distance=round(far, 3),
    )
