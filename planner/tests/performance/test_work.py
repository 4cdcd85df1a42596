"""Rates that work is reckoned with: what products reach where no engine was measured, and links of a bridge."""

import msgspec
import pytest

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.models import model_shape
from bessemer_planner.performance.levels import level_values
from bessemer_planner.performance.work import PEAK_TERMS, machine, parts
from bessemer_planner.types import Deployment, Precision, ServingEngine


def test_peaks_of_unfitted_accelerators_are_shares_that_the_fitted_ones_reach(catalog: HardwareCatalog) -> None:
    slow, fast = catalog.accelerator("mi300x"), catalog.accelerator("mi325x")
    assert (slow.fp8_tflops, slow.bf16_tflops) == (fast.fp8_tflops, fast.bf16_tflops)
    for precision, measured in ((Precision.FP8, 1273 / 1519), (Precision.BF16, 708 / 843)):
        assert machine(slow, precision).flops / machine(fast, precision).flops == pytest.approx(measured)
    assert machine(slow, Precision.FP8).flops == pytest.approx(1273e12 / 0.735)
    h100 = catalog.accelerator("h100_sxm")
    assert machine(h100, Precision.FP8).flops == 1979e12


def test_a_format_without_a_measurement_reaches_the_share_of_sixteen_bits(catalog: HardwareCatalog) -> None:
    card = catalog.accelerator("mi355x")
    share = machine(card, Precision.BF16).flops / card.bf16_tflops
    assert card.fp8_tflops is not None
    assert machine(card, Precision.FP8).flops == pytest.approx(share * card.fp8_tflops)


def test_a_bridge_ends_after_its_group(catalog: HardwareCatalog) -> None:
    card = catalog.accelerator("h200_nvl")
    assert [machine(card, Precision.FP8, world).link for world in (1, 4, 8)] == [450e9, 450e9, 50e9]
    assert machine(catalog.accelerator("h200_sxm"), Precision.FP8, 8).link == 450e9
    assert "reduce" in PEAK_TERMS


def test_wide_experts_are_no_fine_grained_mixture(catalog: HardwareCatalog) -> None:
    def kind(model: str) -> str:
        shape = model_shape(model)
        deployment = Deployment(model, "h200_sxm", ServingEngine.VLLM, None, Precision.FP8)
        return level_values(deployment, shape, catalog.accelerator("h200_sxm"))["mixture"]

    kinds = [kind(model) for model in ("Llama-3.1-8B", "Mixtral-8x7B", "gpt-oss-120b", "DeepSeek-R1")]
    assert kinds == ["dense", "coarse", "moe", "moe"]


def test_splitting_over_more_accelerators_leaves_less_on_each() -> None:
    shape = model_shape("Llama-2-70B")
    one = Deployment(shape.name, "h200_nvl", ServingEngine.TRTLLM, None, Precision.FP8)
    two = msgspec.structs.replace(one, tp=2)
    assert parts(two, shape).rest_bytes == pytest.approx(parts(one, shape).rest_bytes / 2)
