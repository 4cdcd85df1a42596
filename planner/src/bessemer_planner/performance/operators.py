"""L1 from measurement: what matrix products, experts and all-reduces took on the accelerator itself.

`operators.npz` is distilled from the tables of aiconfigurator-core 0.12.0 (Apache-2.0, see the NOTICE beside it) by
`lab/planner/distil_operators.py`. The tables do not replace first principles, they stand beside them. Experts and
all-reduces are terms of a step like any other (`table_terms`): the calibration learns how much of their time shows in
real engines. Matrix products tilt the weights' term by their distance from the peak. Where no table has an operator its
usual time is taken, and `missing_operators` says so: it is never taken for nothing.
"""

import io
from functools import cache, lru_cache
from importlib.resources import files

import msgspec
import numpy as np
from numpy.typing import NDArray

from bessemer_planner.performance.capacity import routed_parameters
from bessemer_planner.performance.work import peak_terms
from bessemer_planner.types import Accelerator, AttentionKind, Deployment, ModelShape, Precision, ServingEngine

Array = NDArray[np.float64]

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
_BLOCK_SCALED = ("deepseek", "qwen3", "minimax", "glm", "kimi")
"""Where a model does not say (`ModelShape.block_scaled`): families that are served with block-scaled FP8 experts
(`weight_block_size` in the config.json of DeepSeek-R1, Qwen3 and MiniMax-M2; for GLM and Kimi an assumption). FP8
mixtures of others are scaled per tensor, by other kernels."""
_MXFP4 = ("w4a8_mxfp4_mxfp8", "w4a16_mxfp4")
_NEIGHBOURS = 4
_USUAL_GEMM = 1.3
"""Usual log distance of a step's matrix products from their peaks, so that a tilt of nothing means the usual."""
_DENSE_GEMM = {Precision.BF16: 0.28, Precision.FP8: 0.83, Precision.FP4: 1.36, Precision.INT4: 1.32}
_MIXTURE_GEMM = {Precision.BF16: 0.52, Precision.FP8: 1.78, Precision.FP4: 0.88, Precision.INT4: 0.52}
"""The same by format: means of the tables over H100, H200, B200, B300 and GB200, six deployments each of dense models
(8B to 405B, tensor parallel 1 to 8) and of mixtures, 1 to 256 tokens. Scatter 0.1 to 0.3, of mixtures up to 0.9."""
_USUAL_EXPERTS = 1.7
"""Usual time of a step's experts over their reads at the peak (median over the measured deployments)."""
_USUAL_HOP_S = 2.5e-6
"""Usual time of an all-reduce per doubling of its accelerators, before its bytes."""
_LARGEST_TILT = 2.5

TABLE_TERMS = ("expert_kernels", "collectives")


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


def reduce_s(gpu: str, engine: ServingEngine, accelerators: int, values: float) -> float | None:
    """Seconds of one all-reduce of `values` 16-bit numbers. None: no table has the accelerator or the count."""
    logs = _reduce_curve(gpu, engine, accelerators)
    return None if logs is None else float(np.exp(_along(logs, values, 7)))


def table_terms(deployment: Deployment, shape: ModelShape, accelerator: Accelerator, batch: Array) -> Array:
    """Return [len(batch), len(TABLE_TERMS)] seconds of all experts' kernels and of all all-reduces of one step.

    Without a table: the usual multiple of the experts' reads, and the usual latency of an all-reduce.
    """
    experts, collectives = np.zeros_like(batch), np.zeros_like(batch)
    world = deployment.tp * deployment.dp
    if shape.moe is not None:
        logs = _mixture_curve(deployment, shape, accelerator)
        reads = peak_terms(deployment, shape, accelerator, batch, np.zeros_like(batch))[:, 1]
        experts = _USUAL_EXPERTS * reads if logs is None else shape.moe.layers * np.exp(_along(_rising(logs), batch, 0))
    if world > 1:
        logs = _reduce_curve(accelerator.name, deployment.engine, world)
        usual = np.full_like(batch, _USUAL_HOP_S * np.log2(world))
        once = usual if logs is None else np.exp(_along(_rising(logs), batch / deployment.dp * shape.hidden, 7))
        collectives = 2.0 * shape.layers * once
    return np.stack([experts, collectives], axis=1)


@lru_cache(maxsize=20_000)
def operator_tilts(
    deployment: Deployment, shape: ModelShape, accelerator: Accelerator, batch: float
) -> dict[str, float]:
    """Return how far the measured matrix products of one step are from their peaks, beyond the usual, in log units.

    Without a table: as far as products of the format are on the accelerators that have one.
    """
    peaks = peak_terms(deployment, shape, accelerator, np.array([float(batch)]), np.zeros(1))[0]
    dense, _ = forward_s(deployment, shape, accelerator, float(batch))
    usual = (_DENSE_GEMM if shape.moe is None else _MIXTURE_GEMM)[deployment.precision]
    distance = usual if dense is None else float(np.log(dense / (peaks[0] + 0.5 * peaks[3])))
    beyond = distance - _USUAL_GEMM
    return {"gemm": float(np.clip(beyond, -_LARGEST_TILT, _LARGEST_TILT))}


def missing_operators(deployment: Deployment, shape: ModelShape, accelerator: Accelerator) -> tuple[str, ...]:
    """Name the kinds of operators that no table has for a deployment: their usual times are taken."""
    missing = []
    if forward_s(deployment, shape, accelerator, 32.0)[0] is None:
        missing.append("matrix products")
    if shape.moe is not None and _mixture_curve(deployment, shape, accelerator) is None:
        missing.append("experts")
    world = deployment.tp * deployment.dp
    if world > 1 and _reduce_curve(accelerator.name, deployment.engine, world) is None:
        missing.append("all-reduce")
    return tuple(missing)


def head_dtypes(deployment: Deployment, shape: ModelShape) -> tuple[str, ...]:
    """Return the formats of the dense products, best first: a mixture in four bits keeps them in sixteen."""
    precision = deployment.precision
    four_bit_mixture = shape.moe is not None and precision in (Precision.FP4, Precision.INT4)
    return _GEMM[Precision.BF16] if four_bit_mixture else _GEMM[precision]


def forward_s(
    deployment: Deployment, shape: ModelShape, accelerator: Accelerator, tokens: float
) -> tuple[float | None, float | None]:
    """Seconds of all dense products and of all experts in one pass over `tokens` of the replica."""
    tp, moe = deployment.tp, shape.moe
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
    logs = _mixture_curve(deployment, shape, accelerator)
    return total, None if logs is None else moe.layers * float(np.exp(_along(logs, tokens, 0)))


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
        if group.attention in (AttentionKind.GQA, AttentionKind.SLIDING):
            wide = group.heads * group.head_dim
            kv = 2 * max(tp, group.kv_heads) * group.head_dim
            found += [(group.count, (wide + kv) // tp, hidden), (group.count, hidden, wide // tp)]
        else:
            third = max(64, int(rest / shape.layers / 3.0 / hidden / tp))
            found.append((3 * group.count, third, hidden))
    return tuple((count, max(n, 64), max(k, 64)) for count, n, k in found)


def _mixture_curve(deployment: Deployment, shape: ModelShape, accelerator: Accelerator) -> Array | None:
    """Return the log seconds of one layer's experts as a deployment splits them."""
    world, precision = deployment.tp * deployment.dp, deployment.precision
    ep = min(deployment.ep, world)
    names = _EXPERTS[precision]
    if precision is Precision.FP4 and "gpt-oss" in shape.name.lower():
        names = _MXFP4
    elif precision is Precision.FP8 and not _block_scaled(shape):
        names = tuple(reversed(names))
    return _expert_curve(accelerator.name, deployment.engine, names, shape, world // ep, ep)


def _block_scaled(shape: ModelShape) -> bool:
    if shape.block_scaled is not None:
        return shape.block_scaled
    return shape.name.rsplit("/", 1)[-1].lower().startswith(_BLOCK_SCALED)


def _expert_curve(
    gpu: str, engine: ServingEngine, dtypes: tuple[str, ...], shape: ModelShape, tp: int, ep: int
) -> Array | None:
    """Return log seconds over powers of two of tokens: the engine's own kernels, else another engine's."""
    tables, moe = load_tables(), shape.moe
    if gpu not in tables.gpus or moe is None:
        return None
    for name in (engine.value, *(e for e in ("trtllm", "sglang", "vllm") if e != engine.value)):
        for dtype in dtypes:
            key = (tables.gpus.index(gpu), tables.engines.index(name), tables.dtypes.index(dtype))
            logs = tables.experts.get((*key, shape.hidden, moe.expert_hidden, moe.active, moe.experts, tp, ep))
            if logs is not None:
                return logs
    return None


def _reduce_curve(gpu: str, engine: ServingEngine, accelerators: int) -> Array | None:
    """Return log seconds of an all-reduce over powers of two of 16-bit values, from 2^7."""
    tables = load_tables()
    if gpu not in tables.gpus:
        return None
    return tables.reduce.get((tables.gpus.index(gpu), tables.engines.index(engine.value), accelerators))


def _by_key(keys: NDArray[np.int32], logs: NDArray[np.float16]) -> dict[tuple[int, ...], Array]:
    return {tuple(key): row for key, row in zip(keys.tolist(), logs.astype(np.float64), strict=True)}


def _along(logs: Array, size: float | Array, first_power: int) -> Array:
    """Interpolate on the grid of powers of two; beyond the last measured size time grows in proportion."""
    known = np.flatnonzero(np.isfinite(logs))
    grid = (known + first_power) * np.log(2.0)
    at = np.log(np.maximum(size, 1.0))
    found: Array = np.interp(at, grid, logs[known]) + np.maximum(0.0, at - grid[-1])
    return found


def _rising(logs: Array) -> Array:
    """Return the curve without its dips (one kernel giving way to another): times are monotone in load."""
    rising: Array = np.maximum.accumulate(logs)
    return rising


def _between(found: tuple[Array, Array], m: float, n: int, k: int) -> float:
    shapes, logs = found
    asked = np.log([n, k])
    apart = ((shapes - asked) ** 2).sum(axis=1)
    close = np.argsort(apart)[:_NEIGHBOURS]
    share = 1.0 / (apart[close] + 1e-4)
    work = asked.sum() - shapes[close].sum(axis=1)
    values = np.array([_along(logs[i], m, 0) for i in close]) + work
    return float(np.exp((share * values).sum() / share.sum()))
