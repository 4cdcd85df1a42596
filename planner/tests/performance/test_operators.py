"""The distilled tables answer in seconds, grow with size, and say what they lack."""

import tomllib
from importlib.resources import files
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer_planner.catalog import HardwareCatalog, load_catalog
from bessemer_planner.models import model_shape, shape_from_config
from bessemer_planner.performance.operators import (
    gemm_s,
    load_tables,
    missing_operators,
    operator_tilts,
    reduce_s,
    table_terms,
)
from bessemer_planner.performance.work import PEAK_TERMS, kernels, peak_terms
from bessemer_planner.types import Deployment, Precision, ServingEngine


def test_a_measured_product_is_given_back() -> None:
    """B200, FP8, m 4096: a shape of the table itself, compared with its own entry."""
    tables = load_tables()
    shapes, logs = tables.gemm[tables.gpus.index("b200_sxm"), tables.dtypes.index("fp8")]
    n, k = (round(float(v)) for v in np.exp(shapes[100]))
    assert gemm_s("b200_sxm", ("fp8",), 4096, n, k) == pytest.approx(np.exp(logs[100][12]), rel=0.02)


def test_large_products_come_near_the_peak_and_small_ones_do_not() -> None:
    flops = 2 * 8192**3
    time = gemm_s("h100_sxm", ("fp8",), 8192, 8192, 8192)
    assert time is not None
    assert 0.4 < flops / time / 1979e12 < 1.0
    tiny = gemm_s("h100_sxm", ("fp8",), 1, 8192, 8192)
    assert tiny is not None
    assert 8192 * 8192 / tiny < 3.35e12


@settings(max_examples=40)
@given(m=st.floats(1, 16384), factor=st.floats(2, 16))
def test_experts_take_longer_for_more_tokens(m: float, factor: float) -> None:
    shape, card = model_shape("DeepSeek-R1"), load_catalog().accelerator("h200_sxm")
    deployment = Deployment("DeepSeek-R1", "h200_sxm", ServingEngine.SGLANG, None, Precision.FP8, tp=8)
    few, many = table_terms(deployment, shape, card, np.array([m, m * factor]))[:, 0]
    assert many >= few > 0


def test_an_all_reduce_has_a_latency_and_a_bandwidth() -> None:
    small = reduce_s("h100_sxm", ServingEngine.VLLM, 8, 4096)
    large = reduce_s("h100_sxm", ServingEngine.VLLM, 8, 2**26)
    assert small is not None
    assert large is not None
    assert 1e-6 < small < 2e-5
    assert 2**27 / large < 450e9


def test_missing_operators_are_named_never_taken_for_nothing(catalog: HardwareCatalog) -> None:
    shape = model_shape("Qwen3-8B")
    there = Deployment("Qwen3-8B", "h100_sxm", ServingEngine.VLLM, None, Precision.FP8, tp=2)
    gone = Deployment("Qwen3-8B", "trainium2", ServingEngine.VLLM, None, Precision.FP8, tp=2)
    assert missing_operators(there, shape, catalog.accelerator("h100_sxm")) == ()
    assert missing_operators(gone, shape, catalog.accelerator("trainium2")) == ("matrix products", "all-reduce")


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP8])
@pytest.mark.parametrize("batch", [1.0, 64.0, 256.0])
def test_products_without_a_table_are_as_far_from_their_peaks_as_those_of_their_format(
    catalog: HardwareCatalog, precision: Precision, batch: float
) -> None:
    """They used to be taken for those of four bits, a third of the peak, whatever the format."""

    def tilt(name: str, model: str) -> float:
        shape, accelerator = model_shape(model), catalog.accelerator(name)
        deployment = Deployment(shape.name, name, ServingEngine.VLLM, None, precision, tp=4)
        return operator_tilts(deployment, shape, accelerator, batch)["gemm"]

    models = ("Llama-3.1-8B", "Llama-3.1-70B", "Llama-3.1-405B")
    tabled = [tilt(name, model) for name in ("h100_sxm", "h200_sxm", "b200_sxm", "gb200") for model in models]
    for model in models:
        assert min(tabled) < tilt("mi325x", model) < max(tabled)


@pytest.mark.parametrize("engine", list(ServingEngine))
@pytest.mark.parametrize("accelerator", ["h200_sxm", "trainium2"])
def test_measured_kernels_of_a_step_grow_with_the_batch(
    catalog: HardwareCatalog, engine: ServingEngine, accelerator: str
) -> None:
    shape = model_shape("DeepSeek-R1")
    deployment = Deployment("DeepSeek-R1", accelerator, engine, None, Precision.FP8, tp=8)
    terms = table_terms(deployment, shape, catalog.accelerator(accelerator), np.arange(1, 257, dtype=np.float64))
    assert (np.diff(terms, axis=0) >= 0).all()
    assert (terms > 0).all()


def test_one_accelerator_exchanges_nothing_and_a_dense_model_has_no_experts(catalog: HardwareCatalog) -> None:
    shape, batch = model_shape("Qwen3-8B"), np.array([16.0])
    deployment = Deployment("Qwen3-8B", "h100_sxm", ServingEngine.VLLM, None, Precision.FP8)
    assert table_terms(deployment, shape, catalog.accelerator("h100_sxm"), batch).tolist() == [[0.0, 0.0]]


def test_a_mixture_without_a_table_takes_its_usual_time(catalog: HardwareCatalog) -> None:
    """No table has Trainium: 1.7 times the experts' reads at the peak, and it is said."""
    shape = model_shape("Qwen3-30B-A3B")
    deployment = Deployment("Qwen3-30B-A3B", "trainium2", ServingEngine.VLLM, None, Precision.BF16)
    trainium = catalog.accelerator("trainium2")
    batch = np.array([1.0])
    experts, _ = table_terms(deployment, shape, trainium, batch)[0]
    peaks = peak_terms(deployment, shape, trainium, batch, np.zeros(1))[0]
    assert experts == pytest.approx(1.7 * peaks[PEAK_TERMS.index("experts")])
    assert missing_operators(deployment, shape, trainium) == ("matrix products", "experts")


def test_kernels_are_counted_layer_by_layer() -> None:
    """Llama-3.1-8B: 32 layers of 5 + 4; DeepSeek-R1: 61 of 9, 3 dense of 4, 58 routed of 8 and 3 for the shared."""
    assert kernels(model_shape("Llama-3.1-8B")) == 32 * 9
    assert kernels(model_shape("DeepSeek-R1")) == 61 * 9 + 3 * 4 + 58 * 11


def test_fp8_mixtures_take_the_kernels_of_their_own_scaling(catalog: HardwareCatalog) -> None:
    """Mixtral's FP8 is scaled per tensor, DeepSeek's by block; Mixtral's table has both kernels."""
    card, batch = catalog.accelerator("rtx_pro_6000_server"), np.array([1024.0])

    def experts(model: str, by_block: bool | None) -> float:
        shape = msgspec.structs.replace(model_shape(model), block_scaled=by_block)
        deployment = Deployment(model, card.name, ServingEngine.TRTLLM, None, Precision.FP8, tp=8)
        return float(table_terms(deployment, shape, card, batch)[0, 0])

    assert experts("Mixtral-8x7B", None) == experts("Mixtral-8x7B", False) < experts("Mixtral-8x7B", True)
    assert experts("DeepSeek-R1", None) == experts("DeepSeek-R1", True)


def test_a_model_says_itself_how_its_experts_are_scaled(catalog: HardwareCatalog) -> None:
    """The config.json of a workload decides, else the family, however it is written."""
    raw = tomllib.loads(files("bessemer_planner").joinpath("models.toml").read_text("utf-8"))
    config = raw["Qwen3-30B-A3B"]["config"]
    blocks = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    tensors = {"quantization_config": {"quant_method": "fp8", "activation_scheme": "static"}}

    def experts(name: str, more: dict[str, Any]) -> float:
        at = Deployment(name, "h200_sxm", ServingEngine.VLLM, None, Precision.FP8)
        shape = shape_from_config(config | more, name)
        return float(table_terms(at, shape, catalog.accelerator("h200_sxm"), np.array([64.0]))[0, 0])

    by_block, by_tensor = experts("Qwen3-30B-A3B", {}), experts("mine", {})
    assert by_block != by_tensor
    assert experts("qwen3-30b-mine", {}) == experts("org/qwen3-mine", {}) == experts("mine", blocks) == by_block
    assert experts("Qwen3-30B-A3B", tensors) == by_tensor
