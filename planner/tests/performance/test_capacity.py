"""Capacity by the engines' rules: golden figures, refusals with the nearest that fits, and what must hold always."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer_planner.catalog import load_catalog
from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.models import model_shape
from bessemer_planner.performance import capacity
from bessemer_planner.performance.capacity import kv_bytes_per_token, sequence_bytes, weight_bytes
from bessemer_planner.types import Deployment, Precision, ServingEngine


def deployment(model: str, accelerator: str, precision: Precision = Precision.FP8, **sizes: int) -> Deployment:
    return Deployment(model, accelerator, ServingEngine.VLLM, None, precision, **sizes)


@pytest.mark.parametrize(
    ("model", "precision", "tp", "expected"),
    [
        ("Llama-3.1-70B", Precision.BF16, 1, 327_680),  # 80 layers x 2 x 8 heads x 128 x 2 bytes
        ("Llama-3.1-70B", Precision.FP8, 8, 20_480),
        ("Llama-3.1-70B", Precision.FP8, 16, 20_480),  # heads are never split in two
        ("DeepSeek-R1", Precision.BF16, 8, 61 * 576 * 2),  # a latent cache is not split
        ("gpt-oss-120b", Precision.BF16, 1, 18 * 2 * 8 * 64 * 2),  # sliding layers do not grow
    ],
)
def test_kv_bytes_per_token(model: str, precision: Precision, tp: int, expected: int) -> None:
    assert kv_bytes_per_token(model_shape(model), precision, tp) == expected


def test_a_sliding_window_is_billed_once_per_sequence() -> None:
    assert sequence_bytes(model_shape("gpt-oss-120b"), Precision.BF16, 1) == 18 * 2 * 8 * 64 * 128 * 2


def test_experts_are_split_over_all_accelerators_and_attention_over_tensor_parallel_alone() -> None:
    shape = model_shape("DeepSeek-R1")
    together = weight_bytes(shape, deployment("DeepSeek-R1", "b200_sxm", tp=8, ep=8))
    apart = weight_bytes(shape, deployment("DeepSeek-R1", "b200_sxm", dp=8, ep=8))
    assert together == pytest.approx(shape.parameters_b * 1e9 / 8)
    assert apart > together


def test_what_does_not_fit_is_refused_with_the_nearest_that_does() -> None:
    catalog = load_catalog()
    with pytest.raises(Unsatisfiable, match="Nearest that fits: tp 8"):
        capacity(
            deployment("Llama-3.1-405B", "h100_sxm"), model_shape("Llama-3.1-405B"), catalog.accelerator("h100_sxm")
        )
    with pytest.raises(Unsatisfiable, match="nearest: tp 64"):
        capacity(
            deployment("Llama-3.1-70B", "h100_sxm", tp=65),
            model_shape("Llama-3.1-70B"),
            catalog.accelerator("h100_sxm"),
        )
    with pytest.raises(Unsatisfiable, match="no experts"):
        capacity(deployment("Qwen3-8B", "h100_sxm", ep=2), model_shape("Qwen3-8B"), catalog.accelerator("h100_sxm"))


def test_measured_waits_agree_with_the_capacity() -> None:
    """64 clients of 8192 + 1024 tokens queued on H200 TP1 (47 in flight), and did not on TP2 (silicon_sample.csv)."""
    h200 = load_catalog().accelerator("h200_sxm")
    shape = model_shape("Llama-3.1-70B")
    one = capacity(deployment("Llama-3.1-70B", "h200_sxm"), shape, h200, max_batch=64)
    two = capacity(deployment("Llama-3.1-70B", "h200_sxm", tp=2), shape, h200, max_batch=64)
    assert 30 < one.kv_tokens / 8704 < 64
    assert two.kv_tokens / 9216 > 64


@given(tp=st.sampled_from([1, 2, 4, 8]), batch=st.integers(1, 512))
def test_more_accelerators_never_hold_less(tp: int, batch: int) -> None:
    shape, b200 = model_shape("Qwen3-32B"), load_catalog().accelerator("b200_sxm")
    small = capacity(deployment("Qwen3-32B", "b200_sxm", tp=tp), shape, b200, max_batch=batch)
    large = capacity(deployment("Qwen3-32B", "b200_sxm", tp=2 * tp), shape, b200, max_batch=batch)
    assert large.kv_tokens >= small.kv_tokens > 0
    assert large.weight_bytes < small.weight_bytes
