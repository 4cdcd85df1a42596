"""A prefix cache spares the computing of prompts, neither their memory nor the reading of their context."""

import msgspec
import numpy as np
import pytest

from bessemer_planner.catalog import HardwareCatalog, load_catalog
from bessemer_planner.fleet.configurations import Configuration, configurations, predictions
from bessemer_planner.fleet.mean_field import MeanLengths, prompt_seconds, states
from bessemer_planner.fleet.verify import verify
from bessemer_planner.performance import Performance, ReplicaPrediction
from bessemer_planner.workload import Workload, parse_workload

ISL, OSL, SHARE = 10_000, 300, 0.9
WORKLOAD = f"""
name = "x"
[traffic]
requests_per_month = 1e6
prefix_share = {SHARE}
prompt_tokens = {{ mean = {ISL}, quantiles = [{ISL}, {ISL}] }}
output_tokens = {{ mean = {OSL}, quantiles = [{OSL}, {OSL}] }}
[[models]]
name = "llama-3.1-8b"
[limits]
ttft_s = 20.0
tpot_s = 0.5
[fleet]
disaggregated = false
"""


@pytest.fixture(scope="module")
def catalog() -> HardwareCatalog:
    return load_catalog()


def planned(share: float, catalog: HardwareCatalog) -> tuple[Workload, ReplicaPrediction, Configuration]:
    """The same workload with another cached share, on one H100."""
    made = parse_workload(WORKLOAD)
    workload = msgspec.structs.replace(made, traffic=msgspec.structs.replace(made.traffic, prefix_share=share))
    predicted, _ = predictions(workload, catalog, Performance.load(), ("h100_sxm",))
    found, _ = configurations(workload, predicted[:1])
    return workload, predicted[0][1], found[0]


def test_only_what_is_not_cached_is_computed(catalog: HardwareCatalog) -> None:
    _, cached, _ = planned(SHARE, catalog)
    _, whole, _ = planned(0.0, catalog)
    step, new = whole.replica.step, ISL * (1 - SHARE)
    pairs = new * (ISL - new + new / 2)
    by_hand = step.prefill_token_s * new + step.pair_s * pairs
    assert prompt_seconds(cached.replica, ISL) == pytest.approx(by_hand)
    assert cached.replica.request_s == whole.replica.request_s
    assert cached.replica.prompt_token_s == whole.replica.prompt_token_s  # the API server reads all of it


def test_memory_and_context_are_those_of_whole_prompts(catalog: HardwareCatalog) -> None:
    workload, cached, configuration = planned(SHARE, catalog)
    steady = states(cached.replica, MeanLengths(ISL, OSL))
    assert len(steady.tpot_s) == min(cached.replica.kv_tokens // (ISL + OSL), cached.replica.max_batch) < 100
    assert configuration.load < len(steady.tpot_s)
    reads = cached.replica.step.kv_token_s * configuration.load * (ISL + OSL / 2)
    assert configuration.tpot_s > reads + cached.replica.step.decode_s[1]
    rate = 0.7 * configuration.rate
    simulated = verify(configuration, workload, rate, 1).tpot_p50_s
    assert simulated == pytest.approx(np.interp(rate, steady.requests_s, steady.tpot_s), rel=0.1)


def test_a_cache_helps_but_less_than_prompts_of_a_tenth(catalog: HardwareCatalog) -> None:
    rates = {share: planned(share, catalog)[2].rate for share in (0.0, SHARE)}
    short = parse_workload(WORKLOAD.replace(f"{ISL}", "1000").replace(f"prefix_share = {SHARE}", ""))
    predicted, _ = predictions(short, catalog, Performance.load(), ("h100_sxm",))
    tenth = configurations(short, predicted[:1])[0][0]
    assert 1.5 * rates[0.0] < rates[SHARE] < 0.5 * tenth.rate


def test_the_curve_of_a_plan_knows_the_cache(catalog: HardwareCatalog) -> None:
    performance = Performance.load()
    whole, cached = planned(0.0, catalog)[1], planned(SHARE, catalog)[1]
    plain, reused = (performance.steady(one, ISL, OSL, 16) for one in (whole, cached))
    assert reused.batch == plain.batch
    assert reused.ttft_s.value < 0.6 * plain.ttft_s.value
    reads = np.asarray(cached.replica.step.kv_token_s) * 16 * (ISL + OSL / 2)
    assert float(reads) < reused.tpot_s.value < plain.tpot_s.value
