"""Distil the operator tables of aiconfigurator-core into the small table that the planner ships.

    pip install aiconfigurator-core        # brings pyarrow
    python -m lab.planner.distil_operators SYSTEMS_FOLDER planner/src/bessemer_planner/performance/operators.npz

SYSTEMS_FOLDER is `aiconfigurator_core/systems` of the installed package (Apache-2.0, NVIDIA CORPORATION & AFFILIATES).
Kept: GEMM under TensorRT-LLM (its kernels run inside CUDA graphs, without the launch time of an eager loop), experts
of known mixtures per engine, all-reduce per engine; times as 16-bit natural logarithms of seconds at powers of two.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bessemer_planner.models import known_models, model_shape

GPUS = ("a100_sxm", "l40s", "rtx_pro_6000_server", "h100_sxm", "h200_sxm", "b200_sxm", "b300_sxm", "gb200", "gb300")
NAMES = {"a100_sxm": "a100"}
"""Names in the catalogue where they differ."""
ENGINES = ("vllm", "sglang", "trtllm")
TOKENS = 2 ** np.arange(15)
BYTES = 2 ** np.arange(7, 29)
DTYPES = ("bfloat16", "fp8", "fp8_block", "nvfp4", "int4_wo", "w4a16_mxfp4", "w4a8_mxfp4_mxfp8")
ROUTING = "power_law_1.2"
_Keys = list[tuple[int, ...]]
Curves = list[NDArray[np.float64]]


def tables(systems: Path, gpu: str, operator: str, engine: str, name: str) -> Iterator[dict[str, list[Any]]]:
    """Yield the tables of one operator, oldest version first, as columns."""
    for path in sorted((systems / "data" / gpu / operator / engine).glob(f"*/{name}.parquet")):
        yield pq.read_table(path).to_pydict()


def curve(times: dict[int, float], at: NDArray[np.int64]) -> NDArray[np.float64]:
    """Interpolate log seconds at the grid `at` (outside the measured sizes: NaN)."""
    sizes = np.array(sorted(times), dtype=np.float64)
    logs = np.log([times[int(s)] * 1e-3 for s in sizes])
    found: NDArray[np.float64] = np.interp(np.log(at), np.log(sizes), logs, left=logs[0], right=np.nan)
    return found


def gemm(systems: Path) -> tuple[_Keys, Curves]:
    """Return keys (gpu, dtype, n, k) and curves over m."""
    keys: _Keys = []
    curves: Curves = []
    for g, gpu in enumerate(GPUS):
        found: dict[tuple[int, ...], dict[int, float]] = defaultdict(dict)
        for table in tables(systems, gpu, "gemm", "trtllm", "gemm_perf"):
            for dtype, m, n, k, ms in zip(*(table[c] for c in ("gemm_dtype", "m", "n", "k", "latency")), strict=True):
                if dtype in DTYPES:
                    times = found[DTYPES.index(dtype), n, k]
                    times[m] = min(ms, times.get(m, ms))
        for key, times in sorted(found.items()):
            keys.append((g, *key))
            curves.append(curve(times, TOKENS))
    return keys, curves


def experts(systems: Path) -> tuple[_Keys, Curves]:
    """Return keys (gpu, engine, dtype, hidden, expert hidden, active, experts, tp, ep) and curves over tokens."""
    mixtures = [(model_shape(name).hidden, moe) for name in known_models() if (moe := model_shape(name).moe)]
    wanted = {(hidden, moe.expert_hidden, moe.active, moe.experts) for hidden, moe in mixtures}
    columns = ("moe_dtype", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size")
    keys: _Keys = []
    curves: Curves = []
    for g, gpu in enumerate(GPUS):
        for e, engine in enumerate(ENGINES):
            found: dict[tuple[int, ...], dict[int, float]] = defaultdict(dict)
            for table in tables(systems, gpu, "moe", engine, "moe_perf"):
                routing, tokens, ms = table["distribution"], table["num_tokens"], table["latency"]
                for i, key in enumerate(zip(*(table[c] for c in columns), strict=True)):
                    dtype, hidden, inter, topk, count, tp, ep = key
                    small = tp * ep <= 64
                    if routing[i] == ROUTING and dtype in DTYPES and (hidden, inter, topk, count) in wanted and small:
                        found[DTYPES.index(dtype), hidden, inter, topk, count, tp, ep][tokens[i]] = ms[i]
            for key, times in sorted(found.items()):
                keys.append((g, e, *key))
                curves.append(curve(times, TOKENS))
    return keys, curves


def reduces(systems: Path) -> tuple[_Keys, Curves]:
    """Return keys (gpu, engine, accelerators) and curves over 16-bit values exchanged."""
    keys: _Keys = []
    curves: Curves = []
    for g, gpu in enumerate(GPUS):
        for e, engine in enumerate(ENGINES):
            found: dict[int, dict[int, float]] = defaultdict(dict)
            for table in tables(systems, gpu, "comm", engine, "custom_allreduce_perf"):
                for n, size, ms in zip(*(table[c] for c in ("num_gpus", "message_size", "latency")), strict=True):
                    found[n][size] = min(ms, found[n].get(size, ms))
            for n, times in sorted(found.items()):
                keys.append((g, e, n))
                curves.append(curve(times, BYTES))
    return keys, curves


def main() -> None:
    """Write the distilled table."""
    systems, target = Path(sys.argv[1]), Path(sys.argv[2])
    arrays: dict[str, NDArray[np.generic]] = {
        "gpus": np.array([NAMES.get(g, g) for g in GPUS]),
        "engines": np.array(ENGINES),
        "dtypes": np.array(DTYPES),
    }
    for name, build in (("gemm", gemm), ("experts", experts), ("reduce", reduces)):
        keys, curves = build(systems)
        arrays[f"{name}_keys"] = np.array(keys, dtype=np.int32)
        arrays[f"{name}_log_s"] = np.array(curves, dtype=np.float16)
        print(name, arrays[f"{name}_log_s"].shape)
    np.savez_compressed(target, **arrays)  # type: ignore[arg-type]
    print(target, target.stat().st_size)


if __name__ == "__main__":
    main()
