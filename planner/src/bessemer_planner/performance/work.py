"""L1 by first principles: the seconds each kind of work would take at the accelerator's peaks.

Every term is linear in time and grows with the batch, so that any non-negative combination of them is monotone in
concurrency. `calibration` learns how far each term is from its peak; it never sees anything but these terms.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from bessemer_planner.performance.capacity import (
    WEIGHT_BYTES,
    group_token_values,
    kv_value_bytes,
    other_bytes_per_weight,
    routed_parameters,
)
from bessemer_planner.types import Accelerator, AttentionKind, Deployment, ModelShape, Precision

Array = NDArray[np.float64]

PEAK_TERMS = ("weights", "experts", "kv", "compute", "attention", "reduce", "kernels", "step", "requests")
PREFILL_TERMS = ("prefill", "prefill_attention", "prefill_reduce")
_PCIE_GBS = 50.0
"""Usable PCIe 5.0 x16 bandwidth in one direction, for accelerators without a link of their own."""
_KERNELS = {AttentionKind.GQA: 5, AttentionKind.SLIDING: 5, AttentionKind.MLA: 9, AttentionKind.LINEAR: 8}
"""Kernels that one attention layer launches for a decoded token, counted in its equations. Grouped queries: norm, QKV
product, rotary positions with the cache's write, attention, output product. MLA: norm, down-projection, latent norms,
query up-projection, the two absorbed products, positions, attention, output product. Linear: norm, two input products,
convolution, gates, recurrence, gated norm, output product. Which of them an engine fuses is in its coefficient."""
_DENSE_KERNELS = 4
"""Norm, gate and up product, activation, down product."""
_ROUTED_KERNELS = 8
"""Norm, router product, top-k, sorting, two grouped products, activation, weighted sum."""
_SHARED_KERNELS = 3
"""Two products and the activation of the shared expert."""


MATMUL_SHARE = {Precision.BF16: 0.779, Precision.FP8: 0.735}
"""Share of the dense peak that matrix products were measured to sustain on the accelerators that are fitted, their mean
(H100, H200, B200, B300, GB200: BF16 803, 803, 776, 786, 729, FP8 709, 734, 763, 745, 723 thousandths;
stas00/ml-engineering compute/accelerator/README.md@744d01e, 2026-08-22). Four bits have no figure there."""


class Machine(msgspec.Struct, frozen=True):
    """Rates of one accelerator at one precision: bytes/s, flop/s, link bytes/s."""

    bandwidth: float
    flops: float
    link: float


def machine(accelerator: Accelerator, precision: Precision, world: int = 1) -> Machine:
    """Rates that apply among `world` accelerators: a format one lacks is computed in the next wider one it has.

    Coefficients say what share of these rates is reached on the fitted accelerators. Where products were measured on
    another one, its peaks are what its sustained rates would be shares of.
    """
    wide, narrow = (_reached(accelerator, precision) for precision in (Precision.BF16, Precision.FP8))
    bf16, fp8, fp4 = accelerator.bf16_tflops * wide, accelerator.fp8_tflops, accelerator.fp4_tflops
    fp8, fp4 = fp8 and fp8 * narrow, fp4 and fp4 * narrow
    peak = {
        Precision.BF16: bf16,
        Precision.INT4: bf16,
        Precision.FP8: fp8 or bf16,
        Precision.FP4: fp4 or bf16,
    }[precision]
    apart = accelerator.link_group is not None and world > accelerator.link_group
    link = _PCIE_GBS if apart else accelerator.link_gbs or _PCIE_GBS
    return Machine(accelerator.bandwidth_tbs * 1e12, peak * 1e12, link * 1e9)


def _reached(accelerator: Accelerator, precision: Precision) -> float:
    """Share of the peak that products reach, over that of the fitted accelerators; 1 where nothing was measured.

    A format without a measurement of its own reaches the share of 16 bits.
    """
    if precision is Precision.FP8 and accelerator.fp8_tflops and accelerator.fp8_matmul_tflops:
        return accelerator.fp8_matmul_tflops / accelerator.fp8_tflops / MATMUL_SHARE[Precision.FP8]
    if accelerator.bf16_matmul_tflops:
        return accelerator.bf16_matmul_tflops / accelerator.bf16_tflops / MATMUL_SHARE[Precision.BF16]
    return 1.0


class ReplicaWork(msgspec.Struct, frozen=True):
    """What one accelerator of a replica holds and computes; independent of the load."""

    rest_bytes: float
    expert_bytes: float
    experts: int
    active: int
    flops_per_token: float
    """Outside routed experts, on one accelerator, per token of its attention rank."""
    expert_flops_per_token: float
    """In routed experts, on one accelerator, per token of the whole replica."""
    reduce_bytes: float
    """Bytes that one accelerator exchanges per token of its attention rank."""
    exchange_bytes: float
    """Bytes that one accelerator exchanges with its experts' peers, per token of the whole replica."""
    kernels: float
    """Kernels of one decode step."""


def parts(deployment: Deployment, shape: ModelShape) -> ReplicaWork:
    """Split a model over a replica's accelerators (pipeline stages work one after another: their times add)."""
    tp, world = deployment.tp, deployment.tp * deployment.dp
    routed = routed_parameters(shape)
    embedding = shape.vocabulary * shape.hidden
    rest = max(shape.parameters_b * 1e9 - routed - embedding, 0.5 * embedding)
    rest_bytes = rest * other_bytes_per_weight(shape, deployment.precision) / tp
    moe = shape.moe
    active = routed * moe.active / moe.experts if moe else 0.0
    value = 2.0 * shape.hidden
    attention_reduce = value * shape.layers * 2.0 * (tp - 1) / tp
    other = value * shape.layers * 2.0 * (world - 1) / world if deployment.dp == 1 else 0.0
    exchange = 2.0 * value * moe.layers * moe.active / world if moe and deployment.dp > 1 else 0.0
    return ReplicaWork(
        rest_bytes=rest_bytes,
        expert_bytes=routed * WEIGHT_BYTES[deployment.precision] / world,
        experts=moe.experts if moe else 1,
        active=moe.active if moe else 1,
        flops_per_token=2.0 * rest / tp,
        expert_flops_per_token=2.0 * active / world,
        reduce_bytes=attention_reduce + other,
        exchange_bytes=exchange,
        kernels=kernels(shape),
    )


def handed_over_s(shape: ModelShape, accelerator: Accelerator) -> float:
    """Seconds at the link's peak to pass one token's activations (16 bits) to the next pipeline stage."""
    return 2.0 * shape.hidden / machine(accelerator, Precision.BF16).link


def kernels(shape: ModelShape) -> float:
    """Kernels that a decode step launches over all layers."""
    moe = shape.moe
    routed = moe.layers if moe else 0
    shared = routed if moe and moe.shared_hidden else 0
    attention = sum(group.count * _KERNELS[group.attention] for group in shape.groups)
    return attention + (shape.layers - routed) * _DENSE_KERNELS + routed * _ROUTED_KERNELS + shared * _SHARED_KERNELS


def context_bytes(deployment: Deployment, shape: ModelShape, context: Array) -> Array:
    """Cached bytes that one sequence's decode step reads on one accelerator, at `context` tokens."""
    values = np.zeros_like(context)
    for group in shape.groups:
        if group.attention is AttentionKind.LINEAR:
            values += group.count * group.heads / deployment.tp * group.head_dim**2 * 4.0 / 2.0
            continue
        seen = np.minimum(context, group.window) if group.window else context
        values += group.count * group_token_values(group, deployment.tp) * seen
    return values * kv_value_bytes(deployment.precision)


def pair_flops(deployment: Deployment, shape: ModelShape, *, absorbed: bool) -> float:
    """Flops per attended token pair on one accelerator; MLA decodes in its latent space (`absorbed`)."""
    total = 0.0
    for group in shape.groups:
        if group.attention is AttentionKind.LINEAR:
            continue
        width = group.latent_dim or 0 if group.attention is AttentionKind.MLA and absorbed else group.head_dim
        share = 0.0 if group.window else 1.0
        total += share * group.count * group.heads / deployment.tp * 4.0 * width
    return total


def peak_terms(
    deployment: Deployment, shape: ModelShape, accelerator: Accelerator, batch: Array, context: Array
) -> Array:
    """Return [len(batch), len(PEAK_TERMS)] seconds of a step that decodes `batch` sequences of `context` tokens."""
    world = deployment.tp * deployment.dp
    rates, split = machine(accelerator, deployment.precision, world), parts(deployment, shape)
    wide = machine(accelerator, Precision.BF16)
    local = batch / deployment.dp
    touched = split.experts * (1.0 - (1.0 - split.active / split.experts) ** np.maximum(batch, 1e-9))
    exchange = split.reduce_bytes * local + split.exchange_bytes * batch
    terms = [
        np.full_like(batch, split.rest_bytes / rates.bandwidth),
        split.expert_bytes * touched / split.experts / rates.bandwidth,
        local * context_bytes(deployment, shape, context) / rates.bandwidth,
        (split.flops_per_token * local + split.expert_flops_per_token * batch) / rates.flops,
        local * context * pair_flops(deployment, shape, absorbed=True) / wide.flops,
        exchange / rates.link,
        np.full_like(batch, 1e-6 * split.kernels),
        np.full_like(batch, 1e-3),
        1e-6 * batch,
    ]
    return np.stack(terms, axis=1)


def prefill_terms(
    deployment: Deployment, shape: ModelShape, accelerator: Accelerator, tokens: Array, pairs: Array
) -> Array:
    """Return [len(tokens), len(PREFILL_TERMS)] seconds of processing `tokens` of prompts that attend to `pairs`."""
    world = deployment.tp * deployment.dp
    rates, split = machine(accelerator, deployment.precision, world), parts(deployment, shape)
    wide = machine(accelerator, Precision.BF16)
    local = tokens / deployment.dp
    terms = [
        (split.flops_per_token * local + split.expert_flops_per_token * tokens) / rates.flops,
        pairs / deployment.dp * pair_flops(deployment, shape, absorbed=False) / wide.flops,
        (split.reduce_bytes * local + split.exchange_bytes * tokens) / rates.link,
    ]
    return np.stack(terms, axis=1)
