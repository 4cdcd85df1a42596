"""Step times from measured operators: the accelerators on which no engine was ever measured."""

import msgspec
import numpy as np
import pytest

from bessemer_planner.catalog import load_catalog
from bessemer_planner.models import model_shape
from bessemer_planner.performance import Performance
from bessemer_planner.performance.from_operators import operator_step, step_steady
from bessemer_planner.types import Deployment, Precision, ServingEngine, StepTime

MODEL = "meta-llama/Llama-3.1-8B"


def step(accelerator: str, precision: Precision = Precision.BF16, tp: int = 1) -> StepTime | None:
    """The step time of one replica of the 8B model."""
    deployment = Deployment(MODEL, accelerator, ServingEngine.VLLM, None, precision, tp=tp)
    return operator_step(deployment, model_shape(MODEL), load_catalog().accelerator(accelerator), 128)


def test_a_small_batch_reads_the_weights_at_the_bandwidth_that_gemms_reach() -> None:
    found = step("rtx_pro_6000_server")
    assert found is not None
    weights = 15.0e9 / (0.92 * 1.597e12)
    assert found.decode_s[1] == pytest.approx(weights + 32 * 24.6e-6 + 34e-6, rel=0.01)
    # 32 layers of 4,096 bytes per token at 90 % of the bandwidth.
    assert found.kv_token_s == pytest.approx(32 * 4096 / (0.9 * 1.597e12), rel=1e-6)
    assert 25e-6 < found.prefill_token_s < 40e-6
    assert (np.diff(found.decode_s) >= 0).all()


def test_eight_bits_and_more_accelerators_are_faster() -> None:
    plain, narrow, wide = step("rtx_pro_6000_server"), step("rtx_pro_6000_server", Precision.FP8), step("l40s")
    assert plain is not None
    assert narrow is not None
    assert wide is not None
    assert narrow.decode_s[1] < 0.65 * plain.decode_s[1]
    assert wide.decode_s[1] > 1.5 * plain.decode_s[1]


def test_all_reduces_cross_pcie_where_there_is_no_link() -> None:
    """64 reduces a step of 4,096 values of 16 bits for each sequence, at 15.2 GB/s: what 127 more sequences add."""
    one, two = step("rtx_pro_6000_server"), step("rtx_pro_6000_server", tp=2)
    assert one is not None
    assert two is not None
    wire = 127 * 64 * 2 * 4096 / 15.2e9
    grown = [float(found.decode_s[128] - found.decode_s[1]) for found in (one, two)]
    assert grown[1] - grown[0] == pytest.approx(wire, rel=0.35)  # products are halved, host work is not


def test_an_l40s_under_load_is_slower_than_its_operators() -> None:
    """Llama-3.1-8B in FP8, MLPerf Inference v5.1 Offline: 12.83 requests a second of 778 and 129 tokens."""
    deployment, card = (
        Deployment(MODEL, "l40s", ServingEngine.VLLM, None, Precision.FP8),
        load_catalog().accelerator("l40s"),
    )
    found = operator_step(deployment, model_shape(MODEL), card, 256)
    assert found is not None
    _, each = step_steady(found, 778, 129, 256, 0)
    assert 256 / (129 * each) == pytest.approx(12.83, rel=0.2)


def test_without_tables_there_is_no_step() -> None:
    assert step("trainium2") is None


def test_the_predictor_uses_it_only_where_no_engine_was_measured() -> None:
    performance, shape, catalog = Performance.load(), model_shape(MODEL), load_catalog()
    said = {}
    for name in ("rtx_pro_6000_server", "l40s", "a100", "h100_sxm", "gb300"):
        deployment = Deployment(MODEL, name, ServingEngine.VLLM, None, Precision.BF16)
        prediction = performance.replica(deployment, shape, catalog.accelerator(name))
        said[name] = " ".join(prediction.warnings)
    assert [name for name, text in said.items() if "measured operators" in text] == list(said)[:3]
    borrowed = [name for name, text in said.items() if "are those of rtx_pro_6000_server" in text]
    assert borrowed == ["l40s", "a100"]
    assert all("host time per sequence is that of H100" in said[name] for name in list(said)[:3])


def test_an_accelerator_of_a_fitted_architecture_follows_its_siblings() -> None:
    performance, shape, catalog = Performance.load(), model_shape(MODEL), load_catalog()
    times = {}
    for name in ("gb200", "gb300", "b300_sxm"):
        deployment = Deployment(MODEL, name, ServingEngine.VLLM, None, Precision.FP8)
        prediction = performance.replica(deployment, shape, catalog.accelerator(name))
        times[name] = prediction.replica.step.decode_s[32]
        assert (name == "gb300") == ("accelerator gb300 was never measured" in (prediction.extrapolated or ""))
    assert times["gb300"] == pytest.approx(times["gb200"], rel=0.1)
    assert times["gb300"] == pytest.approx(times["b300_sxm"], rel=0.1)


def test_windows_and_linear_states_are_read_in_every_step() -> None:
    """gpt-oss-120b: 18 of 36 layers keep 128 tokens of 2 x 8 x 64 values in 8 bits each."""
    shape, card = model_shape("gpt-oss-120b"), load_catalog().accelerator("rtx_pro_6000_server")
    deployment = Deployment(shape.name, card.name, ServingEngine.VLLM, None, Precision.FP4, tp=2)
    whole = operator_step(deployment, shape, card, 64)
    full = tuple(group for group in shape.groups if group.window is None)
    bare = operator_step(deployment, msgspec.structs.replace(shape, groups=full * 2), card, 64)
    assert whole is not None
    assert bare is not None
    per_token = 18 * 2 * 4 * 64 / (0.9 * 1.597e12)
    assert whole.kv_token_s == pytest.approx(per_token, rel=1e-6)
    assert bare.kv_token_s == pytest.approx(2 * per_token, rel=1e-6)
    assert whole.decode_s[64] - bare.decode_s[64] == pytest.approx(64 * 128 * per_token, rel=1e-3)


def test_a_lone_client_waits_for_one_prompt_and_a_queue_for_its_turn() -> None:
    even = StepTime(np.full(9, 0.01), 0.0, 1e-5)
    first, each = step_steady(even, 1000, 100, 1, 0)
    assert each == pytest.approx(0.01 + 1000 * 1e-5 / 100)
    assert first == pytest.approx(0.0156 + 46e-6 * 1000 + 0.01 + 0.01 + each / 2)
    queued, _ = step_steady(even, 1000, 100, 8, 8)
    alone, _ = step_steady(even, 1000, 100, 8, 0)
    assert queued - alone == pytest.approx(100 * step_steady(even, 1000, 100, 8, 0)[1])
