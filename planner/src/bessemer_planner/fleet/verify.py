"""The simulator's verdict on a configuration: Poisson arrivals at its rate, real length distributions, percentiles."""

import msgspec
import numpy as np

from bessemer_planner.fleet.configurations import Configuration
from bessemer_planner.simulator import Cluster, Escalation, Handoff, Pool, Requests, simulate
from bessemer_planner.types import Replica
from bessemer_planner.workload import Workload

_WARM = 0.15
"""Share of the requests that come first and are not judged: the cluster starts empty."""
_LEAST_REQUESTS = 1_500
_MOST_REQUESTS = 40_000
_MOST_POOL = 64
"""Replicas of a pool simulated at most in a whole cascade."""
_HANDOFF_S = 0.005
_NETWORK_BYTES_S = 50e9
"""400 Gb/s where accelerators share no link."""


class LatencyCheck(msgspec.Struct, frozen=True):
    """What the simulated requests met; seconds."""

    requests: int
    replicas: int
    rate: float
    """Requests a second and replica."""
    ttft_p50_s: float
    ttft_s: float
    """At the limit's percentile."""
    tpot_p50_s: float
    tpot_s: float
    """At the limit's percentile."""
    latency_p50_s: float
    within: float
    """Share of requests within both limits: goodput over throughput."""
    utilisation: float
    keeps: bool


def verify(
    configuration: Configuration, workload: Workload, rate: float, replicas: int, *, seed: int = 0
) -> LatencyCheck:
    """Simulate `replicas` equal ones at `rate` requests a second each, and judge them by the workload's limits."""
    requests = _requests(configuration, workload, rate * replicas, seed)
    result = simulate(requests, _cluster(configuration, replicas, cautious=workload.fleet.cautious), seed=seed)
    warm = slice(int(len(requests) * _WARM), None)
    ttft, tpot = result.ttft_s[warm], result.tpot_s[warm]
    ttft = np.where(np.isnan(ttft), np.inf, ttft)
    limits = workload.limits
    percent = limits.percentile * 100
    at = float(np.percentile(ttft, percent, method="higher"))
    steady = tpot[~np.isnan(tpot)]
    slow = float(np.percentile(steady, percent, method="higher")) if steady.size else 0.0
    latency = result.latency_s()[warm]
    return LatencyCheck(
        requests=len(ttft),
        replicas=replicas,
        rate=rate,
        ttft_p50_s=float(np.median(ttft)),
        ttft_s=at,
        tpot_p50_s=float(np.median(steady)) if steady.size else 0.0,
        tpot_s=slow,
        latency_p50_s=float(np.median(latency)),
        within=float(result.good(limits.ttft_s, limits.tpot_s)[warm].mean()),
        utilisation=result.utilisation(),
        keeps=at <= limits.ttft_s and slow <= limits.tpot_s,
    )


class EndToEnd(msgspec.Struct, frozen=True):
    """What requests of a cascade met at the busiest hour, from sending to the end; seconds."""

    requests: int
    escalated: float
    """Share of the requests that went on to the large model."""
    ttft_p50_s: float
    """To the first token of the model whose answer counts."""
    ttft_p95_s: float
    escalated_ttft_p50_s: float
    latency_p50_s: float
    latency_p95_s: float


def cascade_end_to_end(
    workload: Workload,
    small: Configuration,
    large: Configuration,
    replicas: tuple[int, int],
    rate: float,
    seed: int = 0,
) -> EndToEnd | None:
    """Simulate the whole cascade at `rate` requests a second; None where pools or lengths differ in kind."""
    cascade = workload.cascade
    uses = [use for use in workload.models if use.prompt_tokens is not None or use.output_tokens is not None]
    if cascade is None or uses or small.prefill_replicas or large.prefill_replicas:
        return None
    shrink = max(1.0, max(replicas) / _MOST_POOL)
    counts = [max(round(count / shrink), 1) for count in replicas]
    requests = _requests(small, workload, rate / shrink, seed)
    slow = workload.fleet.cautious
    first, second = (
        _slower(one.prediction.replica, one.prediction.spread.high) if slow else one.prediction.replica
        for one in (small, large)
    )
    pools = (Pool(first, counts[0], cascade=Escalation(1, cascade.escalated)), Pool(second, counts[1]))
    result = simulate(requests, Cluster(pools), seed=seed)
    warm = slice(int(len(requests) * _WARM), None)
    ttft, latency, handed = result.ttft_s[warm], result.latency_s()[warm], result.escalated[warm]
    return EndToEnd(
        requests=len(ttft),
        escalated=float(handed.mean()),
        ttft_p50_s=float(np.nanmedian(ttft)),
        ttft_p95_s=float(np.nanpercentile(ttft, 95)),
        escalated_ttft_p50_s=float(np.nanmedian(ttft[handed])) if handed.any() else 0.0,
        latency_p50_s=float(np.nanmedian(latency)),
        latency_p95_s=float(np.nanpercentile(latency, 95)),
    )


def _requests(configuration: Configuration, workload: Workload, rate: float, seed: int) -> Requests:
    """Draw Poisson arrivals for long enough that the start does not matter: thirty answers, at least two minutes."""
    random = np.random.default_rng([seed, 17])
    model = configuration.model
    answer_s = configuration.ttft_s + configuration.tpot_s * workload.output_tokens(model).mean
    count = int(np.clip(rate * max(120.0, 30 * answer_s), _LEAST_REQUESTS, _MOST_REQUESTS))
    prompts = workload.prompt_tokens(model).sample(random, count)
    outputs = workload.output_tokens(model).sample(random, count)
    room = configuration.prediction.replica.kv_tokens
    outputs = np.minimum(outputs, max(room - int(prompts.max()) - 1, 1))
    return Requests(np.cumsum(random.exponential(1 / rate, count)), prompts, outputs)


def _cluster(configuration: Configuration, replicas: int, *, cautious: bool) -> Cluster:
    replica = configuration.prediction.replica
    if cautious:
        replica = _slower(replica, configuration.prediction.spread.high)
    if not configuration.prefill_replicas:
        return Cluster((Pool(replica, replicas),))
    link = configuration.prediction.accelerator.link_gbs
    bridged = configuration.prediction.accelerator.link_group is not None
    bandwidth = _NETWORK_BYTES_S if link is None or bridged else link * 1e9
    per_token = configuration.prediction.capacity.kv_bytes_per_token * configuration.deployment.tp / bandwidth
    prefill = Pool(replica, replicas * configuration.prefill_replicas, handoff=Handoff(1, _HANDOFF_S, per_token))
    return Cluster((prefill, Pool(replica, replicas * configuration.decode_replicas)))


def _slower(replica: Replica, factor: float) -> Replica:
    step = replica.step
    slow = msgspec.structs.replace(
        step,
        decode_s=step.decode_s * factor,
        kv_token_s=step.kv_token_s * factor,
        prefill_token_s=step.prefill_token_s * factor,
        prefill_step_s=step.prefill_step_s * factor,
        pair_s=step.pair_s * factor,
    )
    return msgspec.structs.replace(replica, step=slow)
