"""The compiled simulator: built once with the machine's C compiler and kept in the user's cache folder.

Without a compiler `load` returns None and the caller goes step by step, with the same results.
"""

import ctypes
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bessemer_planner.native import compiled
from bessemer_planner.simulator.lowering import Lowered
from bessemer_planner.simulator.outcome import OutcomeArrays, ScaleRow
from bessemer_planner.simulator.types import Ints

_SOURCES = ("simulator.c", "cluster.h", "replica.h", "prefix_cache.h")
_ARRAYS = (
    *("pools", "decode", "arrival", "prompt", "output", "entry", "deadline", "escalate", "offsets", "hashes"),
    *("failures", "sent", "first", "finish", "replica", "preempted", "reused", "retries", "escalated", "rejected"),
    *("busy", "powered", "steps", "scaling"),
)
_COUNTS = (
    *("pool_count", "request_count", "replica_count", "failures_count", "hash_tokens", "concurrency", "seed"),
    *("scaling_capacity", "scaling_count", "end"),
)
_one_at_a_time = threading.Lock()


class _Run(ctypes.Structure):
    """Inputs and outputs, in the order of `Run` in replica.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _ARRAYS),
        *((name, ctypes.c_int64) for name in _COUNTS),
    )


@cache
def load() -> Callable[[Lowered], OutcomeArrays] | None:
    """Return the compiled simulator, compiling it when it is not in the cache folder; None without a C compiler."""
    library = _library()
    if library is None:
        return None
    function = ctypes.CDLL(str(library)).simulate
    function.argtypes, function.restype = [ctypes.POINTER(_Run)], ctypes.c_int
    return lambda lowered: _run(function, lowered)


def _run(function: Callable[[Any], int], lowered: Lowered) -> OutcomeArrays:
    ticks = sum(2 * int(lowered.arrival[-1]) // row.scale_interval for row in lowered.pools if row.scale_interval)
    rows = ticks + 1024
    while True:
        outcome = OutcomeArrays.empty(len(lowered.arrival), lowered.replicas)
        scaling = np.zeros((rows, 5), np.int64)
        run, kept = _arguments(lowered, outcome, scaling)
        with _one_at_a_time:
            failed = function(ctypes.byref(run))
        del kept
        if failed:
            raise MemoryError("the simulator ran out of memory")
        if run.scaling_count <= rows:
            break
        rows = int(run.scaling_count)
    outcome.end = int(run.end)
    outcome.scaling = [ScaleRow(*row) for row in scaling[: run.scaling_count].tolist()]
    return outcome


def _arguments(lowered: Lowered, outcome: OutcomeArrays, scaling: Ints) -> tuple[_Run, list[Ints]]:
    """The C struct, and the arrays it points into, to be kept alive as long as it."""
    arrays: list[Ints] = [
        np.array(lowered.pools, np.int64),
        *(lowered.decode, lowered.arrival, lowered.prompt, lowered.output, lowered.entry, lowered.deadline),
        *(lowered.escalate, lowered.block_offsets, lowered.block_hashes, np.ascontiguousarray(lowered.failures)),
        *(outcome.sent, outcome.first, outcome.finish, outcome.replica, outcome.preempted, outcome.reused),
        *(outcome.retries, outcome.escalated, outcome.rejected),
        *(outcome.busy, outcome.powered, outcome.steps, scaling),
    ]
    assert all(array.dtype == np.int64 and array.flags.c_contiguous for array in arrays)
    counts = (
        *(len(lowered.pools), len(lowered.arrival), lowered.replicas, len(lowered.failures), lowered.hash_tokens),
        *(lowered.concurrency, ctypes.c_int64(lowered.seed).value, len(scaling), 0, 0),
    )
    return _Run(*(array.ctypes.data for array in arrays), *counts), arrays


def _library() -> Path | None:
    source, *includes = (Path(__file__).with_name(name) for name in _SOURCES)
    return compiled(source, ["-O2"], includes)
