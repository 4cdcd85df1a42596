"""A model family is one file and one line: one that the package does not know is added here and computes right."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import save_file
from tests.gateway.tiny import tiny_model
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from bessemer.core.errors import EngineError
from bessemer.engine import families
from bessemer.engine.family import Family, GgufHeader, ModelConfig, gguf_config, hf_config
from bessemer.engine.lora import LoraConfig
from bessemer.engine.network import Network
from bessemer.engine.weights import load_weights
from bessemer.tuning.backend import Tree
from bessemer.tuning.trainer import Trainer

SHAPE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}


# -- the file ---------------------------------------------------------------------------------------------------------


def qwen3_of_hf(raw: Mapping[str, Any]) -> ModelConfig:
    """Llama's shape, with norms on queries and keys."""
    return msgspec.structs.replace(hf_config(raw, "qwen3"), qk_norm=True)


def qwen3_of_gguf(header: GgufHeader) -> ModelConfig:
    return msgspec.structs.replace(gguf_config(header, "qwen3"), qk_norm=True)


QWEN3 = Family("qwen3", "qwen3", "qwen3", qwen3_of_gguf, qwen3_of_hf)


@pytest.fixture
def qwen3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(families, "_TABLE", list(families._TABLE))
    families.register(QWEN3)  # the line
    yield


# -- what it must do --------------------------------------------------------------------------------------------------


def saved(model: PreTrainedModel, folder: Path) -> Path:
    folder.mkdir()
    model.config.save_pretrained(folder)
    tensors = model.state_dict()
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight")
    for name in tensors:
        if "norm" in name:
            tensors[name].add_(0.1 * torch.randn(tensors[name].shape))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def logprobs(folder: Path, tokens: list[int]) -> torch.Tensor:
    network = Network(load_weights(folder, torch.float32))
    trainer = Trainer.create(network, LoraConfig(rank=1, alpha=1.0))
    return trainer.forward([Tree(tuple(tokens[:1]), (tuple(tokens[1:]),))])[0][0]


def expected(model: PreTrainedModel, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, :-1].float()
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]


def test_a_family_from_outside_computes_what_the_reference_does(tmp_path: Path, qwen3: None) -> None:
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=16, tie_word_embeddings=False)).eval()
    folder = saved(model, tmp_path / "model")
    tokens = torch.randint(97, (40,)).tolist()
    torch.testing.assert_close(logprobs(folder, tokens), expected(model, tokens), atol=2e-4, rtol=2e-4)


def test_a_llama_computes_what_the_reference_does(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=True)).eval()
    folder = saved(model, tmp_path / "model")
    tokens = torch.randint(97, (40,)).tolist()
    torch.testing.assert_close(logprobs(folder, tokens), expected(model, tokens), atol=2e-4, rtol=2e-4)


def test_a_family_that_is_not_in_the_table_is_refused_with_those_that_are(tmp_path: Path) -> None:
    model = Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=16, tie_word_embeddings=False))
    with pytest.raises(EngineError, match=r"model_type 'qwen3' .* use one of gemma3_text, llama"):
        load_weights(saved(model, tmp_path / "model"))
    with pytest.raises(EngineError, match="use one of gemma3, llama"):
        families.of_gguf("mamba")


def test_a_spelling_leads_to_one_family(qwen3: None) -> None:
    with pytest.raises(EngineError, match="in the table already"):
        families.register(QWEN3)


def test_the_header_of_a_folder_says_its_shape(tmp_path: Path) -> None:
    config = load_weights(tiny_model(tmp_path / "model")).config
    assert (config.family, config.n_layers, config.hidden, config.qk_norm) == ("llama", 2, 32, False)
