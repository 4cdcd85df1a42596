"""Training and fine-tuning time: compute, scaling, failures and checkpoints.

Anchors are MLPerf Training v5.0 and v5.1 (mlcommons/training_results_v5.0 and v5.1). A step is the time of its
arithmetic at the measured utilisation, stretched by the pipeline bubble (full training) or by splitting one sample
over accelerators (fine-tuning with small batches), and by what failures and checkpoints cost.
"""

import csv
import math
from pathlib import Path

import msgspec

from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.types import Accelerator, IntervalEstimate, ModelShape, Source

_UTILISATION = {"ampere": 0.45, "ada": 0.35, "hopper": 0.41, "blackwell": 0.365, "blackwell_rtx": 0.35}
"""Share of the eight-bit dense peak (16-bit where there is none) that `6 N D` reaches on 512 accelerators: Llama-3.1
405B, H100 811 of 1,979 TFLOP/s, GB200 1,805 of 5,000; the others assume their nearest architecture."""
_USUAL_UTILISATION = 0.35
_LORA_UTILISATION = {"hopper": 0.363, "blackwell": 0.318}
"""The same for `4 N D` (no gradients of frozen weights): Llama-2-70B LoRA on 8 accelerators, H200 2.54 samples/s and
GB200 5.39 samples/s of 8,192 tokens."""
_USUAL_LORA_UTILISATION = 0.30
_MODEL_PARALLEL = 64
"""Accelerators that share one copy of a 405B model (tensor, pipeline and context parallel)."""
_BUBBLE = 2.0
"""(pipeline stages - 1) / virtual stages: fitted to the 405B rows, 1.9 on H100 and 2.4 on GB200."""
_SPLIT_COST = 0.10
"""Time added per doubling of the accelerators that share one sample: fitted to the GB200 LoRA rows."""
_STATE_BYTES = 18.0
"""Weights, gradients and Adam moments in mixed precision, per parameter, sharded over all accelerators."""
FAILURES_PER_ACCELERATOR_HOUR = 1.97e-5
"""419 unexpected interruptions of 16,384 accelerators in 54 days (The Llama 3 Herd of Models, arXiv 2407.21783)."""
SOURCE = Source("mlcommons/training_results_v5.0 and v5.1", "2025-11-12")


class Goodput(msgspec.Struct, frozen=True):
    """Share of time that moves training forward, and the checkpoint interval it was reckoned with."""

    share: float
    checkpoint_s: float
    failures_per_day: float


class TrainingTime(msgspec.Struct, frozen=True):
    """How long a training job takes."""

    hours: IntervalEstimate
    tokens_s: float
    utilisation: float
    """Share of the dense peak that `6 N D` (LoRA: `4 N D`) reaches, scaling included."""
    scaling: float
    """Efficiency against as many accelerators as the anchor."""
    goodput: Goodput
    source: Source


def young_daly_s(save_s: float, accelerators: int, failures_per_hour: float = FAILURES_PER_ACCELERATOR_HOUR) -> float:
    """Return the checkpoint interval that loses least: `sqrt(2 save / (N lambda))` (Young 1974, Daly 2006)."""
    return math.sqrt(2.0 * save_s / (accelerators * failures_per_hour / 3600.0))


def goodput(
    accelerators: int,
    *,
    save_s: float = 30.0,
    restart_s: float = 600.0,
    checkpoint_s: float | None = None,
    failures_per_hour: float = FAILURES_PER_ACCELERATOR_HOUR,
) -> Goodput:
    """Return the share of time not lost: `(1 - N lambda (restart + interval / 2)) (1 - save / interval)`.

    Raises `Unsatisfiable` when failures come faster than restarts end.
    """
    interval = checkpoint_s or max(young_daly_s(save_s, accelerators, failures_per_hour), save_s)
    rate = accelerators * failures_per_hour / 3600.0
    share = (1.0 - rate * (restart_s + interval / 2.0)) * (1.0 - save_s / interval)
    if share <= 0.0 or rate * (restart_s + interval / 2.0) >= 1.0:
        most = int(0.5 / (failures_per_hour / 3600.0 * (restart_s + interval / 2.0)))
        raise Unsatisfiable(
            f"accelerators: {accelerators} fail every {1.0 / rate:.0f} s, faster than a restart of {restart_s:.0f} s "
            f"and half an interval of {interval:.0f} s; nearest: {most} accelerators, or checkpoints more often.",
            param="accelerators",
        )
    return Goodput(share, interval, rate * 86400.0)


def scaling_efficiency(
    accelerators: int, batch: int, *, base_accelerators: int = 512, base_batch: int | None = None
) -> float:
    """Return throughput per accelerator against `base_accelerators` (full training, batch in samples).

    Micro-batches per pipeline fall as accelerators grow: the bubble is `_BUBBLE / micro-batches` of a step.
    """

    def stretch(count: int, samples: int) -> float:
        return 1.0 + _BUBBLE * count / (samples * _MODEL_PARALLEL)

    return stretch(base_accelerators, base_batch or batch) / stretch(accelerators, batch)


def split_efficiency(accelerators: int, batch: int) -> float:
    """Return throughput per accelerator when `batch` samples are split over more accelerators than there are."""
    return 1.0 / (1.0 + _SPLIT_COST * math.log2(max(1.0, accelerators / batch)))


def training_flops(accelerator: Accelerator) -> float:
    """Return the flop/s of `6 N D` that one accelerator reaches in full training: the measured share of its peak."""
    return _peak_flops(accelerator) * _UTILISATION.get(accelerator.architecture, _USUAL_UTILISATION)


def _peak_flops(accelerator: Accelerator) -> float:
    return (accelerator.fp8_tflops or accelerator.bf16_tflops) * 1e12


def training_time(
    shape: ModelShape,
    accelerator: Accelerator,
    accelerators: int,
    tokens: float,
    *,
    batch: int,
    sequence: int = 8192,
    lora: bool = False,
    save_s: float = 30.0,
    restart_s: float = 600.0,
) -> TrainingTime:
    """Predict the hours of a training job over `tokens` tokens in batches of `batch` samples of `sequence` tokens.

    Raises `Unsatisfiable` when weights and optimizer state do not fit, naming the smallest count that does.
    """
    _check_memory(shape, accelerator, accelerators, lora=lora)
    peak = _peak_flops(accelerator)
    per_token = (4.0 if lora else 6.0) * shape.active_b * 1e9
    if lora:
        scaling = split_efficiency(accelerators, batch)
        base = _LORA_UTILISATION.get(accelerator.architecture, _USUAL_LORA_UTILISATION)
    else:
        scaling = scaling_efficiency(accelerators, batch, base_batch=1152)
        base = training_flops(accelerator) / peak
    utilisation = base * scaling
    rate = accelerators * peak * utilisation / per_token
    lost = goodput(accelerators, save_s=save_s, restart_s=restart_s)
    steps = math.ceil(tokens / (batch * sequence))
    hours = steps * batch * sequence / rate / lost.share / 3600.0
    doubt = 1.15 if accelerator.architecture in _LORA_UTILISATION else 1.6
    return TrainingTime(IntervalEstimate(hours, hours / doubt, hours * doubt), rate, utilisation, scaling, lost, SOURCE)


def _check_memory(shape: ModelShape, accelerator: Accelerator, accelerators: int, *, lora: bool) -> None:
    state = shape.parameters_b * 1e9 * (2.0 if lora else _STATE_BYTES)
    room = 0.8 * accelerator.memory_gb * 1e9
    if state > room * accelerators:
        raise Unsatisfiable(
            f"accelerators: {state / 1e9:.0f} GB of weights and optimizer state do not fit {accelerators} "
            f"{accelerator.name}; nearest: {math.ceil(state / room)}.",
            param="accelerators",
        )


class ScalingError(msgspec.Struct, frozen=True):
    """One measured scaling efficiency beside its prediction; percent and percentage points."""

    accelerator: str
    accelerators: int
    against: int
    measured: float
    predicted: float
    error_points: float


def scaling_errors(path: Path, benchmark: str = "llama31_405b") -> tuple[ScalingError, ...]:
    """Compare with the scaling of published rows of one round: each accelerator against its smallest row there.

    Reads the columns round, accelerator, nodes, acc_per_node, benchmark, gbs and median_throughput_samples_s.
    """
    sets: dict[tuple[str, str], list[tuple[int, int, float]]] = {}
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["benchmark"] != benchmark or not row["median_throughput_samples_s"]:
                continue
            count = int(row["nodes"]) * int(row["acc_per_node"])
            found = (count, int(row["gbs"]), float(row["median_throughput_samples_s"]))
            sets.setdefault((row["round"], row["accelerator"]), []).append(found)
    errors = []
    for (_, name), rows in sorted(sets.items()):
        first, batch, rate = min(rows)
        for count, samples, throughput in sorted(rows)[1:]:
            measured = (throughput / count) / (rate / first)
            predicted = scaling_efficiency(count, samples, base_accelerators=first, base_batch=batch)
            gap = round(100.0 * (predicted - measured), 2)
            errors.append(
                ScalingError(name, count, first, round(100.0 * measured, 2), round(100.0 * predicted, 2), gap)
            )
    return tuple(errors)
