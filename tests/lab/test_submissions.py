"""How submissions ran: pipelines, padded graphs, and the lengths of their answers."""

import msgspec
import numpy as np
import pytest

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.models import model_shape
from bessemer_planner.performance import Performance
from bessemer_planner.performance.capacity import capacity
from bessemer_planner.types import Deployment, Precision, ServingEngine
from lab.planner.submissions import output_shares, setting

LLAMA = model_shape("Llama-2-70B")
PIPELINE = Deployment(LLAMA.name, "h100_sxm", ServingEngine.TRTLLM, None, Precision.FP8, pp=2)
LIMITS = {"isl": 294.0, "osl": 293.0, "chunk_tokens": 1024}


@pytest.fixture(scope="module")
def performance() -> Performance:
    return Performance.load()


def test_two_stages_advance_two_micro_batches_in_the_time_of_one(
    performance: Performance, catalog: HardwareCatalog
) -> None:
    h100 = catalog.accelerator("h100_sxm")
    staged = performance.replica(PIPELINE, LLAMA, h100, max_batch=2048, **LIMITS)
    larger = msgspec.structs.replace(h100, memory_gb=2 * h100.memory_gb)  # one accelerator that held all layers
    lane = performance.replica(msgspec.structs.replace(PIPELINE, pp=1), LLAMA, larger, max_batch=1024, **LIMITS)
    both, one = staged.replica.step, lane.replica.step
    assert np.allclose(both.decode_s[2::2], one.decode_s[1:], rtol=1e-3)
    assert both.kv_token_s == pytest.approx(one.kv_token_s / 2)
    assert both.prefill_token_s == pytest.approx(one.prefill_token_s / 2, rel=1e-3)
    assert staged.replica.chunk_tokens == 2 * lane.replica.chunk_tokens
    assert staged.replica.request_s > lane.replica.request_s  # a prompt passes the stages one after the other
    assert any("Pipeline" in warning for warning in staged.warnings)


def test_a_pipeline_holds_what_its_accelerators_hold_and_exchanges_less(
    performance: Performance, catalog: HardwareCatalog
) -> None:
    h100 = catalog.accelerator("h100_sxm")
    tensor = msgspec.structs.replace(PIPELINE, pp=1, tp=2)
    held = [capacity(one, LLAMA, h100, max_batch=2048, chunk_tokens=1024).kv_tokens for one in (PIPELINE, tensor)]
    assert held[0] == pytest.approx(held[1], rel=0.02)
    staged, split = (performance.replica(one, LLAMA, h100, max_batch=2048, **LIMITS) for one in (PIPELINE, tensor))
    assert (
        performance.steady(staged, 294, 293, 1000).tpot_s.value < performance.steady(split, 294, 293, 1000).tpot_s.value
    )
    assert performance.steady(staged, 294, 293, 1).tpot_s.value > performance.steady(split, 294, 293, 1).tpot_s.value


def test_a_step_is_padded_to_the_next_captured_batch_of_its_rank(
    performance: Performance, catalog: HardwareCatalog
) -> None:
    shape, chip = model_shape("DeepSeek-R1"), catalog.accelerator("b200_sxm")
    deployment = Deployment(shape.name, "b200_sxm", ServingEngine.TRTLLM, None, Precision.FP4, dp=8, ep=8)
    plain = performance.replica(deployment, shape, chip, max_batch=2048)
    padded = performance.replica(deployment, shape, chip, max_batch=2048, graph_batches=(128, 256))
    free, full = plain.replica.step.decode_s, padded.replica.step.decode_s
    assert full[1024] == pytest.approx(free[1024])
    assert (full >= free - 1e-12).all()
    assert free[1032] < full[1032] < free[2048]  # 129 of a rank are computed as 256, scheduled as 129
    assert (np.diff(full) >= 0).all()


@pytest.mark.parametrize("model", ["Llama-2-70B", "Llama-3.1-8B", "Llama-3.1-405B", "DeepSeek-R1", "Mixtral-8x7B"])
def test_answers_have_the_mean_they_are_shares_of(model: str) -> None:
    shares = output_shares(model, (np.arange(100_000) + 0.5) / 100_000)
    assert shares is not None
    assert shares.mean() == pytest.approx(1.0, abs=1e-3)
    assert (np.diff(shares) >= 0).all()
    assert shares[0] >= 0.0


def test_reasoning_answers_differ_more_than_summaries() -> None:
    spread = {}
    for model in ("Llama-3.1-8B", "Llama-2-70B", "DeepSeek-R1"):
        shares = output_shares(model, np.linspace(0.0, 1.0, 10_001))
        assert shares is not None
        spread[model] = shares.std()
    assert spread["Llama-3.1-8B"] < 0.2 < spread["Llama-2-70B"] < spread["DeepSeek-R1"]
    assert output_shares("Qwen3-32B", np.array([0.5])) is None


def test_a_setting_names_its_source(catalog: HardwareCatalog) -> None:
    h100 = setting("Llama-2-70B", catalog.accelerator("h100_sxm"))
    assert h100 is not None
    assert (h100.tp, h100.pp, h100.source) == (1, 2, "Cisco H100_SXM_80GB_PP2x4")
    assert setting("Llama-3.1-8B", catalog.accelerator("l40s")) is None
