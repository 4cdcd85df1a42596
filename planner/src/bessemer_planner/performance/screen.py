"""Which measured rows cannot be believed, by rules that look at measurements alone and never at a prediction."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.models import model_shape
from bessemer_planner.performance.capacity import capacity
from bessemer_planner.performance.measured import BadRow, MeasuredRow
from bessemer_planner.types import Accelerator, ModelShape, Precision

LARGEST_TP = 8
LARGEST_MFU = 0.6
SLOWER_THAN_LARGER = 1.3
REPEATS_APART = 1.5
BROKEN_SHARE = 0.25
MOST_DRAFTED = 10.0
"""Tokens that one step can bring: more than any published speculative decoding accepts."""
_LEAST_BYTES = 0.5
"""Of a weight, in the narrowest format that is served."""

RULES = (
    "A time that is not a positive number.",
    "An accelerator that the catalogue does not know.",
    f"A time per output token below 1/{MOST_DRAFTED:.0f} of the time in which the accelerators read "
    "the active weights once at 4 bits and peak bandwidth: no hardware can. Such a row stays out of `all_rows`, too.",
    f"Aggregated, with a tensor-parallel size above {LARGEST_TP} or one that does not divide the attention heads: the "
    "sum over the workers of a disaggregated deployment, recorded as one.",
    f"An implied model-flops utilisation above {LARGEST_MFU}, B / (TTFT + TPOT (OSL - 1)) (ISL + OSL) 2 P / (n peak): "
    "faster than any engine, a warm prefix cache.",
    "Time to first token above the time of all other tokens although the KV of all clients fits: clients waited "
    "outside the engine, the recorded concurrency is not the engine's.",
    f"Time per output token above {SLOWER_THAN_LARGER} times that of the same sweep at a larger concurrency: a larger "
    "batch is not faster.",
    f"Repeats of one point of one sweep that are more than {REPEATS_APART} times apart: none of them is believed.",
    f"A sweep of which more than {BROKEN_SHARE:.0%} of the rows break the two rules before: all of it.",
    "The only row of its day, in a source file whose sweep of the same configuration on another day is dropped whole "
    "by the rule before: judged with it, as one run past midnight.",
)


def screen(
    rows: Iterable[MeasuredRow], accelerators: dict[str, Accelerator]
) -> tuple[tuple[MeasuredRow, ...], tuple[BadRow, ...]]:
    """Split rows into believable ones and bad ones, each with the rule (`RULES`) that it breaks."""
    rows = tuple(rows)
    faults = {row.id: fault for row in rows if (fault := _fault(row, accelerators)) is not None}
    sweeps: dict[tuple[object, ...], list[MeasuredRow]] = defaultdict(list)
    for row in rows:
        if row.mode == "agg" and row.id not in faults:
            sweeps[row.sweep].append(row)
    dropped: set[tuple[object, ...]] = set()
    for sweep in sweeps.values():
        found = _inconsistent(sweep)
        faults.update(found)
        if len(found) == len(sweep):
            dropped.add(_any_day(sweep[0]))
    for sweep in sweeps.values():
        if len(sweep) == 1 and _any_day(sweep[0]) in dropped:
            faults.setdefault(sweep[0].id, "its configuration is inconsistent on another day of the same source file")
    good = tuple(row for row in rows if row.id not in faults)
    return good, tuple(BadRow(row.id, faults[row.id]) for row in rows if row.id in faults)


def started_together(rows: Sequence[MeasuredRow]) -> NDArray[np.bool_]:
    """Return which rows' first tokens came later than with more clients in the same sweep: their runs were too short to
    forget the start. No time to first token is learned from them; they are scored like all others."""
    sweeps: dict[tuple[object, ...], list[MeasuredRow]] = defaultdict(list)
    for row in rows:
        sweeps[row.sweep].append(row)
    return np.array(
        [
            any(
                o.concurrency > row.concurrency and row.ttft_s > SLOWER_THAN_LARGER * o.ttft_s
                for o in sweeps[row.sweep]
            )
            for row in rows
        ],
        dtype=bool,
    )


def implied_mfu(row: MeasuredRow, shape: ModelShape, accelerator: Accelerator) -> float:
    """Model-flops utilisation that a row implies if every prompt token was computed."""
    peak = {
        Precision.BF16: accelerator.bf16_tflops,
        Precision.INT4: accelerator.bf16_tflops,
        Precision.FP8: accelerator.fp8_tflops or accelerator.bf16_tflops,
        Precision.FP4: accelerator.fp4_tflops or accelerator.fp8_tflops or accelerator.bf16_tflops,
    }[row.deployment.precision]
    rate = row.concurrency / (row.ttft_s + row.tpot_s * (row.osl - 1)) * (row.isl + row.osl)
    return rate * 2.0 * shape.active_b * 1e9 / (row.deployment.accelerators * peak * 1e12)


def impossible(row: MeasuredRow, accelerator: Accelerator) -> bool:
    """Whether no hardware of its kind can be as fast as a row says: its time would make any mean error meaningless."""
    weights = model_shape(row.model).active_b * 1e9 * _LEAST_BYTES
    once = weights / (row.deployment.accelerators * accelerator.bandwidth_tbs * 1e12)
    return row.tpot_s < once / MOST_DRAFTED


def _fault(row: MeasuredRow, accelerators: dict[str, Accelerator]) -> str | None:
    """Apply the rules that look at one row."""
    name = row.deployment.accelerator
    if not all(math.isfinite(t) and t > 0 for t in (row.ttft_s, row.tpot_s)):
        return "time is not a positive number"
    if name not in accelerators:
        return f"accelerator {name} is not in the catalogue"
    if impossible(row, accelerators[name]):
        return f"time per output token of {1e3 * row.tpot_s:.3g} ms: the weights cannot be read that fast"
    return _unbelievable(row, accelerators[name]) if row.mode == "agg" else None


def _unbelievable(row: MeasuredRow, accelerator: Accelerator) -> str | None:
    """Apply the rules that need the hardware, to an aggregated row."""
    shape, tp = model_shape(row.model), row.deployment.tp
    if tp > LARGEST_TP or any(g.heads % tp for g in shape.groups):
        return f"aggregated with tensor-parallel size {tp}: a disaggregated deployment recorded as one"
    utilisation = implied_mfu(row, shape, accelerator)
    if utilisation > LARGEST_MFU:
        return f"implied utilisation {utilisation:.2f} of peak: faster than the hardware, a warm prefix cache"
    if row.ttft_s > row.tpot_s * (row.osl - 1) and _all_fit(row, shape, accelerator):
        return "clients waited outside the engine: the recorded concurrency is not the engine's"
    return None


def _all_fit(row: MeasuredRow, shape: ModelShape, accelerator: Accelerator) -> bool:
    try:
        room = capacity(row.deployment, shape, accelerator, max_batch=row.concurrency)
    except Unsatisfiable:
        return False
    return room.kv_tokens > row.concurrency * (row.isl + row.osl)


def _any_day(row: MeasuredRow) -> tuple[object, ...]:
    """Return what rows of one sweep have in common but for their date."""
    return msgspec.structs.replace(row, date="").sweep


def _inconsistent(sweep: Sequence[MeasuredRow]) -> dict[str, str]:
    """Apply the rules that compare the rows of one sweep."""
    faults: dict[str, str] = {}
    for row in sweep:
        for other in sweep:
            if row.concurrency < other.concurrency and row.tpot_s > SLOWER_THAN_LARGER * other.tpot_s:
                faults.setdefault(row.id, f"slower than the same sweep at concurrency {other.concurrency}")
            if row.concurrency == other.concurrency and row.tpot_s > REPEATS_APART * other.tpot_s:
                for one in (row, other):
                    faults.setdefault(one.id, "repeats of the same point disagree")
    if len(faults) > BROKEN_SHARE * len(sweep):
        for row in sweep:
            faults.setdefault(row.id, "its sweep is inconsistent")
    return faults
