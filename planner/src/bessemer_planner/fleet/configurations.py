"""What could be deployed: every model on every allowed accelerator, how many requests a second it carries, or why not.

The rate is a mean-field estimate: the largest load whose steady state keeps the limits. The simulator has the last
word (`verify`). Memory comes first: what does not fit is refused before any speed is estimated.
"""

from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist

import msgspec
import numpy as np

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.errors import InputError, PlannerError, Unsatisfiable
from bessemer_planner.fleet.mean_field import MeanLengths, States, at_load, load_below, prompt_seconds, states
from bessemer_planner.models import model_shape, shape_from_config
from bessemer_planner.performance import Performance, ReplicaPrediction
from bessemer_planner.types import (
    Accelerator,
    Deployment,
    IntervalEstimate,
    ModelShape,
    Precision,
    Replica,
    ServingEngine,
)
from bessemer_planner.workload import ModelUse, Workload

MAX_BATCH = 256
CHUNK_TOKENS = 8192
"""Engine settings that a plan assumes: vLLM's max_num_seqs and max_num_batched_tokens on server accelerators."""
_NVIDIA = ("ampere", "ada", "hopper", "blackwell", "blackwell_rtx")
_INT4_KERNELS = (*_NVIDIA, "cdna3", "cdna4")
"""Architectures with kernels for 4-bit integer weights beside 16-bit arithmetic (vLLM docs, quantization hardware)."""
_TP = (1, 2, 4, 8)
_WIDEST = 4
"""Tensor parallel sizes up to this many times the smallest one that fits."""
_STABLE = 0.92
"""Share of its largest throughput that a replica is planned for at most: nearer to it waiting grows without bound."""
_PREFILL_KEPT, _DECODE_KEPT = 0.9, 0.92
"""Shares of the rates that remain when pools are matched (ai-dynamo/aiconfigurator, rate matching)."""


class Configuration(msgspec.Struct, frozen=True):
    """One replica of a model, and the load it carries within the limits."""

    name: str
    model: str
    deployment: Deployment
    prediction: ReplicaPrediction
    rate: float
    """Interactive requests a second within the limits."""
    batch_rate: float
    """Requests a second when nobody waits."""
    load: float
    """Requests in flight at `rate`, in each replica that decodes."""
    ttft_s: float
    tpot_s: float
    """Means at `rate`."""
    prefill_replicas: int = 0
    """Disaggregated: replicas of `deployment` that compute prompts alone; 0: aggregated."""
    decode_replicas: int = 1

    @property
    def accelerators(self) -> int:
        """Accelerators of the whole configuration."""
        return self.deployment.accelerators * (self.prefill_replicas + self.decode_replicas)


class Refusal(msgspec.Struct, frozen=True):
    """Why a configuration is not considered."""

    model: str
    accelerator: str
    what: str
    reason: str


class Demanded(msgspec.Struct, frozen=True):
    """Mean lengths of a model's requests, and the limits it must keep."""

    lengths: MeanLengths
    ttft_s: float
    tpot_s: float
    quantile: float
    """Standard normal quantile of the limits' percentile."""
    cautious: bool
    disaggregated: bool

    def factor(self, spread: IntervalEstimate) -> float:
        """Return the factor on predicted times that the plan relies on."""
        return spread.high if self.cautious else spread.value


def demanded(workload: Workload, model: str) -> Demanded:
    """Return what one request of a model asks of a replica."""
    prompt, output, limits = workload.prompt_tokens(model), workload.output_tokens(model), workload.limits
    return Demanded(
        lengths=MeanLengths(max(prompt.mean, 1.0), max(output.mean, 1.0)),
        ttft_s=limits.ttft_s,
        tpot_s=limits.tpot_s,
        quantile=NormalDist().inv_cdf(limits.percentile),
        cautious=workload.fleet.cautious,
        disaggregated=workload.fleet.disaggregated,
    )


def shape_of(use: ModelUse) -> ModelShape:
    """Return the shape of a workload's model. Raises Unsatisfiable for an unknown name, InputError for a bad config."""
    if use.config is None:
        return model_shape(use.name)
    try:
        return shape_from_config(use.config, use.name)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else f"is wrong ({error})"
        raise InputError(
            f"models: the config of {use.name!r} {what}; give the values of its Hugging Face config.json.",
            param="models.config",
        ) from None


def predictions(
    workload: Workload,
    catalog: HardwareCatalog,
    performance: Performance,
    accelerators: Sequence[str],
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[list[tuple[str, ReplicaPrediction]], list[Refusal]]:
    """Return a prediction of every deployment that fits into memory, by model, and why the others do not."""
    found: list[tuple[str, ReplicaPrediction]] = []
    refused: list[Refusal] = []
    for use in workload.models:
        shape, lengths = shape_of(use), demanded(workload, use.name).lengths
        _check_context(shape, lengths)
        for name in accelerators:
            progress(f"{use.name} on {name}")
            accelerator = catalog.accelerator(name)
            smallest: dict[tuple[ServingEngine, Precision], int] = {}
            able, unable = _kinds(use, accelerator, workload.fleet.engines)
            refused += unable
            for deployment in _deployments(use, accelerator, able):
                kind = (deployment.engine, deployment.precision)
                if deployment.tp > _WIDEST * smallest.get(kind, deployment.tp):
                    continue
                try:
                    prediction = performance.replica(
                        deployment,
                        shape,
                        accelerator,
                        max_batch=MAX_BATCH,
                        chunk_tokens=CHUNK_TOKENS,
                        isl=lengths.isl,
                        osl=lengths.osl,
                        prefix_share=workload.traffic.prefix_share,
                        kv_precision=workload.fleet.kv_precision,
                    )
                except PlannerError as error:
                    refused.append(Refusal(use.name, name, what(deployment), error.message))
                    continue
                smallest.setdefault(kind, deployment.tp)
                found.append((use.name, prediction))
    return found, refused


def _check_context(shape: ModelShape, lengths: MeanLengths) -> None:
    """Raise Unsatisfiable when not even a request of mean length fits the positions that a model knows."""
    if shape.context_tokens is not None and lengths.isl + lengths.osl > shape.context_tokens:
        raise Unsatisfiable(
            f"{shape.name} takes {shape.context_tokens:,} tokens (max_position_embeddings, {shape.source.where}); a "
            f"mean prompt of {lengths.isl:,.0f} and answer of {lengths.osl:,.0f} do not fit. Nearest: shorter prompts, "
            "or a model with a longer context.",
            param="models",
        )


def _kinds(
    use: ModelUse, accelerator: Accelerator, engines: Sequence[ServingEngine]
) -> tuple[list[tuple[ServingEngine, Precision]], list[Refusal]]:
    """Return the engines and precisions that exist on an accelerator, and why the others do not."""
    usual = Precision.BF16 if accelerator.fp8_tflops is None else Precision.FP8
    able: list[tuple[ServingEngine, Precision]] = []
    unable: list[Refusal] = []
    for engine in engines:
        for precision in use.precision or (usual,):
            reason = _no_engine(engine, accelerator) or _no_format(precision, accelerator, usual)
            if reason is None:
                able.append((engine, precision))
            else:
                unable.append(Refusal(use.name, accelerator.name, f"{precision.value} {engine.value}", reason))
    return able, unable


def _no_engine(engine: ServingEngine, accelerator: Accelerator) -> str | None:
    """Say why an engine does not run on an accelerator: TensorRT-LLM is NVIDIA's; SGLang-Neuron 0.1.0 (2026-11-12)
    serves language models on Trainium 3 alone; vLLM has a backend for every kind in the catalogue."""
    if engine is ServingEngine.TRTLLM and accelerator.architecture not in _NVIDIA:
        return f"TensorRT-LLM runs on NVIDIA GPUs, {accelerator.name} is none; nearest: vllm"
    if engine is ServingEngine.SGLANG and accelerator.name == "trainium2":
        return "SGLang serves language models on trainium3, not on trainium2; nearest: vllm"
    return None


def _no_format(precision: Precision, accelerator: Accelerator, usual: Precision) -> str | None:
    """Say why an accelerator cannot compute with weights of a format."""
    has = {
        Precision.BF16: True,
        Precision.INT4: accelerator.architecture in _INT4_KERNELS,
        Precision.FP8: accelerator.fp8_tflops is not None,
        Precision.FP4: accelerator.fp4_tflops is not None,
    }
    if has[precision]:
        return None
    return (
        f"{accelerator.name} does not compute in {precision.value}; nearest: {usual.value} on it, or an accelerator "
        "that does"
    )


def _deployments(
    use: ModelUse, accelerator: Accelerator, kinds: Sequence[tuple[ServingEngine, Precision]]
) -> Iterator[Deployment]:
    for engine, precision in kinds:
        for tp in _TP:
            yield Deployment(use.name, accelerator.name, engine, None, precision, tp=tp)


def what(deployment: Deployment) -> str:
    """Return the parallelism, precision and engine in words."""
    return f"TP{deployment.tp} {deployment.precision.value} {deployment.engine.value}"


def configurations(
    workload: Workload, predicted: Sequence[tuple[str, ReplicaPrediction]]
) -> tuple[list[Configuration], list[Refusal]]:
    """Return what keeps a workload's limits at some load, and why the rest does not."""
    found: list[Configuration] = []
    refused: list[Refusal] = []
    for model, prediction in predicted:
        demand = demanded(workload, model)
        try:
            one = _aggregated(model, prediction, demand)
        except Unsatisfiable as error:
            deployment = prediction.deployment
            refused.append(Refusal(model, deployment.accelerator, what(deployment), error.message))
            continue
        found.append(one)
        if demand.disaggregated and (split := _disaggregated(one, demand)) is not None:
            found.append(split)
    return found, refused


def _aggregated(model: str, prediction: ReplicaPrediction, demand: Demanded) -> Configuration:
    steady = states(prediction.replica, demand.lengths)
    if not len(steady.tpot_s):
        raise Unsatisfiable("the KV memory does not hold one request of mean length", param="traffic")
    load = load_below(_most(steady, prediction, demand), demand.quantile)
    largest = float(steady.requests_s.max())
    idle_between = min(load, 1.0)  # below one request in flight on average
    rate = min(at_load(steady.requests_s, load) * idle_between, _STABLE * largest)
    deployment = prediction.deployment
    return Configuration(
        name=f"{model} on {deployment.accelerator} {what(deployment)}",
        model=model,
        deployment=deployment,
        prediction=prediction,
        rate=rate,
        batch_rate=largest,
        load=load,
        ttft_s=at_load(steady.ttft_s, load),
        tpot_s=at_load(steady.tpot_s, load),
    )


def settled(one: Configuration, lengths: MeanLengths) -> Configuration:
    """Return a configuration with the load and the mean times that go with its rate, however far that was lowered."""
    replica = one.prediction.replica
    rate = one.rate / one.decode_replicas
    if one.prefill_replicas:
        tpot = _decode_alone(replica, lengths)
        ttft = _first_token(replica, lengths, one.rate / one.prefill_replicas * prompt_seconds(replica, lengths.isl))
        load = _load_of(rate, np.arange(1, len(tpot) + 1) / (tpot * lengths.osl))
        return msgspec.structs.replace(one, load=load, ttft_s=ttft, tpot_s=at_load(tpot, load))
    steady = states(replica, lengths)
    load = _load_of(rate, steady.requests_s)
    return msgspec.structs.replace(
        one, load=load, ttft_s=at_load(steady.ttft_s, load), tpot_s=at_load(steady.tpot_s, load)
    )


def _load_of(rate: float, requests_s: np.ndarray) -> float:
    """Return the requests in flight at which so many a second are answered; below one the replica is idle at times."""
    if rate < requests_s[0]:
        return float(rate / requests_s[0])
    return float(np.interp(rate, np.maximum.accumulate(requests_s), np.arange(1, len(requests_s) + 1)))


def _most(steady: States, prediction: ReplicaPrediction, demand: Demanded) -> int:
    """Return the most requests in flight within the limits. Raises Unsatisfiable with what alone would take."""
    factor = demand.factor(prediction.spread)
    keeps = (steady.ttft_s * factor <= demand.ttft_s) & (steady.tpot_s * factor <= demand.tpot_s)
    if not keeps[0]:
        raise Unsatisfiable(_alone(steady, factor, demand), param="limits")
    return len(keeps) if keeps.all() else int(np.argmin(keeps))


def _alone(steady: States, factor: float, demand: Demanded) -> str:
    ttft, tpot = steady.ttft_s[0] * factor, steady.tpot_s[0] * factor
    return (
        f"even alone a request takes TTFT {ttft:.3g} s and TPOT {tpot:.3g} s; the limits are {demand.ttft_s:g} and "
        f"{demand.tpot_s:g} s"
    )


def nearest(workload: Workload, predicted: Sequence[tuple[str, ReplicaPrediction]], model: str) -> Refusal | None:
    """Return what comes nearest to a model's limits with one request alone; None where nothing holds one."""
    demand = demanded(workload, model)
    found: list[tuple[float, Refusal]] = []
    for name, prediction in predicted:
        steady = states(prediction.replica, demand.lengths)
        if name != model or not len(steady.tpot_s):
            continue
        factor, deployment = demand.factor(prediction.spread), prediction.deployment
        excess = max(steady.ttft_s[0] / demand.ttft_s, steady.tpot_s[0] / demand.tpot_s) * factor
        reason = _alone(steady, factor, demand)
        found.append((float(excess), Refusal(model, deployment.accelerator, what(deployment), reason)))
    return min(found, key=lambda row: row[0])[1] if found else None


def _disaggregated(aggregated: Configuration, demand: Demanded) -> Configuration | None:
    """Return pools for prefill and decode, matched in rate, within eight accelerators; None where that gains nothing.

    Prompts must find a free prefill replica: that pool is busy only as far as its waiting time (M/D/1) allows.
    """
    replica, isl, osl = aggregated.prediction.replica, demand.lengths.isl, demand.lengths.osl
    prompt_s = prompt_seconds(replica, isl)
    slack = demand.ttft_s - replica.request_s - replica.prompt_token_s * isl - prompt_s
    tpot = _decode_alone(replica, demand.lengths)
    fits = int(np.sum(tpot * demand.factor(aggregated.prediction.spread) <= demand.tpot_s))
    total = 8 // aggregated.deployment.accelerators
    if slack <= 0 or fits < 1 or total < 2:
        return None
    busy = min(0.9, slack / (slack + prompt_s / 2 * demand.quantile))
    load = load_below(fits, demand.quantile)
    decode_rate = _DECODE_KEPT * load / (at_load(tpot, load) * osl)
    prefill_rate = _PREFILL_KEPT * busy / prompt_s
    prefill = int(np.clip(round(total * decode_rate / (decode_rate + prefill_rate)), 1, total - 1))
    rate = min(prefill * prefill_rate, (total - prefill) * decode_rate)
    if rate <= aggregated.rate * total:
        return None
    return msgspec.structs.replace(
        aggregated,
        name=f"{aggregated.name} {prefill}P{total - prefill}D",
        rate=rate,
        batch_rate=aggregated.batch_rate * total,
        load=load,
        ttft_s=_first_token(replica, demand.lengths, busy),
        tpot_s=at_load(tpot, load),
        prefill_replicas=prefill,
        decode_replicas=total - prefill,
    )


def _decode_alone(replica: Replica, lengths: MeanLengths) -> np.ndarray:
    """Return the time per token of 1, 2, ... requests where no prompt is computed beside them."""
    room = int(min(replica.kv_tokens / (lengths.isl + lengths.osl), replica.max_batch))
    context = np.arange(1, room + 1) * (lengths.isl + lengths.osl / 2)
    time: np.ndarray = replica.step.decode_s[1 : room + 1] + replica.step.kv_token_s * context
    return time


def _first_token(replica: Replica, lengths: MeanLengths, busy: float) -> float:
    """Return the mean time to first token of a prefill replica that is busy for such a share of the time (M/D/1)."""
    prompt_s = prompt_seconds(replica, lengths.isl)
    return replica.request_s + replica.prompt_token_s * lengths.isl + prompt_s * (1 + busy / (2 * (1 - busy)))
