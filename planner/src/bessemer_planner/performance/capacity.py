"""L0: what fits. Weights, KV bytes per layer kind and the engines' reserves give the KV tokens that a replica holds.

Comes before any speed: a deployment that does not fit has no latency, it is refused with the nearest that fits.
"""

import msgspec

from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.types import (
    Accelerator,
    AttentionKind,
    Deployment,
    LayerGroup,
    ModelShape,
    Precision,
    ServingEngine,
)

WEIGHT_BYTES = {Precision.BF16: 2.0, Precision.FP8: 1.0, Precision.FP4: 0.5625, Precision.INT4: 0.5625}
"""Bytes per weight of a matrix product; four-bit formats carry an eight-bit scale per 16 weights."""
_FRACTION = {ServingEngine.VLLM: 0.90, ServingEngine.SGLANG: 0.88, ServingEngine.TRTLLM: 0.95}
"""Share of the memory that weights, activations and KV may use: vLLM `gpu_memory_utilization`, SGLang
`mem_fraction_static` with its usual automatic value, TensorRT-LLM 0.9 of what is free after loading."""
_LARGEST_OUTSIDE = 11.0e9
"""SGLang and TensorRT-LLM size what they leave outside by buffers, not by the accelerator; users of large ones raise
vLLM's share likewise."""
_OTHER_BYTES = 2.0e9
"""Context, graphs and communication buffers on one accelerator."""


class Capacity(msgspec.Struct, frozen=True):
    """What one replica holds. Bytes are per accelerator, tokens of the whole replica."""

    kv_tokens: int
    weight_bytes: float
    kv_bytes_per_token: float
    """Growth of one sequence per token on each accelerator of its attention rank."""
    sequence_bytes: float
    """Fixed state per sequence: sliding windows and linear-attention states."""


def held_tokens(engine: ServingEngine, isl: float, osl: float) -> float:
    """Return the KV tokens that one sequence keeps others from, on average over its life.

    TensorRT-LLM reserves the whole answer before it starts (`GUARANTEED_NO_EVICT`, its default capacity policy);
    vLLM and SGLang grow into the memory and stop a sequence where none is left.
    """
    return isl + osl if engine is ServingEngine.TRTLLM else isl + osl / 2.0


def routed_parameters(shape: ModelShape) -> float:
    """Weights of all routed experts."""
    if shape.moe is None:
        return 0.0
    return 3.0 * shape.hidden * shape.moe.expert_hidden * shape.moe.experts * shape.moe.layers


def other_bytes_per_weight(shape: ModelShape, precision: Precision) -> float:
    """Bytes per weight outside the routed experts: four-bit mixtures keep attention and router in 16 bits."""
    if shape.moe is not None and precision in (Precision.FP4, Precision.INT4):
        return WEIGHT_BYTES[Precision.BF16]
    return WEIGHT_BYTES[precision]


def kv_value_bytes(precision: Precision) -> float:
    """Bytes of one cached value: eight bits beside eight- and four-bit floating weights, sixteen otherwise."""
    return 1.0 if precision in (Precision.FP8, Precision.FP4) else 2.0


def group_token_values(group: LayerGroup, tp: int) -> float:
    """Cached values per token and layer on one accelerator. Heads are split over `tp`; a latent cache is not."""
    if group.attention is AttentionKind.MLA:
        return float(group.latent_dim or 0)
    return 2.0 * max(1.0, group.kv_heads / tp) * group.head_dim


def kv_bytes_per_token(shape: ModelShape, precision: Precision, tp: int, pp: int = 1) -> float:
    """Bytes that one more token of context costs on one accelerator: full-attention layers only."""
    growing = (g for g in shape.groups if g.attention in (AttentionKind.GQA, AttentionKind.MLA))
    return sum(g.count * group_token_values(g, tp) for g in growing) * kv_value_bytes(precision) / pp


def sequence_bytes(shape: ModelShape, precision: Precision, tp: int, pp: int = 1) -> float:
    """Bytes that every sequence holds however long it is: full windows and linear states (kept in 32 bits)."""
    total = 0.0
    for group in shape.groups:
        if group.attention is AttentionKind.SLIDING:
            total += group.count * group_token_values(group, tp) * (group.window or 0) * kv_value_bytes(precision)
        elif group.attention is AttentionKind.LINEAR:
            total += group.count * group.heads / tp * group.head_dim**2 * 4.0
    return total / pp


def weight_bytes(shape: ModelShape, deployment: Deployment) -> float:
    """Bytes of weights on one accelerator: experts over all accelerators, the rest over `tp` and `pp`."""
    routed = routed_parameters(shape)
    rest = shape.parameters_b * 1e9 - routed
    experts = routed * WEIGHT_BYTES[deployment.precision] / deployment.accelerators
    others = rest * other_bytes_per_weight(shape, deployment.precision) / (deployment.tp * deployment.pp)
    return experts + others


def capacity(
    deployment: Deployment,
    shape: ModelShape,
    accelerator: Accelerator,
    *,
    max_batch: int = 256,
    chunk_tokens: int = 8192,
) -> Capacity:
    """Return what one replica of `deployment` holds.

    Raises `Unsatisfiable` with the reason and the nearest deployment that fits.
    """
    _check_shape(deployment, shape)
    weights = weight_bytes(shape, deployment)
    reserve = _reserve(deployment, shape, accelerator, chunk_tokens)
    per_token = kv_bytes_per_token(shape, deployment.precision, deployment.tp, deployment.pp)
    per_sequence = sequence_bytes(shape, deployment.precision, deployment.tp, deployment.pp)
    free = accelerator.memory_gb * 1e9 - weights - reserve
    sequences = -(-max_batch // deployment.dp)
    kv = free - min(per_sequence * sequences, 0.5 * max(free, 0.0))
    if kv < per_token * 2048 or free <= 0:
        raise Unsatisfiable(
            f"deployment: {shape.name} in {deployment.precision} needs {weights / 1e9:.1f} GB of weights and "
            f"{reserve / 1e9:.1f} GB of reserve on each of {deployment.accelerators} {accelerator.name} with "
            f"{accelerator.memory_gb:.0f} GB: no room for KV. {_nearest(deployment, shape, accelerator, chunk_tokens)}",
            param="deployment",
        )
    tokens = int(kv / per_token * deployment.dp) if per_token else 10**9
    return Capacity(tokens, weights, per_token, per_sequence)


def _check_shape(deployment: Deployment, shape: ModelShape) -> None:
    heads = min(g.heads for g in shape.groups)
    if heads % deployment.tp:
        fits = max(d for d in range(1, deployment.tp + 1) if heads % d == 0)
        raise Unsatisfiable(
            f"tp: {deployment.tp} does not divide the {heads} attention heads of {shape.name}; nearest: tp {fits}.",
            param="tp",
        )
    if deployment.ep > 1 and shape.moe is None:
        raise Unsatisfiable(f"ep: {shape.name} has no experts; nearest: ep 1.", param="ep")


def _reserve(deployment: Deployment, shape: ModelShape, accelerator: Accelerator, chunk_tokens: int) -> float:
    """Memory an engine keeps for itself: its fraction, graphs, and activations of one chunk in 16 bits."""
    widest = max(shape.dense_hidden / deployment.tp, 4.0 * shape.hidden)
    activations = 2.0 * chunk_tokens * (widest + 2.0 * shape.hidden)
    outside = min((1.0 - _FRACTION[deployment.engine]) * accelerator.memory_gb * 1e9, _LARGEST_OUTSIDE)
    return outside + _OTHER_BYTES + activations


def _nearest(deployment: Deployment, shape: ModelShape, accelerator: Accelerator, chunk_tokens: int) -> str:
    """Name the smallest change that fits: more accelerators in tensor parallel, or fewer bits."""
    for precision in dict.fromkeys((deployment.precision, Precision.FP8, Precision.FP4)):
        if WEIGHT_BYTES[precision] > WEIGHT_BYTES[deployment.precision]:
            continue
        tp = deployment.tp
        while tp <= 64:
            trial = msgspec.structs.replace(deployment, tp=tp, precision=precision)
            room = accelerator.memory_gb * 1e9 - weight_bytes(shape, trial)
            room -= _reserve(trial, shape, accelerator, chunk_tokens)
            per_token = kv_bytes_per_token(shape, precision, tp, trial.pp)
            if room > per_token * 8192 and all(g.heads % tp == 0 for g in shape.groups):
                return f"Nearest that fits: tp {tp} in {precision}."
            tp *= 2
    return "No deployment of up to 64 accelerators of this kind fits."
