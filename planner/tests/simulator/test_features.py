"""What each feature is for, on workloads small enough to reason about."""

import msgspec
import numpy as np
import pytest
from planner.tests.simulator.workloads import replica

from bessemer_planner.errors import PlannerError
from bessemer_planner.simulator import (
    BF16_KV,
    EAGLE3,
    FP8_KV,
    Autoscaler,
    Cluster,
    Escalation,
    Failures,
    Handoff,
    Pool,
    PrefixBlocks,
    Requests,
    Router,
    simulate,
    with_variant,
)

BIG = replica(max_batch=16, kv_tokens=100_000, chunk_tokens=256)


def steady(count: int, gap_s: float, prompt: int = 64, output: int = 20, **more: object) -> Requests:
    """Equal requests at equal gaps."""
    return Requests(np.arange(count) * gap_s, np.full(count, prompt), np.full(count, output), **more)


def test_a_request_that_never_fits_is_rejected_and_the_others_are_served() -> None:
    requests = Requests(np.array([0.0, 0.1]), np.array([500, 20]), np.array([5, 5]))
    result = simulate(requests, Cluster((Pool(replica(kv_tokens=100), 1),)))
    assert result.rejected.tolist() == [True, False]
    assert np.isnan(result.finish_s[0])
    assert np.isfinite(result.finish_s[1])


def test_too_little_memory_preempts_and_everyone_still_finishes() -> None:
    requests = steady(12, 0.0, prompt=8, output=60)
    tight = simulate(requests, Cluster((Pool(replica(kv_tokens=120), 1),)))
    roomy = simulate(requests, Cluster((Pool(replica(kv_tokens=4000), 1),)))
    assert tight.preempted.sum() > 0
    assert roomy.preempted.sum() == 0
    assert np.isfinite(tight.finish_s).all()
    assert tight.end_s > roomy.end_s


def test_a_shared_prompt_is_computed_once() -> None:
    hashes = np.tile(np.arange(16), 10)
    prefix = PrefixBlocks(np.arange(11) * 16, hashes, 4)
    requests = steady(10, 1.0, prefix=prefix)
    cold = simulate(requests, Cluster((Pool(BIG, 1),)))
    warm = simulate(requests, Cluster((Pool(BIG, 1, prefix_cache=True),)))
    assert cold.reused_tokens.sum() == 0
    # At least one token is always computed: of 16 full blocks 15 are reused.
    assert warm.reused_tokens.tolist() == [0] + [60] * 9
    assert (warm.ttft_s[1:] < cold.ttft_s[1:]).all()


def test_prefix_aware_routing_keeps_texts_apart_and_reuses_more() -> None:
    draws = np.random.default_rng(0)
    text = draws.integers(0, 120, 600)
    hashes = (text[:, None] * 100 + np.arange(16)).ravel()
    prefix = PrefixBlocks(np.arange(601) * 16, hashes, 4)
    requests = steady(600, 0.02, prefix=prefix)
    small = replica(max_batch=16, kv_tokens=2500, chunk_tokens=256)
    reused = {
        router: simulate(requests, Cluster((Pool(small, 4, router, prefix_cache=True),))).reused_tokens.sum()
        for router in (Router.ROUND_ROBIN, Router.PREFIX_AWARE)
    }
    assert reused[Router.PREFIX_AWARE] > 1.5 * reused[Router.ROUND_ROBIN]


def test_routers_that_look_at_load_beat_the_one_that_does_not() -> None:
    draws = np.random.default_rng(1)
    output = np.where(draws.random(2000) < 0.1, 400, 10)
    requests = Requests(np.cumsum(draws.exponential(0.025, 2000)), np.full(2000, 20), output)
    one = replica(max_batch=4, kv_tokens=4000)
    mean = {
        router: simulate(requests, Cluster((Pool(one, 8, router),)), seed=3).ttft_s.mean()
        for router in (Router.ROUND_ROBIN, Router.POWER_OF_TWO, Router.LEAST_LOADED)
    }
    assert mean[Router.LEAST_LOADED] < mean[Router.POWER_OF_TWO] < mean[Router.ROUND_ROBIN]


def test_disaggregation_adds_the_transfer_after_the_first_token_and_keeps_decoding_even() -> None:
    requests = steady(1, 0.0, prompt=100, output=3)
    split = Cluster((Pool(BIG, 1, handoff=Handoff(1, latency_s=0.5, token_s=0.001)), Pool(BIG, 1)))
    apart, together = simulate(requests, split), simulate(requests, Cluster((Pool(BIG, 1),)))
    assert apart.ttft_s[0] == together.ttft_s[0]
    assert np.isclose(apart.finish_s[0] - together.finish_s[0], 0.5 + 100 * 0.001, rtol=1e-9)
    assert apart.pool_of_replica[apart.replica[0]] == 1


def test_a_cascade_escalates_its_share_and_pays_both_models() -> None:
    requests = steady(4000, 0.02)
    cluster = Cluster((Pool(BIG, 2, cascade=Escalation(1, 0.25, decision_s=0.1)), Pool(BIG, 2)))
    result = simulate(requests, cluster, seed=5)
    assert abs(result.escalated.mean() - 0.25) < 0.03
    assert (result.pool_of_replica[result.replica] == result.escalated).all()
    assert result.busy_s[2:].sum() > 0
    assert result.latency_s()[result.escalated].mean() > 0.1 + result.latency_s()[~result.escalated].mean()


def test_the_autoscaler_follows_the_load_up_and_down_within_its_bounds() -> None:
    busy, quiet = np.arange(4000) * 0.02, 80 + np.arange(200) * 1.0
    arrival = np.concatenate([busy, quiet])
    requests = Requests(arrival, np.full(len(arrival), 64), np.full(len(arrival), 100))
    scaler = Autoscaler(8.0, maximum=6, minimum=1, interval_s=2, scrape_delay_s=2, cold_start_s=5, stabilisation_s=20)
    result = simulate(requests, Cluster((Pool(BIG, 1, autoscaler=scaler),)))
    running = result.scaling.active + result.scaling.starting
    assert running.max() > 3
    assert running[-1] == 1
    assert running.min() >= 1
    assert running.max() <= 6
    # Cold start and scrape delay: nobody new serves before both have passed.
    assert result.scaling.time_s[result.scaling.active > 1].min() >= 2 + 2 + 5
    # The window: no replica goes in the first 20 s after the last busy second.
    assert (np.diff(running[(result.scaling.time_s > 60) & (result.scaling.time_s < 90)]) >= 0).all()
    assert result.powered_s.sum() < 6 * result.end_s


def test_a_load_at_the_target_moves_no_replica() -> None:
    requests = steady(3000, 0.05, output=100)
    scaler = Autoscaler(7.0, maximum=8, minimum=1, interval_s=2, scrape_delay_s=0, cold_start_s=1, stabilisation_s=6)
    result = simulate(requests, Cluster((Pool(BIG, 2, autoscaler=scaler),)))
    settled = result.scaling.active[result.scaling.time_s > 30]
    assert len(set(settled[:-3].tolist())) == 1


def test_scaling_to_zero_keeps_requests_until_a_replica_is_there() -> None:
    scaler = Autoscaler(4.0, maximum=2, minimum=0, interval_s=1, scrape_delay_s=0, cold_start_s=10, stabilisation_s=5)
    result = simulate(steady(3, 100.0), Cluster((Pool(BIG, 0, autoscaler=scaler),)))
    assert (result.ttft_s >= 10).all()
    assert (result.scaling.active >= 0).all()
    assert result.powered_s.sum() < 0.3 * result.end_s


def test_failed_replicas_give_their_requests_to_others() -> None:
    requests = steady(2000, 0.02, output=50)
    pool = Pool(BIG, 4, failures=Failures(10.0, 2.0))
    result = simulate(requests, Cluster((pool,)), seed=1)
    assert result.retries.sum() > 0
    assert np.isfinite(result.finish_s).all()
    again = result.retries > 0
    assert result.latency_s()[again].mean() > result.latency_s()[~again].mean()


def test_batch_requests_fill_troughs_and_meet_their_deadlines() -> None:
    draws = np.random.default_rng(2)
    interactive = np.sort(draws.uniform(0, 100, 1500))
    arrival = np.concatenate([np.zeros(400), interactive])
    prompt, output = np.full(1900, 64), np.full(1900, 50)
    batch = np.concatenate([np.full(400, 90.0), np.full(1500, np.inf)])
    pool = Pool(BIG, 3, batch_fill=0.25, batch_slack_s=20.0)
    tiered = simulate(Requests(arrival, prompt, output, deadline_s=batch), Cluster((pool,)))
    mixed = simulate(Requests(arrival, prompt, output), Cluster((pool,)))
    assert (tiered.finish_s[:400] <= 90).all()
    first = slice(400, 700)
    assert np.percentile(tiered.ttft_s[first], 90) < np.percentile(mixed.ttft_s[first], 90)


def test_variants_are_factors_on_the_replica() -> None:
    plain = msgspec.structs.replace(BIG, kv_tokens=1000)
    half = with_variant(plain, FP8_KV)
    assert half.kv_tokens == 2000
    assert half.step.kv_token_s == plain.step.kv_token_s / 2
    again = with_variant(half, FP8_KV)  # a cache of 8 bits is not halved again
    assert (again.kv_tokens, again.step.kv_token_s) == (half.kv_tokens, half.step.kv_token_s)
    assert with_variant(half, BF16_KV).kv_tokens == plain.kv_tokens
    requests = steady(1, 0.0, output=200)
    slow = simulate(requests, Cluster((Pool(plain, 1),))).tpot_s[0]
    fast = simulate(requests, Cluster((Pool(with_variant(plain, EAGLE3), 1),))).tpot_s[0]
    assert np.isclose(slow / fast, EAGLE3.tokens_per_step / EAGLE3.step, rtol=1e-3)


@pytest.mark.parametrize(
    ("requests", "pool", "named"),
    [
        (Requests(np.array([1.0, 0.0]), np.ones(2, int), np.ones(2, int)), Pool(BIG, 1), "arrival_s"),
        (Requests(np.array([0.0]), np.zeros(1, int), np.ones(1, int)), Pool(BIG, 1), "prompt token"),
        (Requests(np.array([1e9]), np.ones(1, int), np.ones(1, int)), Pool(BIG, 1), "representative days"),
        (steady(1, 0.0), Pool(replica(max_batch=8, chunk_tokens=4), 1), "chunk_tokens"),
        (steady(1, 0.0), Pool(BIG, 1, handoff=Handoff(0, 0.0, 0.0)), "later pool"),
        (steady(1, 0.0), Pool(BIG, 1, autoscaler=Autoscaler(1.0, maximum=0)), "autoscaler"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_name(requests: Requests, pool: Pool, named: str) -> None:
    with pytest.raises(PlannerError, match=named):
        simulate(requests, Cluster((pool,)))


def test_an_empty_workload_has_an_empty_result() -> None:
    result = simulate(steady(0, 1.0), Cluster((Pool(BIG, 2),)))
    assert len(result.finish_s) == 0
    assert result.goodput_s(1.0, 1.0) == 0.0
