"""What cannot run is refused before any speed is estimated, with the reason and what is nearest."""

import pytest

from bessemer_planner.catalog import HardwareCatalog, load_catalog
from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.fleet.configurations import predictions
from bessemer_planner.models import model_shape, shape_from_config
from bessemer_planner.performance import Performance
from bessemer_planner.plan import make_plan
from bessemer_planner.types import Precision
from bessemer_planner.workload import Workload, parse_workload

WORKLOAD = """
name = "x"
[traffic]
requests_per_month = 1e6
prompt_tokens = { mean = 1000 }
output_tokens = { mean = 300 }
[[models]]
name = "qwen3-8b"
precision = ["fp8"]
[fleet]
engines = ["vllm"]
"""


@pytest.fixture(scope="module")
def catalog() -> HardwareCatalog:
    return load_catalog()


def workload(*changes: tuple[str, str]) -> Workload:
    text = WORKLOAD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_workload(text)


def test_four_bit_integers_are_computed_in_sixteen_bits_where_kernels_exist(catalog: HardwareCatalog) -> None:
    asked = workload(('"fp8"', '"int4"'))
    found, refused = predictions(asked, catalog, Performance.load(), ("h100_sxm", "tpu_v6e"))
    assert {one.deployment.precision for _, one in found} == {Precision.INT4}
    assert {one.deployment.accelerator for _, one in found} == {"h100_sxm"}
    assert [(one.accelerator, one.what) for one in refused] == [("tpu_v6e", "int4 vllm")]
    assert "tpu_v6e does not compute in int4; nearest: bf16" in refused[0].reason


def test_a_format_that_the_hardware_lacks_is_named(catalog: HardwareCatalog) -> None:
    text = WORKLOAD.replace('"fp8"', '"fp4"').replace("[fleet]", '[fleet]\naccelerators = ["h100_sxm"]')
    with pytest.raises(Unsatisfiable, match=r"1 configurations tried.*h100_sxm does not compute in fp4; nearest: fp8"):
        make_plan(parse_workload(text), catalog)


@pytest.mark.parametrize(
    ("engine", "accelerator", "words"),
    [("trtllm", "mi355x", "TensorRT-LLM runs on NVIDIA"), ("trtllm", "tpu_v7x", "NVIDIA"),
     ("trtllm", "trainium2", "NVIDIA"), ("sglang", "trainium2", "trainium3")],
)  # fmt: skip
def test_engines_that_do_not_run_there_are_refused(
    catalog: HardwareCatalog, engine: str, accelerator: str, words: str
) -> None:
    asked = workload(('"vllm"', f'"{engine}"'))
    found, refused = predictions(asked, catalog, Performance.load(), (accelerator,))
    assert not found
    assert [one.what for one in refused] == [f"fp8 {engine}"]
    assert words in refused[0].reason
    assert "nearest: vllm" in refused[0].reason
    assert predictions(workload(), catalog, Performance.load(), (accelerator,))[0]


def test_a_request_longer_than_the_model_takes_is_refused(catalog: HardwareCatalog) -> None:
    asked = workload(("mean = 1000", "mean = 41_000"))
    with pytest.raises(Unsatisfiable, match=r"Qwen3-8B takes 40,960 tokens .*config\.json.*41,000 and answer of 300"):
        predictions(asked, catalog, Performance.load(), ("h100_sxm",))
    unknown = workload(("mean = 1000", "mean = 41_000"), ("qwen3-8b", "qwen3-4b"))
    assert predictions(unknown, catalog, Performance.load(), ("h100_sxm",))[0]


LONG = WORKLOAD.replace("mean = 1000", "mean = 15_000, p95 = 50_000").replace("qwen3-8b", "llama-3.1-8b")


def test_a_workload_that_rules_out_many_configurations_is_still_planned(catalog: HardwareCatalog) -> None:
    plan = make_plan(parse_workload(LONG + "disaggregated = false\n"), catalog)
    simulated = [one for one in plan.refused if one.reason.startswith("simulated")]
    assert len(simulated) + len(plan.solving.cuts) > 2
    assert plan.solving.rounds > len(simulated)
    assert all(one.verdict is not None and one.verdict.keeps for one in plan.configurations if one.chosen)
    ruled_out = {f"{one.model} on {one.accelerator} {one.what}" for one in simulated}
    assert not ruled_out & {one.name for one in plan.configurations if one.chosen}


def test_what_the_simulator_rules_out_is_said_with_the_nearest(catalog: HardwareCatalog) -> None:
    asked = parse_workload(LONG.replace("[fleet]", '[limits]\nttft_s = 0.5\n[fleet]\naccelerators = ["h100_sxm"]'))
    with pytest.raises(
        Unsatisfiable, match=r"configurations were simulated.*Nearest: llama-3.1-8b on \w+ TP4.*limits are 0\.5"
    ):
        make_plan(asked, catalog)


def test_the_nearest_to_a_limit_is_the_fastest(catalog: HardwareCatalog) -> None:
    fleet = 'accelerators = ["l40s", "b200_sxm"]\n'
    asked = parse_workload(WORKLOAD.replace("[fleet]", f"[limits]\ntpot_s = 0.0001\n[fleet]\n{fleet}"))
    with pytest.raises(Unsatisfiable, match=r"Nearest: TP4 fp8 vllm on b200_sxm: even alone"):
        make_plan(asked, catalog)


def test_the_context_is_that_of_the_checkpoint_named() -> None:
    assert model_shape("Qwen/Qwen3-30B-A3B").context_tokens == 40_960
    assert model_shape("Qwen3-30B-A3B-Instruct-2507").context_tokens is None
    assert model_shape("meta-llama/Llama-3.1-8B-Instruct").context_tokens == 131_072
    assert model_shape("Llama-3-8B").context_tokens is None  # an alias: the same shape, 8,192 positions
    config = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 100}
    assert shape_from_config(config).context_tokens is None
    config |= {"max_position_embeddings": 32_768}
    assert shape_from_config(config).context_tokens == 32_768
    config |= {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}}
    assert shape_from_config(config).context_tokens == 131_072


def test_no_accelerator_vanishes_without_a_word(catalog: HardwareCatalog) -> None:
    named = workload(("[fleet]", '[fleet]\naccelerators = ["h100_sxm", "trainium3"]'))
    said = {one.accelerator: one.reason for one in make_plan(named, catalog).refused}
    assert "no price of it is known" in said["trainium3"]
    unnamed = {one.accelerator: one.reason for one in make_plan(workload(), catalog).refused}
    assert {"trainium2", "tpu_v6e", "mi300x"} <= {name for name, why in unnamed.items() if "fleet.accelerators" in why}
