"""The compiled simulator equals the step-by-step one exactly, on random small workloads with every feature."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planner.tests.simulator.workloads import clusters, replica, workloads

from bessemer_planner.simulator import Autoscaler, Cluster, Pool, PrefixBlocks, Requests, Router, simulate
from bessemer_planner.simulator.lowering import Lowered, lower
from bessemer_planner.simulator.native import load
from bessemer_planner.simulator.outcome import OutcomeArrays
from bessemer_planner.simulator.stepwise import run_stepwise

EXAMPLES = settings(max_examples=120, suppress_health_check=list(HealthCheck))


def assert_equal(jumps: OutcomeArrays, steps: OutcomeArrays) -> None:
    """Compare every array and every decision."""
    for name, expected in vars(steps).items():
        got = getattr(jumps, name)
        if isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(got, expected, err_msg=name)
        else:
            assert got == expected, name


@EXAMPLES
@given(data=st.data(), cluster=clusters(), seed=st.integers(0, 2**64))
def test_jumps_equal_steps(data: st.DataObject, cluster: Cluster, seed: int) -> None:
    requests = data.draw(workloads(len(cluster.entry)))
    lowered = lower(requests, cluster, seed)
    assert_equal(compiled()(lowered), run_stepwise(lowered))


@pytest.mark.parametrize("router", Router)
def test_jumps_equal_steps_under_real_lengths_and_scarce_memory(router: Router) -> None:
    draws = np.random.default_rng(11)
    arrival = np.cumsum(draws.exponential(0.01, 400))
    prompt = draws.lognormal(5.5, 1.0, 400).astype(np.int64) + 1
    output = draws.lognormal(4.5, 1.0, 400).astype(np.int64) + 1
    sizes = prompt // 16
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    depth = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)
    text = np.repeat(draws.integers(0, 12, 400), sizes)
    own = np.repeat(np.arange(400), sizes)
    hashes = np.where(depth < 12, text * 1000 + depth, 10**6 + own * 1000 + depth)
    one = replica(max_batch=24, kv_tokens=6000, chunk_tokens=512, block_tokens=16, request_s=0.01, pair_s=1e-9)
    pool = Pool(one, 4, router, prefix_cache=True)
    lowered = lower(Requests(arrival, prompt, output, prefix=PrefixBlocks(offsets, hashes, 16)), Cluster((pool,)), 3)
    walked = run_stepwise(lowered)
    assert walked.preempted.sum() > 20
    assert walked.reused.sum() > 5000
    assert_equal(compiled()(lowered), walked)


def compiled() -> Callable[[Lowered], OutcomeArrays]:
    """The compiled simulator; without a C compiler there is nothing to compare."""
    run = load()
    if run is None:
        pytest.skip("no C compiler")
    return run


def test_without_a_compiler_there_is_nothing_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    load.cache_clear()
    assert load() is None
    requests = Requests(np.array([0.0, 0.1]), np.array([10, 20]), np.array([5, 5]))
    slow = simulate(requests, Cluster((Pool(replica(), 1),)))
    monkeypatch.undo()
    load.cache_clear()
    fast = simulate(requests, Cluster((Pool(replica(), 1),)))
    assert slow.finish_s.tobytes() == fast.finish_s.tobytes()


def test_many_scaling_decisions_fit() -> None:
    """The drain after the last arrival takes more decisions than were made room for: the run is repeated."""
    scaler = Autoscaler(1.0, maximum=1, interval_s=0.001, scrape_delay_s=0.0)
    requests = Requests(np.array([0.0]), np.array([10]), np.array([300]))
    lowered = lower(requests, Cluster((Pool(replica(), 1, autoscaler=scaler),)), 0)
    jumps = compiled()(lowered)
    assert len(jumps.scaling) > 1024
    assert_equal(jumps, run_stepwise(lowered))
