"""Random small workloads and clusters that press on every rule: little memory, small batches, coinciding times."""

import numpy as np
from hypothesis import strategies as st

from bessemer_planner.simulator import (
    Autoscaler,
    Cluster,
    Escalation,
    Failures,
    Handoff,
    Pool,
    PrefixBlocks,
    Requests,
    Router,
)
from bessemer_planner.types import Replica, StepTime


def replica(
    *,
    max_batch: int = 8,
    kv_tokens: int = 400,
    chunk_tokens: int = 32,
    base_s: float = 6e-3,
    sequence_s: float = 25e-6,
    kv_token_s: float = 15e-9,
    prefill_token_s: float = 20e-6,
    prefill_step_s: float = 0.0,
    pair_s: float = 0.0,
    request_s: float = 0.0,
    prompt_token_s: float = 0.0,
    block_tokens: int = 4,
) -> Replica:
    """A small replica."""
    decode = base_s + sequence_s * np.arange(max_batch + 1)
    step = StepTime(decode, kv_token_s, prefill_token_s, prefill_step_s, pair_s)
    return Replica(step, max_batch, kv_tokens, chunk_tokens, request_s, prompt_token_s, block_tokens)


replicas = st.builds(
    replica,
    max_batch=st.integers(1, 8),
    kv_tokens=st.sampled_from([60, 100, 200, 2000]),
    chunk_tokens=st.sampled_from([8, 16, 64]),
    base_s=st.sampled_from([0.001, 0.0067]),
    kv_token_s=st.sampled_from([0.0, 1e-6]),
    prefill_step_s=st.sampled_from([0.0, 1e-3]),
    pair_s=st.sampled_from([0.0, 1e-7]),
    request_s=st.sampled_from([0.0, 0.003]),
    prompt_token_s=st.sampled_from([0.0, 1e-4]),
    block_tokens=st.sampled_from([1, 4]),
)
autoscalers = st.builds(
    Autoscaler,
    target_load=st.sampled_from([0.5, 2.0, 6.0]),
    maximum=st.integers(1, 5),
    minimum=st.integers(0, 1),
    interval_s=st.sampled_from([0.05, 0.2]),
    scrape_delay_s=st.sampled_from([0.0, 0.1, 0.25]),
    cold_start_s=st.sampled_from([0.0, 0.07, 1.0]),
    stabilisation_s=st.sampled_from([0.05, 0.6]),
)
failures = st.builds(Failures, mean_between_s=st.sampled_from([0.3, 2.0, 50.0]), repair_s=st.sampled_from([0.01, 0.5]))


@st.composite
def pools(draw: st.DrawFn, last: bool = True) -> Pool:
    """A pool without onward pools."""
    scaler = draw(st.none() | autoscalers)
    return Pool(
        draw(replicas),
        draw(st.integers(1, 4)),
        router=draw(st.sampled_from(Router)),
        prefix_cache=draw(st.booleans()),
        autoscaler=scaler,
        failures=draw(st.none() | st.none() | failures),
        batch_fill=draw(st.sampled_from([0.0, 0.3, 1.0])),
        batch_slack_s=draw(st.sampled_from([0.0, 0.5])),
    )


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """One to four pools: alone, prefill and decode, a cascade, or both."""
    shape = draw(st.sampled_from(["one", "disaggregated", "cascade", "both"]))
    first = draw(pools())
    handoff = draw(st.builds(Handoff, st.just(1), st.sampled_from([0.0, 0.004]), st.sampled_from([0.0, 1e-5])))
    share = draw(st.sampled_from([0.0, 0.4, 1.0]))
    if shape == "one":
        return Cluster((first,))
    if shape == "disaggregated":
        return Cluster((_with(first, handoff=handoff), draw(pools())))
    if shape == "cascade":
        return Cluster((_with(first, cascade=Escalation(1, share, 0.001)), draw(pools())), entry=(0, 1))
    large = _with(draw(pools()), handoff=Handoff(2, handoff.latency_s, handoff.token_s))
    return Cluster((_with(first, cascade=Escalation(1, share)), large, draw(pools())), entry=(0, 1))


def _with(pool: Pool, *, handoff: Handoff | None = None, cascade: Escalation | None = None) -> Pool:
    return Pool(
        pool.replica,
        pool.replicas,
        pool.router,
        pool.prefix_cache,
        pool.autoscaler,
        pool.failures,
        handoff,
        cascade,
        pool.batch_fill,
        pool.batch_slack_s,
    )


@st.composite
def workloads(draw: st.DrawFn, classes: int = 1) -> Requests:
    """Up to 60 requests; prompts share prefixes, some are batch work, and some runs are closed loops."""
    count = draw(st.integers(1, 60))
    draws = np.random.default_rng(draw(st.integers(0, 2**32)))
    gap = draw(st.sampled_from([0.0, 0.002, 0.02, 0.2]))
    arrival = np.cumsum(np.round(draws.exponential(gap or 1.0, count) * bool(gap), 3))
    prompt = draws.integers(1, draw(st.sampled_from([2, 40, 90])), count)
    output = draws.integers(1, draw(st.sampled_from([2, 12, 60])), count)
    deadline = np.where(
        draws.random(count) < draw(st.sampled_from([0.0, 0.5])), arrival + draws.random(count) * 3, np.inf
    )
    return Requests(
        arrival,
        prompt,
        output,
        kind=draws.integers(0, classes, count),
        deadline_s=draw(st.sampled_from([None, deadline])),
        prefix=draw(st.sampled_from([None, _prefixes(draws, prompt, draw(st.sampled_from([4, 8])))])),
        concurrency=draw(st.none() | st.integers(1, 12)),
    )


def _prefixes(draws: np.random.Generator, prompt: np.ndarray, tokens: int) -> PrefixBlocks:
    """Chains of hashes: a prompt follows one of a few shared texts for a while and then goes its own way."""
    sizes = prompt // tokens
    hashes = []
    for request, size in enumerate(sizes):
        text = int(draws.integers(0, 3))
        common = int(draws.integers(0, size + 1))
        hashes += [1000 * text + depth if depth < common else 10**6 + 1000 * request + depth for depth in range(size)]
    return PrefixBlocks(np.concatenate([[0], np.cumsum(sizes)]), np.array(hashes, np.int64), tokens)
