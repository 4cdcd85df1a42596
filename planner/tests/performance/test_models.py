"""Shapes give the published parameter counts, whatever the model is called."""

import pytest

from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.models import known_models, model_shape, shape_from_config
from bessemer_planner.types import AttentionKind

PUBLISHED = {
    "Llama-3.1-8B": (8.03, 8.03),
    "Llama-3.1-70B": (70.6, 70.6),
    "Llama-3.1-405B": (405.9, 405.9),
    "Qwen3-32B": (32.8, 32.8),
    "Qwen3-4B": (4.02, 4.02),
    "Qwen2.5-7B": (7.62, 7.62),
    "Mixtral-8x7B": (46.7, 12.9),
    "Qwen3-30B-A3B": (30.5, 3.3),
    "Qwen3-235B-A22B": (235.0, 22.0),
    "gpt-oss-120b": (116.8, 5.7),
    "gpt-oss-20b": (20.9, 4.2),
    "DeepSeek-R1": (671.0, 37.5),
    "SmolLM2-135M": (0.1345, 0.1345),
}


@pytest.mark.parametrize(("name", "billions"), PUBLISHED.items())
def test_parameter_counts_are_the_published_ones(name: str, billions: tuple[float, float]) -> None:
    shape = model_shape(name)
    assert shape.parameters_b == pytest.approx(billions[0], rel=0.01)
    assert shape.active_b == pytest.approx(billions[1], rel=0.03)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "Llama-3.1-8B"),
        ("nvidia/Llama-3.1-8B-Instruct-FP8", "Llama-3.1-8B"),
        ("llama3.1-405b", "Llama-3.1-405B"),
        ("llama2-70b-99.9", "Llama-2-70B"),
        ("nvidia/DeepSeek-V3.1-NVFP4", "DeepSeek-R1"),
        ("openai/gpt-oss-120b", "gpt-oss-120b"),
        ("mixtral-8x7b", "Mixtral-8x7B"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "Qwen3-30B-A3B"),
    ],
)
def test_an_alias_finds_its_model(alias: str, name: str) -> None:
    assert model_shape(alias).name == name


def test_every_shipped_model_has_layers_in_its_groups() -> None:
    for name in known_models():
        shape = model_shape(name)
        assert sum(group.count for group in shape.groups) == shape.layers


def test_an_unknown_model_is_refused_with_its_nearest() -> None:
    with pytest.raises(Unsatisfiable, match="Qwen3"):
        model_shape("Qwen3-31B")


def test_layer_kinds_are_told_apart() -> None:
    kinds = {group.attention: group for group in model_shape("gpt-oss-120b").groups}
    assert kinds[AttentionKind.SLIDING].window == 128
    assert kinds[AttentionKind.GQA].count == kinds[AttentionKind.SLIDING].count == 18
    assert model_shape("DeepSeek-R1").groups[0].latent_dim == 576


def test_a_config_of_an_unknown_model_is_read() -> None:
    config = {
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 1000,
        "tie_word_embeddings": True,
    }
    shape = shape_from_config(config, "tiny")
    expected = 1000 * 64 + 2 * (64 * 64 * 2 + 2 * 64 * 32 + 3 * 64 * 128)
    assert shape.parameters_b == pytest.approx(expected / 1e9, abs=1e-4)
    assert shape.moe is None
