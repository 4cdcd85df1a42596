"""MLPerf Server rows: would the predicted machine hold the submitted rate within the limits, and who is faster?

Submissions are tuned by their vendors for one data set, the calibration is of public serving sweeps: what is compared
is whether the p99 limits hold at the submitted rate, and the order of accelerators, not the last percent. Replicas run
as they were submitted (`submissions`), on the newest measured engine.
"""

import csv
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np
from scipy.stats import spearmanr

from bessemer_planner.errors import UnknownName, Unsatisfiable
from bessemer_planner.models import model_shape
from bessemer_planner.performance.predict import Performance, ReplicaPrediction
from bessemer_planner.simulator import Cluster, Pool, Requests, simulate
from bessemer_planner.types import Accelerator, Deployment, Precision, ServingEngine
from lab.planner.submissions import Setting, output_shares, setting

_INPUT_TOKENS = {
    "Llama-2-70B": 294.0,
    "Llama-3.1-8B": 778.0,
    "Llama-3.1-405B": 9400.0,
    "DeepSeek-R1": 800.0,
    "Mixtral-8x7B": 340.0,
}
"""Mean prompt length of the data sets (OpenOrca, CNN/DailyMail, long-context mix, reasoning mix): the results do not
say them, they are taken from MLCommons' benchmark descriptions and rounded."""
_SIZES = (1, 2, 4, 8)
_UNPUBLISHED = Setting()
_DURATION_S = 600.0
"""Shortest Server run that is valid (mlcommons/inference_policies, inference_rules.adoc, scenarios: 600 seconds): a
queue that grows slowly shows in it."""
_LEAST_REQUESTS = 1500
_LENGTH_SPREAD = 0.4
"""Of the logarithm of lengths that no run log tells: prompts, and answers of other models."""
_RATE_STEP = 1.5
_RATE_PRECISION = 1.01


class ServerRow(msgspec.Struct, frozen=True):
    """One submission beside the simulation of its rate. Milliseconds."""

    system: str
    accelerator: str
    model: str
    precision: str
    accelerators: int
    rate_s: float
    setting: Setting
    """How the simulated replicas run; without a source: nobody published it, the best that was tried."""
    p99_ttft: float
    p99_tpot: float
    ttft_limit: float
    tpot_limit: float
    measured_p99_ttft: float | None
    measured_p99_tpot: float | None
    within: bool
    measured_tokens_s: float
    predicted_tokens_s: float
    """Output tokens/s at the highest rate whose simulated p99 are within both limits, as a submission's are."""


class ModelOrder(msgspec.Struct, frozen=True):
    """Accelerators by output tokens/s of one of them, fastest first, with one model."""

    submitted: tuple[str, ...]
    predicted: tuple[str, ...]
    pairs: int
    in_order: int
    """Pairs of accelerators that stand in the submitted order."""


class ServerCheck(msgspec.Struct, frozen=True):
    """All Server rows that can be predicted, and those that cannot with the reason."""

    rows: tuple[ServerRow, ...]
    within: int
    rank_correlation: float | None
    """Spearman's, of output tokens/s of machines with 8 accelerators, models pooled: predicted against submitted."""
    order: dict[str, ModelOrder]
    """By model, over all its rows, whatever the number of accelerators."""
    refused: tuple[tuple[str, str], ...]


def check_server_rows(path: Path, accelerators: dict[str, Accelerator], aliases: dict[str, str]) -> ServerCheck:
    """Simulate every MLPerf Server row of a file of published throughput; one of equal machines (accelerator, model,
    precision) stands for all, the fastest. `aliases` gives the catalogue's name of an accelerator, lower case."""
    performance = Performance.load()
    best: dict[tuple[str, str, str], dict[str, str]] = {}
    refused: list[tuple[str, str]] = []
    with path.open(newline="", encoding="utf-8") as stream:
        for raw in csv.DictReader(stream):
            if raw["scenario"] != "Server" or not raw["request_rate_s"]:
                continue
            name = aliases.get(raw["accelerator"].lower(), raw["accelerator"])
            key = (name, raw["model"].removesuffix(".9").removesuffix("-99"), raw["precision"])
            if key not in best or _per_gpu(raw) > _per_gpu(best[key]):
                best[key] = raw
    rows = []
    for (name, model, _), raw in sorted(best.items()):
        try:
            rows.append(_row(performance, _known(name, accelerators), raw))
        except (Unsatisfiable, UnknownName) as error:
            refused.append((f"{model} on {name}", error.message))
    eight = [row for row in rows if row.accelerators == 8]
    order = None
    if len(eight) > 2:
        pairs = ([row.measured_tokens_s for row in eight], [row.predicted_tokens_s for row in eight])
        order = round(float(spearmanr(*pairs).statistic), 4)
    models = sorted({row.model for row in rows})
    orders = {model: _order([row for row in rows if row.model == model]) for model in models}
    return ServerCheck(tuple(rows), sum(row.within for row in rows), order, orders, tuple(refused))


def _order(rows: list[ServerRow]) -> ModelOrder:
    """Compare every pair of one model's rows, per accelerator."""
    submitted = {f"{row.accelerator} {row.precision}": row.measured_tokens_s / row.accelerators for row in rows}
    predicted = {f"{row.accelerator} {row.precision}": row.predicted_tokens_s / row.accelerators for row in rows}
    pairs = list(combinations(submitted, 2))
    kept = sum((submitted[a] - submitted[b]) * (predicted[a] - predicted[b]) > 0 for a, b in pairs)
    return ModelOrder(_falling(submitted), _falling(predicted), pairs=len(pairs), in_order=kept)


def _falling(rates: dict[str, float]) -> tuple[str, ...]:
    return tuple(sorted(rates, key=lambda name: -rates[name]))


def _per_gpu(raw: dict[str, str]) -> float:
    return float(raw["output_tok_s_per_gpu"] or 0.0)


def _known(name: str, accelerators: dict[str, Accelerator]) -> Accelerator:
    if name not in accelerators:
        raise UnknownName(f"no accelerator named {name!r} in the catalogue")
    return accelerators[name]


def _row(performance: Performance, accelerator: Accelerator, raw: dict[str, str]) -> ServerRow:
    """Run it as it was submitted. Where nobody published how, try every tensor-parallel size: of those that keep the
    limits the one with most throughput, else the nearest."""
    shape, rate = model_shape(raw["model"]), float(raw["request_rate_s"])
    isl, osl = _INPUT_TOKENS.get(shape.name, 512.0), float(raw["osl"])
    limits = (float(raw["ttft_limit_ms"]), float(raw["tpot_limit_ms"]))
    count = int(raw["num_gpus"])
    found: list[tuple[tuple[bool, float], Setting, float, float, float]] = []
    reason: Unsatisfiable | None = None
    submitted = setting(shape.name, accelerator)
    tried = [submitted] if submitted else [msgspec.structs.replace(_UNPUBLISHED, tp=size) for size in _SIZES]
    for one in tried:
        each = one.tp * one.pp * one.dp
        if count % each:
            continue
        try:
            prediction = _predict(performance, accelerator, raw, one, isl, osl)
        except Unsatisfiable as error:
            reason = error
            continue
        start = _throughput(performance, prediction, isl, osl, limits[1] / 1e3) / osl
        most = count / each * osl * _highest_rate(prediction, start, isl, osl, limits)
        ttft, tpot = _simulate(prediction, rate * each / count, isl, osl)
        excess = max(ttft / limits[0], tpot / limits[1])
        found.append(((excess <= 1.0, most if excess <= 1.0 else -excess), one, most, ttft, tpot))
    if not found:
        raise reason or Unsatisfiable(f"{shape.name} on {accelerator.name}: no size divides {count} accelerators")
    (within, _), one, most, ttft, tpot = max(found, key=lambda row: row[0])
    return ServerRow(
        system=raw["system"],
        accelerator=accelerator.name,
        model=shape.name,
        precision=raw["precision"],
        accelerators=count,
        rate_s=rate,
        setting=one,
        p99_ttft=round(ttft, 1),
        p99_tpot=round(tpot, 2),
        ttft_limit=limits[0],
        tpot_limit=limits[1],
        measured_p99_ttft=float(raw["ttft_p99_ms"]) if raw["ttft_p99_ms"] else None,
        measured_p99_tpot=float(raw["tpot_p99_ms"]) if raw["tpot_p99_ms"] else None,
        within=within,
        measured_tokens_s=float(raw["total_output_tok_s"]),
        predicted_tokens_s=round(most, 1),
    )


def _predict(
    performance: Performance, accelerator: Accelerator, raw: dict[str, str], one: Setting, isl: float, osl: float
) -> ReplicaPrediction:
    engine = (
        ServingEngine.TRTLLM if "tensorrt" in raw["framework"].lower() else ServingEngine.VLLM
    )  # the others are built on it
    shape = model_shape(raw["model"])
    deployment = Deployment(
        shape.name,
        accelerator.name,
        engine,
        None,
        Precision(raw["precision"]),
        tp=one.tp,
        pp=one.pp,
        dp=one.dp,
        ep=one.dp,
    )
    return performance.replica(
        deployment,
        shape,
        accelerator,
        max_batch=min(one.max_batch, one.pp * one.chunk_tokens),  # every sequence gets its token in a step
        chunk_tokens=one.chunk_tokens,
        isl=isl,
        osl=osl,
        graph_batches=one.graph_batches,
    )


def _throughput(
    performance: Performance, prediction: ReplicaPrediction, isl: float, osl: float, limit_s: float
) -> float:
    """Most output tokens/s of one replica in steady state within the token limit; at least that of one client."""
    one = performance.steady(prediction, isl, osl, 1)
    most, held, broken = one.output_tokens_s.value, 1, prediction.replica.max_batch + 1
    while broken - held > 1:  # time per token rises with the clients
        clients = (held + broken) // 2
        state = performance.steady(prediction, isl, osl, clients)
        if state.tpot_s.value <= limit_s:
            most, held = max(most, state.output_tokens_s.value), clients
        else:
            broken = clients
    return most


def _highest_rate(
    prediction: ReplicaPrediction, start: float, isl: float, osl: float, limits: tuple[float, float]
) -> float:
    """Return the highest rate (requests/s) of one replica whose p99 hold both limits (ms); 0 when none does."""

    def holds(rate_s: float) -> bool:
        ttft, tpot = _simulate(prediction, rate_s, isl, osl)
        return ttft <= limits[0] and tpot <= limits[1]

    held, broken = 0.0, start
    while holds(broken):
        held, broken = broken, broken * _RATE_STEP
    while held == 0.0:
        if broken < start / 100.0:
            return 0.0
        broken /= _RATE_STEP
        held = broken if holds(broken) else 0.0
    broken = held * _RATE_STEP
    while broken > held * _RATE_PRECISION:
        rate = (held * broken) ** 0.5
        held, broken = (rate, broken) if holds(rate) else (held, rate)
    return held


def _simulate(prediction: ReplicaPrediction, rate_s: float, isl: float, osl: float) -> tuple[float, float]:
    """Serve Poisson arrivals on one replica; return p99 TTFT and p99 TPOT in milliseconds."""
    draw = np.random.default_rng(0)
    count = max(_LEAST_REQUESTS, int(rate_s * _DURATION_S))
    arrivals = np.cumsum(draw.exponential(1.0 / rate_s, count))
    scale = np.exp(_LENGTH_SPREAD * draw.standard_normal((2, count)) - _LENGTH_SPREAD**2 / 2.0)
    answers = output_shares(prediction.shape.name, draw.uniform(size=count))
    scale[1] = scale[1] if answers is None else answers
    prompts, outputs = np.maximum(2, np.array([[isl], [osl]]) * scale).astype(np.int64)
    result = simulate(Requests(arrivals, prompts, outputs), Cluster((Pool(prediction.replica, 1),)))
    return float(1e3 * np.nanpercentile(result.ttft_s, 99)), float(1e3 * np.nanpercentile(result.tpot_s, 99))
