"""What the tokens of a step add to its products, at least: measured figures under the fitted coefficients."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer_planner.catalog import HardwareCatalog, load_catalog
from bessemer_planner.models import model_shape
from bessemer_planner.performance import Performance
from bessemer_planner.performance.products import added_s
from bessemer_planner.performance.work import MATMUL_SHARE, machine, parts
from bessemer_planner.types import Deployment, Precision, ServingEngine

DENSE = ("Llama-3.1-8B", "Llama-3.1-70B", "Llama-3.1-405B")


@pytest.fixture(scope="module")
def performance() -> Performance:
    return Performance.load()


@pytest.mark.parametrize(("accelerator", "precision"), [("h200_sxm", Precision.FP8), ("b200_sxm", Precision.FP4)])
def test_a_large_step_takes_what_its_arithmetic_takes(
    performance: Performance, catalog: HardwareCatalog, accelerator: str, precision: Precision
) -> None:
    """The fit alone computed prompts at 80 to 100 % of the peak, which no measured product reaches."""
    shape, chip = model_shape("Llama-3.1-70B"), catalog.accelerator(accelerator)
    deployment = Deployment(shape.name, accelerator, ServingEngine.TRTLLM, None, precision)
    prediction = performance.replica(deployment, shape, chip, max_batch=1024, isl=300, osl=300)
    least = added_s(deployment, shape, chip, np.array([2048.0]))[0]
    step = prediction.replica.step
    assert step.decode_s[1024] - step.decode_s[1] + 1024 * step.prefill_token_s > 0.98 * least
    flops = parts(deployment, shape).flops_per_token * 2048 / machine(chip, precision).flops
    assert least > 0.8 * flops / MATMUL_SHARE.get(precision, MATMUL_SHARE[Precision.BF16])
    steady = performance.steady(prediction, 300, 300, 800)
    assert steady.tpot_s.value > added_s(deployment, shape, chip, np.array([1600.0]))[0]


def test_reads_hide_the_arithmetic_of_a_few_tokens(catalog: HardwareCatalog) -> None:
    shape, chip = model_shape("Llama-3.1-70B"), catalog.accelerator("mi325x")
    deployment = Deployment(shape.name, "mi325x", ServingEngine.VLLM, None, Precision.FP8)
    few, many = added_s(deployment, shape, chip, np.array([16.0, 2048.0]))
    assert few == 0.0
    assert many > 0.1


@given(
    st.sampled_from(DENSE),
    st.sampled_from(("h100_sxm", "b200_sxm", "gb300", "mi325x", "trainium2")),
    st.sampled_from((Precision.BF16, Precision.FP8)),
    st.lists(st.floats(1.0, 50_000.0), min_size=2, max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_more_tokens_never_take_less(model: str, accelerator: str, precision: Precision, tokens: list[float]) -> None:
    shape, chip = model_shape(model), load_catalog().accelerator(accelerator)
    deployment = Deployment(shape.name, accelerator, ServingEngine.VLLM, None, precision, tp=2)
    added = added_s(deployment, shape, chip, np.sort(np.array(tokens)))
    assert (added >= 0).all()
    assert (np.diff(added) >= 0).all()


def test_a_mixture_is_left_to_its_own_terms(catalog: HardwareCatalog) -> None:
    shape, chip = model_shape("DeepSeek-R1"), catalog.accelerator("b200_sxm")
    deployment = Deployment(shape.name, "b200_sxm", ServingEngine.TRTLLM, None, Precision.FP4, tp=8)
    assert not added_s(deployment, shape, chip, np.array([1.0, 4096.0])).any()
