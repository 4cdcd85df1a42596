"""Queueing theory and conservation: what must hold for any correct simulator."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planner.tests.simulator.workloads import clusters, replica, workloads

from bessemer_planner.simulator import Cluster, Pool, Requests, Router, simulate

EXAMPLES = settings(max_examples=80, suppress_health_check=list(HealthCheck))


def servers(count: int, token_s: float) -> Pool:
    """A batch of `count` in which a token takes `token_s` however full it is, prompts included."""
    queue = replica(
        max_batch=count,
        chunk_tokens=count,
        kv_tokens=10**6,
        base_s=token_s,
        sequence_s=0.0,
        kv_token_s=0.0,
        prefill_token_s=0.0,
    )
    return Pool(queue, 1)


def poisson(rate: float, output: np.ndarray, seed: int) -> Requests:
    """Poisson arrivals of requests with one prompt token."""
    arrival = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, len(output)))
    return Requests(arrival, np.ones(len(output), np.int64), output)


def test_one_server_with_exponential_service_waits_as_m_m_1_predicts() -> None:
    """Mean time in an M/M/1 system: 1 / (mu - lambda)."""
    # Service in tokens of 1 ms, geometric with mean 1000: exponential to within a thousandth.
    output = np.random.default_rng(1).geometric(1e-3, 400_000)
    result = simulate(poisson(0.7, output, seed=2), Cluster((servers(1, 1e-3),)))
    assert abs(result.latency_s().mean() * (1 - 0.7) - 1) < 0.04


def test_one_server_follows_lindleys_recursion_request_by_request() -> None:
    output = np.random.default_rng(7).integers(1, 400, 5000)
    requests = poisson(4.0, output, seed=8)
    result = simulate(requests, Cluster((servers(1, 1e-3),)))
    free = 0.0
    for arrival, tokens, finish in zip(requests.arrival_s, output, result.finish_s, strict=True):
        free = max(free, arrival) + tokens * 1e-3
        assert abs(finish - free) < 1e-8


def erlang_c(count: int, offered: float) -> float:
    """Probability that an arrival waits in M/M/c."""
    blocking = 1.0
    for used in range(1, count + 1):
        blocking = offered * blocking / (used + offered * blocking)
    return blocking / (1 - offered / count * (1 - blocking))


def test_one_server_with_constant_service_waits_as_pollaczek_and_khinchine_predict() -> None:
    """Mean wait in M/D/1: rho * D / (2 (1 - rho))."""
    output = np.full(300_000, 100)
    result = simulate(poisson(8.0, output, seed=3), Cluster((servers(1, 1e-3),)))
    waited = result.latency_s().mean() - 0.1
    assert abs(waited / (0.8 * 0.1 / (2 * 0.2)) - 1) < 0.04


def test_a_full_batch_is_a_queue_with_many_constant_servers() -> None:
    """M/D/c: a batch of c whose steps cost the same however full it is; Cosmetatos' approximation of the mean wait."""
    count, service, load = 8, 0.2, 0.85
    requests = poisson(load * count / service, np.full(300_000, 2000), seed=4)
    result = simulate(requests, Cluster((servers(count, 1e-4),)))
    waited = result.latency_s().mean() - service
    exponential = erlang_c(count, load * count) * service / (count * (1 - load))
    correction = (1 - load) * (count - 1) * (np.sqrt(4 + 5 * count) - 2) / (16 * count * load)
    assert abs(waited / (0.5 * (1 + correction) * exponential) - 1) < 0.06


def test_requests_in_the_system_are_rate_times_latency() -> None:
    """Little's law, with requests under way counted from the event times alone."""
    draws = np.random.default_rng(5)
    requests = Requests(
        np.cumsum(draws.exponential(0.01, 20_000)), draws.integers(1, 60, 20_000), draws.integers(1, 60, 20_000)
    )
    result = simulate(requests, Cluster((Pool(replica(), 6),)))
    times = np.concatenate([result.sent_s, result.finish_s])
    order = np.argsort(times, kind="stable")
    under_way = np.cumsum(np.repeat([1, -1], len(requests))[order])[:-1]
    area = float((under_way * np.diff(times[order])).sum())
    assert np.isclose(area, result.latency_s().sum(), rtol=1e-9)


def test_one_request_alone_takes_the_sum_of_its_steps() -> None:
    requests = Requests(np.array([1.0]), np.array([50]), np.array([3]))
    pool = Pool(replica(pair_s=1e-6, prefill_step_s=1e-3, kv_token_s=1e-5, request_s=0.5, prompt_token_s=0.01), 1)
    result = simulate(requests, Cluster((pool,)))
    overhead = 0.5 + 50 * 0.01
    first_chunk = 0.006 + 1e-3 + 32 * 20e-6 + 1e-6 * 32 * 33 / 2
    second_chunk = 0.006 + 1e-3 + 18 * 20e-6 + 1e-6 * (18 * 32 + 18 * 19 / 2)
    decode = [0.006 + 25e-6 + 1e-5 * held for held in (50, 51)]
    assert np.isclose(result.ttft_s[0], overhead + first_chunk + second_chunk, rtol=1e-12)
    assert np.isclose(result.tpot_s[0], sum(decode) / 2, rtol=1e-9)
    assert np.isclose(result.busy_s[0], first_chunk + second_chunk + sum(decode), rtol=1e-9)


@EXAMPLES
@given(data=st.data(), cluster=clusters(), seed=st.integers(0, 2**32))
def test_nothing_is_lost_and_nothing_happens_too_soon(data: st.DataObject, cluster: Cluster, seed: int) -> None:
    requests = data.draw(workloads(len(cluster.entry)))
    result = simulate(requests, cluster, seed=seed)
    done = np.isfinite(result.finish_s)
    assert np.array_equal(done, ~result.rejected)
    assert (result.sent_s[done] >= requests.arrival_s[done] - 1e-12).all()
    assert (result.ttft_s[done] >= 0).all()
    assert (result.latency_s()[done] >= result.ttft_s[done] - 1e-9).all()
    assert (result.replica[done] >= 0).all()
    assert (result.replica[~done] == -1).all()
    assert (result.reused_tokens >= 0).all()
    assert (result.busy_s <= result.powered_s + 1e-9).all()
    assert np.isnan(result.tpot_s[requests.output_tokens == 1]).all()


@EXAMPLES
@given(data=st.data(), limit=st.integers(1, 5))
def test_a_closed_loop_never_has_more_under_way_than_its_limit(data: st.DataObject, limit: int) -> None:
    requests = data.draw(workloads())
    closed = Requests(requests.arrival_s, requests.prompt_tokens, requests.output_tokens, concurrency=limit)
    result = simulate(closed, Cluster((Pool(replica(kv_tokens=2000), 2),)))
    under_way = [int(((result.sent_s <= time) & (result.finish_s > time)).sum()) for time in result.sent_s]
    assert max(under_way) <= limit


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not() -> None:
    draws = np.random.default_rng(6)
    requests = Requests(
        np.cumsum(draws.exponential(0.002, 2000)), draws.integers(1, 60, 2000), draws.integers(1, 60, 2000)
    )
    cluster = Cluster((Pool(replica(), 8, router=Router.POWER_OF_TWO),))
    one, two, other = (simulate(requests, cluster, seed=seed) for seed in (1, 1, 2))
    assert one.finish_s.tobytes() == two.finish_s.tobytes()
    assert one.replica.tobytes() == two.replica.tobytes()
    assert one.finish_s.tobytes() != other.finish_s.tobytes()
