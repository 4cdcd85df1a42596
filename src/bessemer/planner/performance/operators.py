"""L1 from measurement: what matrix products, experts and all-reduces took on the accelerator itself.

`operators.npz` is distilled from the tables of aiconfigurator-core 0.12.0 (Apache-2.0, see the NOTICE beside it) by
`bench/distil_operators.py`. The tables do not replace first principles, they tilt them: the calibration learns how
much of the distance between a measured operator and its peak shows in real engines. Where no table has an operator
there is no tilt, and `missing_operators` says so: it is never taken for nothing.
"""

import io
from functools import cache, lru_cache
from importlib.resources import files

import msgspec
import numpy as np
from numpy.typing import NDArray

from bessemer.planner.performance.capacity import routed_parameters
from bessemer.planner.performance.work import decode_terms, prefill_terms
from bessemer.planner.types import Accelerator, Attention, Deployment, Engine, ModelShape, Precision

Array = NDArray[np.float64]
Shapes = dict[tuple[int, ...], Array]

_GEMM = {
    Precision.BF16: ("bfloat16",),
    Precision.INT4: ("int4_wo", "bfloat16"),
    Precision.FP8: ("fp8",),
    Precision.FP4: ("nvfp4", "fp8"),
}
_EXPERTS = {
    Precision.BF16: ("bfloat16",),
    Precision.INT4: ("int4_wo",),
    Precision.FP8: ("fp8_block", "fp8"),
    Precision.FP4: ("nvfp4", "w4a8_mxfp4_mxfp8", "w4a16_mxfp4"),
}
_MXFP4 = ("w4a8_mxfp4_mxfp8", "w4a16_mxfp4")
_NEIGHBOURS = 4
_USUAL = {"gemm": 1.3, "experts": 0.6, "reduce": 1.0, "prefill": 2.0}
"""Usual log distance of a table from the peak, so that a tilt of nothing means the usual."""
_LARGEST_TILT = 2.5
_CHUNK = 8192.0


class Tables(msgspec.Struct, frozen=True):
    """The distilled tables: log seconds over a grid of sizes, by key."""

    gpus: tuple[str, ...]
    dtypes: tuple[str, ...]
    gemm: dict[tuple[int, int], tuple[Array, Array]]
    """(gpu, dtype) -> log (n, k) [shapes, 2] and log seconds [shapes, grid] over m = 1 ... 16384."""
    experts: dict[tuple[int, ...], Array]
    reduce: dict[tuple[int, ...], Array]
    engines: tuple[str, ...]


@cache
def load_tables() -> Tables:
    """Return the shipped tables, parsed once."""
    with np.load(io.BytesIO(files(__package__).joinpath("operators.npz").read_bytes())) as arrays:
        keys, logs = arrays["gemm_keys"], arrays["gemm_log_s"].astype(np.float64)
        gemm = {}
        for gpu, dtype in {(int(k[0]), int(k[1])) for k in keys}:
            chosen = (keys[:, 0] == gpu) & (keys[:, 1] == dtype)
            gemm[gpu, dtype] = (np.log(keys[chosen, 2:].astype(np.float64)), logs[chosen])
        return Tables(
            gpus=tuple(arrays["gpus"].tolist()),
            dtypes=tuple(arrays["dtypes"].tolist()),
            gemm=gemm,
            experts=_by_key(arrays["experts_keys"], arrays["experts_log_s"]),
            reduce=_by_key(arrays["reduce_keys"], arrays["reduce_log_s"]),
            engines=tuple(arrays["engines"].tolist()),
        )


def gemm_s(gpu: str, dtypes: tuple[str, ...], m: float, n: int, k: int) -> float | None:
    """Seconds of one matrix product; between measured shapes by inverse distance over work. None: no table."""
    tables = load_tables()
    if gpu not in tables.gpus:
        return None
    for dtype in dtypes:
        found = tables.gemm.get((tables.gpus.index(gpu), tables.dtypes.index(dtype)))
        if found is not None:
            return _between(found, m, n, k)
    return None


def experts_s(
    gpu: str, engine: Engine, dtypes: tuple[str, ...], tokens: float, shape: ModelShape, tp: int, ep: int
) -> float | None:
    """Seconds of one layer's routed experts for `tokens` of the whole replica. None: no table has the mixture."""
    tables, moe = load_tables(), shape.moe
    if gpu not in tables.gpus or moe is None:
        return None
    engines = (engine.value, *(e for e in ("trtllm", "sglang", "vllm") if e != engine.value))
    for name in engines:
        for dtype in dtypes:
            key = (tables.gpus.index(gpu), tables.engines.index(name), tables.dtypes.index(dtype))
            logs = tables.experts.get((*key, shape.hidden, moe.expert_hidden, moe.active, moe.experts, tp, ep))
            if logs is not None:
                return float(np.exp(_along(logs, tokens, 0)))
    return None


def reduce_s(gpu: str, engine: Engine, accelerators: int, values: float) -> float | None:
    """Seconds of one all-reduce of `values` 16-bit numbers. None: no table has the accelerator or the count."""
    tables = load_tables()
    if gpu not in tables.gpus:
        return None
    logs = tables.reduce.get((tables.gpus.index(gpu), tables.engines.index(engine.value), accelerators))
    return None if logs is None else float(np.exp(_along(logs, values, 7)))


@lru_cache(maxsize=20_000)
def operator_tilts(
    deployment: Deployment, shape: ModelShape, accelerator: Accelerator, batch: float, isl: float
) -> dict[str, float]:
    """Return how far the measured operators of one step are from their peaks, beyond the usual, in log units."""
    at = (deployment, shape, accelerator)
    one = np.array([float(batch)])
    peaks = decode_terms(*at, one, np.zeros(1))[0]
    tokens = np.array([min(_CHUNK, float(isl))])
    prompt = prefill_terms(*at, tokens, np.zeros(1))[0]
    dense, routed = forward_s(*at, float(batch))
    long_dense, long_routed = forward_s(*at, float(tokens[0]))
    tilts = {}
    if dense is not None:
        tilts["gemm"] = np.log(dense / (peaks[0] + 0.5 * peaks[3])) - _USUAL["gemm"]
    if routed:
        tilts["experts"] = np.log(routed / peaks[1]) - _USUAL["experts"]
    if long_dense is not None and long_routed is not None:
        tilts["prefill"] = np.log((long_dense + long_routed) / prompt[0]) - _USUAL["prefill"]
    world = deployment.tp * deployment.dp
    if world > 1:
        size = batch if deployment.dp > 1 else batch / deployment.dp
        once = reduce_s(accelerator.name, deployment.engine, world, size * shape.hidden)
        if once is not None:
            expected = peaks[5] + 4e-6 * shape.layers
            tilts["reduce"] = np.log(2.0 * shape.layers * once / expected) - _USUAL["reduce"]
    return {kind: float(np.clip(value, -_LARGEST_TILT, _LARGEST_TILT)) for kind, value in tilts.items()}


def missing_operators(deployment: Deployment, shape: ModelShape, accelerator: Accelerator) -> tuple[str, ...]:
    """Name the kinds of operators that no table has for a deployment: they are predicted from peaks alone."""
    tilts = operator_tilts(deployment, shape, accelerator, 32.0, 1024.0)
    wanted = {"gemm": "matrix products"}
    if shape.moe is not None:
        wanted["experts"] = "experts"
    if deployment.tp * deployment.dp > 1:
        wanted["reduce"] = "all-reduce"
    return tuple(name for kind, name in wanted.items() if kind not in tilts)


def head_dtypes(deployment: Deployment, shape: ModelShape) -> tuple[str, ...]:
    """Return the formats of the dense products, best first: a mixture in four bits keeps them in sixteen."""
    precision = deployment.precision
    four_bit_mixture = shape.moe is not None and precision in (Precision.FP4, Precision.INT4)
    return _GEMM[Precision.BF16] if four_bit_mixture else _GEMM[precision]


def forward_s(
    deployment: Deployment, shape: ModelShape, accelerator: Accelerator, tokens: float
) -> tuple[float | None, float | None]:
    """Seconds of all dense products and of all experts in one pass over `tokens` of the replica."""
    tp, moe, precision = deployment.tp, shape.moe, deployment.precision
    dtypes = head_dtypes(deployment, shape)
    local = max(1.0, tokens / deployment.dp)
    total = 0.0
    for count, n, k in _products(shape, tp):
        once = gemm_s(accelerator.name, dtypes, local, n, k)
        if once is None:
            return None, None
        total += count * once
    if moe is None:
        return total, 0.0
    world = tp * deployment.dp
    ep = min(deployment.ep, world)
    names = _MXFP4 if precision is Precision.FP4 and "gpt-oss" in shape.name else _EXPERTS[precision]
    once = experts_s(accelerator.name, deployment.engine, names, tokens, shape, world // ep, ep)
    return total, None if once is None else moe.layers * once


@lru_cache(maxsize=1_000)
def _products(shape: ModelShape, tp: int) -> tuple[tuple[int, int, int], ...]:
    """Return (count, n, k) of the dense matrix products of one accelerator; attention other than grouped queries as
    three products of a third of its weights each."""
    moe, hidden = shape.moe, shape.hidden
    found: list[tuple[int, int, int]] = [(1, shape.vocabulary // tp, hidden)]
    dense_layers = shape.layers - (moe.layers if moe else 0)
    if dense_layers:
        found += [
            (dense_layers, 2 * shape.dense_hidden // tp, hidden),
            (dense_layers, hidden, shape.dense_hidden // tp),
        ]
    shared = 3.0 * hidden * moe.shared_hidden * moe.layers if moe else 0.0
    if moe and moe.shared_hidden:
        found += [(moe.layers, 2 * moe.shared_hidden // tp, hidden), (moe.layers, hidden, moe.shared_hidden // tp)]
    rest = shape.parameters_b * 1e9 - routed_parameters(shape) - 2.0 * shape.vocabulary * hidden - shared
    rest -= 3.0 * hidden * shape.dense_hidden * dense_layers
    for group in shape.groups:
        if group.attention in (Attention.GQA, Attention.SLIDING):
            wide = group.heads * group.head_dim
            kv = 2 * max(tp, group.kv_heads) * group.head_dim
            found += [(group.count, (wide + kv) // tp, hidden), (group.count, hidden, wide // tp)]
        else:
            third = max(64, int(rest / shape.layers / 3.0 / hidden / tp))
            found.append((3 * group.count, third, hidden))
    return tuple((count, max(n, 64), max(k, 64)) for count, n, k in found)


def _by_key(keys: NDArray[np.int32], logs: NDArray[np.float16]) -> dict[tuple[int, ...], Array]:
    return {tuple(key): row for key, row in zip(keys.tolist(), logs.astype(np.float64), strict=True)}


def _along(logs: Array, size: float, first_power: int) -> float:
    """Interpolate on the grid of powers of two; beyond the last measured size time grows in proportion."""
    known = np.flatnonzero(np.isfinite(logs))
    grid = (known + first_power) * np.log(2.0)
    at = np.log(max(size, 1.0))
    return float(np.interp(at, grid, logs[known]) + max(0.0, at - grid[-1]))


def _between(found: tuple[Array, Array], m: float, n: int, k: int) -> float:
    shapes, logs = found
    asked = np.log([n, k])
    apart = ((shapes - asked) ** 2).sum(axis=1)
    close = np.argsort(apart)[:_NEIGHBOURS]
    share = 1.0 / (apart[close] + 1e-4)
    work = asked.sum() - shapes[close].sum(axis=1)
    values = np.array([_along(logs[i], m, 0) for i in close]) + work
    return float(np.exp((share * values).sum() / share.sum()))
