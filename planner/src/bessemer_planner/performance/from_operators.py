"""Step times of an accelerator on which no engine was ever measured, from its measured operators alone.

The calibration learns how engines relate to first principles on the accelerators of the measured rows. On another
architecture those relations are an extrapolation; where its operators were measured, their sum is not. It leaves out
nothing that a step does: matrix products, attention, norms and activations, all-reduces, the host's work per sequence.
What the tables do not hold was measured on the RTX PRO 6000 Server Edition and is borrowed by the others (`borrowed`).
Checked against a request-level record that none of these figures has seen (`make bench-planner`, rtxpro6000).
"""

import numpy as np

from bessemer_planner.performance.operators import forward_s, gemm_s, head_dtypes, reduce_s
from bessemer_planner.performance.work import context_bytes, machine, pair_flops, parts
from bessemer_planner.types import Accelerator, Deployment, ModelShape, StepTime

_BANDWIDTH_SHARE = 0.92
"""Of the memory bandwidth that weights reach at small batches: 1.46 of 1.597 TB/s in the vLLM 0.24.0 GEMM tables of
the RTX PRO 6000 Server Edition in aiconfigurator-core 0.12.0. Tables in which a weight stays in the cache say more."""
_KV_SHARE = 0.90
"""Of the bandwidth that decode attention reaches: 2.84 ns per token and layer of 4,096 bytes at batch 64 to 256 in the
generation attention table of the same package."""
_PAIR_SHARE = 0.49
"""Of the peak that causal prompt attention reaches: 234 TFLOP/s at 1,024 to 8,192 tokens, same package."""
_LAYER_S = 24.5e-6
"""Norms (2 x 3 us), rotary positions (2.8), activation (3.4) and the launch of attention (12.4) in one layer, up to
128 tokens: layer profile of vLLM 0.19.0 on this GPU, casys-kaist/LLMServingSim profiler/perf/RTXPRO6000."""
_LAYER_SEQUENCE_S = 78e-9
"""Attention per layer and sequence beside the bytes it reads, same profile."""
_ELEMENTWISE_S = 31e-9
"""Norms, rotary positions and activations per prompt token and layer, same profile."""
_HOST_SEQUENCE_S = 34e-6
"""Scheduling, sampling and detokenising per sequence and step: coefficient of the batch in a non-negative least-squares
fit to the dense aggregated rows of ai-dynamo/aiconfigurator's silicon_sample.csv (H100, H200, B200)."""
REQUEST_S = 0.0156
PROMPT_TOKEN_S = 46e-6
"""API-server time per request and per prompt token: alpha coefficients that inference-sim/BLIS fitted to vLLM on H100
(docs/guide/latency-models.md)."""
_WIRE_SHARE = 0.6
_REDUCE_S = 20e-6
"""A collective over the links alone, where the table's kernel (made for small messages) takes longer."""
_PCIE_GBS = 15.2
"""Rate of an all-reduce's wire bytes between accelerators without a link of their own. Tables of aiconfigurator-core
0.12.0 hold two machines with RTX PRO 6000: vLLM 0.19.0, 20 us and 15.2 GB/s, and vLLM 0.24.0, 5 us and 36 GB/s (L40S:
20 GB/s under NCCL 2.27.3). The only engine measured end to end, Qwen3-32B in 16 bits on two of them (casys-kaist/
LLMServingSim, vLLM 0.19.0), took 80 ms a token: 76 are predicted by the first, 62 by the second. How a machine's
PCIe is wired is not in its price list, so the slower one is planned with."""
_LOADED = {"l40s": 1.7}
"""How much longer than its operators' sum an accelerator takes for all that grows with the load (sequences, context,
prompts) under a sustained one. L40S: MLPerf Inference v5.1 5.1-0082, Llama-3.1-8B FP8 on one under vLLM 0.10.0, Offline
12.8 requests a second (12.6 so), Server at 9.36 a second 124 ms to the first token (124) and 48 ms a token (40). Its
tables were taken in bursts, which do not reach its 350 W."""
_HOME = "rtx_pro_6000_server"
"""The accelerator on which the shares and kernel times above were measured."""
_BUSY = 64.0
_CHUNK = 1024.0
_FAR = 65536.0
"""A context that fills every sliding window."""


def operator_step(
    deployment: Deployment, shape: ModelShape, accelerator: Accelerator, max_batch: int
) -> StepTime | None:
    """Return the step time of one replica from measured operators; None where an operator has no table."""
    at = (deployment, shape, accelerator)
    sizes = np.unique(np.round(np.geomspace(1, max(2, max_batch), 24)))
    times = [_pass_s(*at, float(size)) for size in sizes]
    busy, chunk = (_prompt_s(*at, tokens) for tokens in (_BUSY, _BUSY + _CHUNK))
    if busy is None or chunk is None or any(time is None for time in times):
        return None
    batch = np.arange(max_batch + 1, dtype=np.float64)
    local = batch / deployment.dp
    products = np.interp(batch, sizes, np.array(times, dtype=np.float64))
    floor = parts(deployment, shape).rest_bytes / (_BANDWIDTH_SHARE * accelerator.bandwidth_tbs * 1e12)
    kernels = shape.layers * (_LAYER_S + _LAYER_SEQUENCE_S * local)
    read = _KV_SHARE * accelerator.bandwidth_tbs * 1e12
    once, twice = context_bytes(deployment, shape, np.array([_FAR, 2.0 * _FAR]))
    per_token = (twice - once) / _FAR
    kept = max(0.0, once - per_token * _FAR)  # full windows and linear states, whatever the context
    attention = pair_flops(deployment, shape, absorbed=False) / deployment.dp
    decode = np.maximum.accumulate(
        np.maximum(products, floor) + kernels + kept / read * local + _HOST_SEQUENCE_S * batch
    )
    loaded = _LOADED.get(accelerator.name, 1.0)
    return StepTime(
        decode_s=decode + (loaded - 1.0) * np.maximum(0.0, decode - decode[1]),
        kv_token_s=loaded * per_token / deployment.dp / read,
        prefill_token_s=loaded * ((chunk - busy) / _CHUNK + _ELEMENTWISE_S * shape.layers / deployment.dp),
        pair_s=loaded * attention / (_PAIR_SHARE * accelerator.bf16_tflops * 1e12),
    )


def borrowed(accelerator: Accelerator) -> str:
    """Return what a step time from operators is made of, and which of its terms come from elsewhere."""
    others = "host time per sequence is that of H100, H200 and B200, API-server time that of H100"
    if accelerator.name != _HOME:
        others = (
            "the shares of bandwidth and peak that weights, KV reads and prompt attention reach, and small kernels' "
            f"times, are those of {_HOME}; {others}"
        )
    own = f"Step times on {accelerator.name} are sums of its measured operators (products, experts, all-reduces)"
    return f"{own}; {others}."


def step_steady(step: StepTime, isl: float, osl: float, batch: float, waiting: float) -> tuple[float, float]:
    """Return mean seconds to the first token and per token after it, of `batch` sequences in a closed loop.

    Each of them brings one prompt per `osl` steps. `waiting` clients more stand in the queue.
    """
    decode = float(np.interp(batch, np.arange(len(step.decode_s)), step.decode_s))
    prompt = step.prefill_token_s * isl + step.pair_s * isl**2 / 2.0
    tpot = decode + step.kv_token_s * batch * (isl + osl / 2.0) + batch / osl * prompt
    queue = waiting / batch * osl * tpot
    return REQUEST_S + PROMPT_TOKEN_S * isl + queue + prompt + decode + tpot / 2.0, tpot


def _pass_s(deployment: Deployment, shape: ModelShape, accelerator: Accelerator, tokens: float) -> float | None:
    """Seconds of all products, experts and all-reduces of one pass over `tokens` of the replica."""
    dense, routed = forward_s(deployment, shape, accelerator, tokens)
    if dense is None or routed is None:
        return None
    world = deployment.tp * deployment.dp
    if world == 1:
        return dense + routed
    values = tokens / deployment.dp * shape.hidden
    wire = 2.0 * (world - 1) / world * 2.0 * values
    if accelerator.link_gbs is None:
        return dense + routed + 2.0 * shape.layers * (_REDUCE_S + wire / (_PCIE_GBS * 1e9))
    once = reduce_s(accelerator.name, deployment.engine, world, values)
    if once is None:
        return None
    linked = _REDUCE_S + wire / machine(accelerator, deployment.precision, world).link / _WIRE_SHARE
    return dense + routed + 2.0 * shape.layers * min(once, linked)


def _prompt_s(deployment: Deployment, shape: ModelShape, accelerator: Accelerator, tokens: float) -> float | None:
    """The same without the vocabulary, which only the last token of a prompt meets."""
    whole = _pass_s(deployment, shape, accelerator, tokens)
    size = (tokens / deployment.dp, shape.vocabulary // deployment.tp, shape.hidden)
    head = gemm_s(accelerator.name, head_dtypes(deployment, shape), *size)
    return None if whole is None or head is None else whole - head
