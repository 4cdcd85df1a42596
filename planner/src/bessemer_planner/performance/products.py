"""What the tokens of a step add to its dense matrix products, at least: a floor under the fitted coefficients.

Most measured rows are short of tokens: their products take an eighth of the step and less (half of it in some of
Hopper), so `compute` and `prefill` are fitted where reading the weights hides most of the arithmetic. Where a step has
more tokens (large batches, long prompts) time is arithmetic, and what that takes was measured apart from any engine.
"""

from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from bessemer_planner.performance.operators import forward_s
from bessemer_planner.performance.step import TERMS
from bessemer_planner.performance.work import MATMUL_SHARE, machine, parts
from bessemer_planner.types import Accelerator, Deployment, ModelShape, Precision

Array = NDArray[np.float64]

_ARITHMETIC = [TERMS.index("compute"), TERMS.index("prefill")]
_GRID = 2.0 ** np.arange(0.0, 17.5, 0.5)
"""Tokens at which the tables are read: 1 to 131,072."""


def added_s(deployment: Deployment, shape: ModelShape, accelerator: Accelerator, tokens: Array) -> Array:
    """Return the least seconds [len(tokens)] that `tokens` of one step add to products that one token makes as well.

    The lower of two measured figures. One is T(tokens) - T(1) of the operator tables: reading the weights and launches
    are in both and drop out. The other is the arithmetic at the share of the peak that products sustain, less the time
    to read the weights, which it hides; four bits have none. Zero for a mixture of experts: outside its experts
    products are small, and those are terms of their own.
    """
    if shape.moe is not None:
        return np.zeros_like(tokens)
    plain = msgspec.structs.replace(deployment, engine_version=None, pp=1, instance=None)
    found: Array = np.interp(tokens, *_curve(plain, shape, accelerator))
    return found


def beyond_fit(seconds: Array, added: Array) -> Array:
    """Return what `added` [rows] (of `added_s`) lies above the fitted `seconds` [rows, TERMS] of the same tokens."""
    fitted = seconds[:, _ARITHMETIC].sum(axis=1)
    beyond: Array = np.maximum(0.0, added - fitted)
    return beyond


@lru_cache(maxsize=1_000)
def _curve(deployment: Deployment, shape: ModelShape, accelerator: Accelerator) -> tuple[Array, Array]:
    """Return tokens of the replica and the seconds that they add."""
    grid = _GRID * deployment.dp
    times = [forward_s(deployment, shape, accelerator, float(tokens))[0] for tokens in grid]
    measured = None
    if all(time is not None for time in times):
        whole = np.array(times, dtype=np.float64)
        measured = np.maximum.accumulate(whole - whole[0])
    if measured is not None and deployment.precision not in MATMUL_SHARE:
        return grid, measured
    rates, split = machine(accelerator, deployment.precision), parts(deployment, shape)
    share = MATMUL_SHARE.get(deployment.precision, MATMUL_SHARE[Precision.BF16])
    arithmetic = split.flops_per_token * _GRID / rates.flops / share
    sustained = np.maximum(0.0, arithmetic - split.rest_bytes / rates.bandwidth)
    return grid, sustained if measured is None else np.minimum(measured, sustained)
