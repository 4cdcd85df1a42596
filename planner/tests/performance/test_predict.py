"""Predictions with the shipped calibration: monotone, honest about what was never measured, near what was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer_planner.catalog import HardwareCatalog, load_catalog
from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.models import model_shape
from bessemer_planner.performance import Performance, ReplicaPrediction
from bessemer_planner.types import Deployment, KvPrecision, Precision, ServingEngine


@pytest.fixture(scope="module")
def performance() -> Performance:
    return Performance.load()


def predict(
    performance: Performance, model: str, accelerator: str, engine: ServingEngine, precision: Precision, tp: int = 1
) -> ReplicaPrediction:
    deployment = Deployment(model, accelerator, engine, None, precision, tp=tp)
    return performance.replica(deployment, model_shape(model), load_catalog().accelerator(accelerator))


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP8])
def test_step_times_grow_with_the_batch(performance: Performance, precision: Precision) -> None:
    step = predict(performance, "Qwen3-32B", "h100_sxm", ServingEngine.VLLM, precision, tp=2).replica.step
    assert (np.diff(step.decode_s) >= 0).all()
    assert step.decode_s[0] > 0
    assert min(step.kv_token_s, step.prefill_token_s, step.pair_s) > 0


def test_a_token_takes_at_least_the_time_to_read_the_weights(
    performance: Performance, catalog: HardwareCatalog
) -> None:
    h100 = catalog.accelerator("h100_sxm")
    step = predict(performance, "Llama-3.1-8B", "h100_sxm", ServingEngine.VLLM, Precision.BF16).replica.step
    assert step.decode_s[1] > 7.5e9 * 2 / (h100.bandwidth_tbs * 1e12)
    assert step.decode_s[1] < 0.02


def test_it_says_what_was_never_measured(performance: Performance) -> None:
    known = predict(performance, "gpt-oss-120b", "b200_sxm", ServingEngine.VLLM, Precision.FP4)
    assert known.extrapolated is None
    assert known.nearest[0].distance < 1.0
    assert known.engine_version.startswith("vllm ")
    new = predict(performance, "Qwen3-8B", "l40s", ServingEngine.VLLM, Precision.FP8)
    assert new.extrapolated is not None
    assert "l40s" in new.extrapolated
    assert "Qwen3-8B" in new.extrapolated
    assert new.warnings
    assert new.spread.high > known.spread.high > 1.0 > known.spread.low


def test_measured_points_of_the_model_are_near_however_it_is_called(performance: Performance) -> None:
    called = [predict(performance, name, "h100_sxm", ServingEngine.TRTLLM, Precision.BF16).nearest
              for name in ("Llama-3.1-8B", "llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct")]  # fmt: skip
    assert {one.model for one in called[0]} == {"Llama-3.1-8B"}
    assert called[1] == called[0]
    assert called[2] == called[0]


def test_an_unmeasured_version_is_said_and_doubted(performance: Performance, catalog: HardwareCatalog) -> None:
    deployment = Deployment("gpt-oss-120b", "b200_sxm", ServingEngine.VLLM, "9.9", Precision.FP4)
    future = performance.replica(deployment, model_shape("gpt-oss-120b"), catalog.accelerator("b200_sxm"))
    assert any("never measured" in warning for warning in future.warnings)
    now = predict(performance, "gpt-oss-120b", "b200_sxm", ServingEngine.VLLM, Precision.FP4)
    assert future.spread.high > now.spread.high


def test_what_does_not_fit_has_no_latency(performance: Performance) -> None:
    with pytest.raises(Unsatisfiable, match="Nearest"):
        predict(performance, "Llama-3.1-405B", "h100_sxm", ServingEngine.VLLM, Precision.BF16)


def test_a_wider_cache_holds_half_and_is_read_for_twice_as_long(
    performance: Performance, catalog: HardwareCatalog
) -> None:
    deployment = Deployment("Llama-3.1-8B", "h100_sxm", ServingEngine.VLLM, None, Precision.FP8)
    shape, card = model_shape("Llama-3.1-8B"), catalog.accelerator("h100_sxm")
    usual, same, wide = (
        performance.replica(deployment, shape, card, kv_precision=kind)
        for kind in (KvPrecision.AUTO, KvPrecision.FP8, KvPrecision.BF16)
    )
    assert (usual.replica.kv_value_bytes, wide.replica.kv_value_bytes) == (1.0, 2.0)
    assert same.replica.kv_tokens == usual.replica.kv_tokens == pytest.approx(2 * wide.replica.kv_tokens, abs=1)
    assert wide.replica.step.kv_token_s == 2 * usual.replica.step.kv_token_s
    assert wide.capacity.kv_bytes_per_token == 2 * usual.capacity.kv_bytes_per_token
    assert wide.capacity.kv_tokens == wide.replica.kv_tokens
    slow, fast = (performance.steady(one, 4096, 512, 32).tpot_s.value for one in (wide, usual))
    reads = usual.replica.step.kv_token_s * 32 * (4096 + 256)
    assert slow - fast == pytest.approx(reads, rel=0.15)


def test_operators_that_no_table_has_are_named(performance: Performance) -> None:
    known = predict(performance, "Llama-3.1-8B", "h100_sxm", ServingEngine.VLLM, Precision.FP8)
    assert not any("operator table" in warning for warning in known.warnings)
    blind = predict(performance, "Llama-3.1-8B", "trainium2", ServingEngine.VLLM, Precision.FP8, tp=2)
    assert any("No operator table has matrix products, all-reduce of Llama-3.1-8B" in one for one in blind.warnings)


@settings(max_examples=25)
@given(concurrency=st.integers(1, 200), more=st.integers(1, 100))
def test_steady_state_is_ordered(performance: Performance, concurrency: int, more: int) -> None:
    prediction = predict(performance, "Llama-3.1-70B", "h200_sxm", ServingEngine.VLLM, Precision.FP8, tp=4)
    few = performance.steady(prediction, 1024, 512, concurrency)
    many = performance.steady(prediction, 1024, 512, concurrency + more)
    for steady in (few, many):
        for interval in (steady.ttft_s, steady.tpot_s, steady.output_tokens_s):
            assert 0 < interval.low < interval.value < interval.high
    assert many.ttft_s.value >= 0.99 * few.ttft_s.value
    assert many.tpot_s.value >= 0.97 * few.tpot_s.value


def test_clients_beyond_the_memory_wait(performance: Performance) -> None:
    """Measured on H200 TP1: 64 clients of 8192 + 1024 tokens wait 40 s, 32 do not (silicon_sample.csv)."""
    prediction = predict(performance, "Llama-3.1-70B", "h200_sxm", ServingEngine.VLLM, Precision.FP8)
    short = performance.steady(prediction, 8192, 1024, 32)
    queued = performance.steady(prediction, 8192, 1024, 64)
    assert queued.batch < 64
    assert queued.ttft_s.value > 4 * short.ttft_s.value
