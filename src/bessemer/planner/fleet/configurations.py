"""What could be deployed: every model on every allowed accelerator, how many requests a second it carries, or why not.

The rate is a mean-field estimate: the largest load whose steady state keeps the limits. The simulator has the last
word (`verify`). Memory comes first: what does not fit is refused before any speed is estimated.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import msgspec

from bessemer.core.errors import BessemerError, Infeasible
from bessemer.planner.catalog import Catalog
from bessemer.planner.models import model_shape, shape_from_config
from bessemer.planner.performance import Performance, Prediction, Steady
from bessemer.planner.types import Accelerator, Deployment, Engine, Interval, ModelShape, Precision
from bessemer.planner.workload import ModelUse, Workload

MAX_BATCH = 256
CHUNK_TOKENS = 8192
"""Engine settings that a plan assumes: vLLM's max_num_seqs and max_num_batched_tokens on server accelerators."""
_TP = (1, 2, 4, 8)
_Z95 = 1.645
_STABLE = 0.92
"""Share of its largest throughput that a replica is planned for at most: nearer to it waiting grows without bound."""


class CurvePoint(msgspec.Struct, frozen=True):
    """One load of a throughput-latency curve; predictions with their 80 % intervals."""

    concurrency: float
    ttft_s: Interval
    tpot_s: Interval
    output_tokens_s: Interval
    """Of one replica."""


class Configuration(msgspec.Struct, frozen=True):
    """One replica of a model, and the load it carries within the limits."""

    name: str
    model: str
    deployment: Deployment
    prediction: Prediction
    rate: float
    """Interactive requests a second within the limits."""
    batch_rate: float
    """Requests a second when nobody waits."""
    at_rate: CurvePoint
    """The steady state at `rate`."""
    curve: tuple[CurvePoint, ...]
    steady_rate: float
    """Requests a second of the steady state in `at_rate`; the simulator may lower `rate`, never this."""
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
    """Mean lengths that a model computes, and the limits it must keep."""

    isl: float
    """Prompt tokens that are computed: those in the prefix cache do not count."""
    osl: float
    ttft_s: float
    tpot_s: float
    cautious: bool

    def pick(self, interval: Interval) -> float:
        """Return the value that the plan relies on."""
        return interval.high if self.cautious else interval.value


def demanded(workload: Workload, model: str) -> Demanded:
    """Return what one request of a model asks of a replica."""
    prompt, output, limits = workload.prompt_tokens(model), workload.output_tokens(model), workload.limits
    return Demanded(
        isl=max(prompt.mean * (1 - workload.traffic.prefix_share), 1.0),
        osl=max(output.mean, 1.0),
        ttft_s=limits.ttft_s,
        tpot_s=limits.tpot_s,
        cautious=workload.fleet.cautious,
    )


def shape_of(use: ModelUse) -> ModelShape:
    """Return the shape of a workload's model. Raises Infeasible for an unknown name."""
    return shape_from_config(use.config, use.name) if use.config is not None else model_shape(use.name)


def configurations(
    workload: Workload,
    catalog: Catalog,
    performance: Performance,
    accelerators: Sequence[str],
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[list[Configuration], list[Refusal]]:
    """Return every configuration that keeps the limits at some load, and why the others do not."""
    found: list[Configuration] = []
    refused: list[Refusal] = []
    for use in workload.models:
        shape, demand = shape_of(use), demanded(workload, use.name)
        for name in accelerators:
            progress(f"{use.name} on {name}")
            accelerator = catalog.accelerator(name)
            for deployment in _deployments(use, accelerator, workload.fleet.engines):
                try:
                    found += _configured(workload, use.name, deployment, shape, accelerator, performance, demand)
                except BessemerError as error:
                    refused.append(Refusal(use.name, name, _what(deployment), error.message))
    return found, refused


def _deployments(use: ModelUse, accelerator: Accelerator, engines: Sequence[Engine]) -> Iterator[Deployment]:
    peaks = {
        Precision.BF16: accelerator.bf16_tflops,
        Precision.FP8: accelerator.fp8_tflops,
        Precision.FP4: accelerator.fp4_tflops,
    }
    for engine in engines:
        for precision, peak in peaks.items():
            if peak is None or (use.precision and precision not in use.precision):
                continue
            for tp in _TP:
                yield Deployment(use.name, accelerator.name, engine, None, precision, tp=tp)


def _what(deployment: Deployment) -> str:
    return f"TP{deployment.tp} {deployment.precision.value} {deployment.engine.value}"


def _configured(
    workload: Workload,
    model: str,
    deployment: Deployment,
    shape: ModelShape,
    accelerator: Accelerator,
    performance: Performance,
    demand: Demanded,
) -> list[Configuration]:
    prediction = performance.replica(
        deployment, shape, accelerator, max_batch=MAX_BATCH, chunk_tokens=CHUNK_TOKENS, isl=demand.isl, osl=demand.osl
    )
    curve = _curve(performance, prediction, demand)
    most = _most(performance, prediction, demand)
    mean = _steady_load(most)
    at_rate = _point(performance, prediction, demand, mean)
    name = f"{model} {accelerator.name} {_what(deployment)}"
    batch_rate = max(point.output_tokens_s.value for point in curve) / demand.osl
    rate = min(at_rate.output_tokens_s.value / demand.osl, _STABLE * batch_rate)
    steady = at_rate.output_tokens_s.value / demand.osl
    aggregated = Configuration(name, model, deployment, prediction, rate, batch_rate, at_rate, tuple(curve), steady)
    if not workload.fleet.disaggregated:
        return [aggregated]
    return [aggregated, *_disaggregated(aggregated, demand)]


def _point(performance: Performance, prediction: Prediction, demand: Demanded, concurrency: float) -> CurvePoint:
    steady: Steady = performance.steady(prediction, demand.isl, demand.osl, concurrency)
    return CurvePoint(concurrency, steady.ttft_s, steady.tpot_s, steady.output_tokens_s)


def _curve(performance: Performance, prediction: Prediction, demand: Demanded) -> list[CurvePoint]:
    room = _room(prediction, demand)
    loads = [2.0**step for step in range(int(math.log2(MAX_BATCH)) + 1)]
    return [_point(performance, prediction, demand, load) for load in loads if load <= room] or [
        _point(performance, prediction, demand, 1.0)
    ]


def _room(prediction: Prediction, demand: Demanded) -> float:
    """Requests in flight that the KV memory holds with their whole answers, and the batch limit."""
    return min(prediction.replica.kv_tokens / (demand.isl + demand.osl), float(prediction.replica.max_batch))


def _most(performance: Performance, prediction: Prediction, demand: Demanded) -> float:
    """Return the largest concurrency within the limits. Raises Infeasible with what the limits would have to be."""

    def keeps(load: float) -> bool:
        point = _point(performance, prediction, demand, load)
        return demand.pick(point.ttft_s) <= demand.ttft_s and demand.pick(point.tpot_s) <= demand.tpot_s

    low, high = 1.0, max(_room(prediction, demand), 1.0)
    if not keeps(low):
        point = _point(performance, prediction, demand, low)
        raise Infeasible(
            f"even alone a request takes TTFT {demand.pick(point.ttft_s):.3g} s and TPOT "
            f"{demand.pick(point.tpot_s):.3g} s; limits {demand.ttft_s:g} and {demand.tpot_s:g} s",
            param="limits",
        )
    if keeps(high):
        return high
    for _ in range(20):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low


def _steady_load(most: float) -> float:
    """Return the mean load whose 95th percentile is `most`, for Poisson numbers in flight: n + 1.645 sqrt(n) = most."""
    root = (-_Z95 + math.sqrt(_Z95**2 + 4 * most)) / 2
    return max(root**2, 0.25)


def _disaggregated(aggregated: Configuration, demand: Demanded) -> list[Configuration]:
    """Pools for prefill and decode, matched in rate.

    Rate matching keeps 0.9 of the prefill and 0.92 of the decode rate, as ai-dynamo/aiconfigurator does. Prompts must
    find a free prefill replica, so that pool runs at no more than the share of time that its waiting (M/D/1) allows.
    """
    step = aggregated.prediction.replica.step
    prompt_s = step.prefill_token_s * demand.isl + step.pair_s * demand.isl**2 / 2 + step.prefill_step_s
    slack = demand.ttft_s - aggregated.prediction.replica.request_s - prompt_s
    if slack <= 0 or prompt_s <= 0:
        return []
    busy = min(0.9, slack / (slack + prompt_s / 2 * _Z95))
    batch = _decode_batch(aggregated.prediction, demand)
    if batch < 1:
        return []
    context = demand.isl + demand.osl / 2
    spread = aggregated.prediction.spread
    tpot = float(step.decode_s[int(batch)]) + step.kv_token_s * batch * context
    decode_rate = 0.92 * _steady_load(batch) / (tpot * demand.osl)
    prefill_rate = 0.9 * busy / prompt_s
    most = max(8 // aggregated.deployment.accelerators, 0)
    made = []
    for total in range(2, most + 1):
        prefill = min(max(round(total * decode_rate / (decode_rate + prefill_rate)), 1), total - 1)
        rate = min(prefill * prefill_rate, (total - prefill) * decode_rate)
        if rate <= aggregated.rate * total:
            continue
        point = CurvePoint(
            concurrency=_steady_load(batch) * (total - prefill),
            ttft_s=_scaled(prompt_s / (1 - busy / 2) + aggregated.prediction.replica.request_s, spread),
            tpot_s=_scaled(tpot, spread),
            output_tokens_s=_scaled(rate * demand.osl, Interval(1.0, 1 / spread.high, 1 / spread.low)),
        )
        made.append(
            msgspec.structs.replace(
                aggregated,
                name=f"{aggregated.name} {prefill}P{total - prefill}D",
                rate=rate,
                batch_rate=aggregated.batch_rate * total,
                at_rate=point,
                curve=(point,),
                steady_rate=rate,
                prefill_replicas=prefill,
                decode_replicas=total - prefill,
            )
        )
    return made[-1:]


def _scaled(value: float, spread: Interval) -> Interval:
    return Interval(value, value * spread.low, value * spread.high)


def _decode_batch(prediction: Prediction, demand: Demanded) -> int:
    """Return the largest decode batch within the TPOT limit and the memory; 0: none."""
    step, context = prediction.replica.step, demand.isl + demand.osl / 2
    factor = demand.pick(prediction.spread)
    most = int(min(_room(prediction, demand), len(step.decode_s) - 1))
    fits = 0
    for batch in range(1, most + 1):
        if (float(step.decode_s[batch]) + step.kv_token_s * batch * context) * factor <= demand.tpot_s:
            fits = batch
    return fits
