"""How full training scales over accelerators, beside published rows (mlcommons/training_results_v5.0 and v5.1).

A step is stretched by the pipeline bubble: micro-batches per pipeline fall as accelerators grow.
"""

import csv
from pathlib import Path

import msgspec

_MODEL_PARALLEL = 64
"""Accelerators that share one copy of a 405B model (tensor, pipeline and context parallel)."""
_BUBBLE = 2.0
"""(pipeline stages - 1) / virtual stages: fitted to the 405B rows, 1.9 on H100 and 2.4 on GB200."""


def scaling_efficiency(
    accelerators: int, batch: int, *, base_accelerators: int = 512, base_batch: int | None = None
) -> float:
    """Return throughput per accelerator against `base_accelerators` (full training, batch in samples).

    Micro-batches per pipeline fall as accelerators grow: the bubble is `_BUBBLE / micro-batches` of a step.
    """

    def stretch(count: int, samples: int) -> float:
        return 1.0 + _BUBBLE * count / (samples * _MODEL_PARALLEL)

    return stretch(base_accelerators, base_batch or batch) / stretch(accelerators, batch)


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
