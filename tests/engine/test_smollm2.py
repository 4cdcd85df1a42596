"""The real small model: greedy answers and log-probabilities equal those of transformers' own implementation."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bessemer.core.settings import Settings
from bessemer.engine.engine import Engine, LoadedModel, load_model
from bessemer.engine.request import Choices, GenerateRequest, JsonSchema
from bessemer.engine.weights import ModelWeights
from bessemer.registry.weights import SMOLLM2, ensure

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model() -> Iterator[LoadedModel]:
    path: Path = ensure(SMOLLM2, Settings().data / "models", print)
    yield load_model(path, torch.float32)


def reference(weights: ModelWeights) -> LlamaForCausalLM:
    """transformers' network with the same weights."""
    config = weights.config
    made = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden,
            intermediate_size=config.intermediate,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            num_key_value_heads=config.n_kv_heads,
            head_dim=config.head_dim,
            max_position_embeddings=config.context_length,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=True,
        )
    )
    state = {"model.embed_tokens.weight": weights.embedding, "model.norm.weight": weights.norm}
    for i, layer in enumerate(weights.layers):
        q, k, v = layer.qkv.split(config.qkv_sizes)
        gate, up = layer.gate_up.chunk(2)
        names = {
            "self_attn.q_proj": q,
            "self_attn.k_proj": k,
            "self_attn.v_proj": v,
            "self_attn.o_proj": layer.o,
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": layer.down,
            "input_layernorm": layer.attention_norm,
            "post_attention_layernorm": layer.ffn_norm,
        }
        state |= {f"model.layers.{i}.{name}.weight": tensor for name, tensor in names.items()}
    missing, unexpected = made.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])
    return made.eval()


def prompts(model: LoadedModel) -> list[tuple[int, ...]]:
    questions = ["What is the capital of France?", "Name three colours.", "Write one sentence about steel."]
    return [tuple(model.tokens.encode_chat([{"role": "user", "content": question}])) for question in questions]


def test_greedy_answers_and_logprobs_are_those_of_transformers(model: LoadedModel) -> None:
    requests = [GenerateRequest(prompt=prompt, max_tokens=16, temperature=0) for prompt in prompts(model)]
    generations = Engine(model, cache_tokens=4096).generate_many(requests)
    other = reference(model.network.weights)
    for request, generation in zip(requests, generations, strict=True):
        ids = torch.tensor([[*request.prompt, *generation.tokens]])
        with torch.inference_mode():
            logprobs = torch.log_softmax(other(ids).logits[0].float(), dim=-1)
        answer = logprobs[len(request.prompt) - 1 : -1]
        assert tuple(answer.argmax(dim=-1).tolist()) == generation.tokens
        expected = answer.gather(1, torch.tensor(generation.tokens)[:, None])[:, 0].tolist()
        assert generation.logprobs == pytest.approx(expected, abs=2e-3)
    assert "Paris" in generations[0].text


def test_choices_and_json_on_the_real_tokenizer(model: LoadedModel) -> None:
    engine = Engine(model, cache_tokens=4096)
    question = [{"role": "user", "content": "Is Paris in France? Answer Yes or No."}]
    prompt = tuple(model.tokens.encode_chat(question))
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "year": {"type": "integer", "minimum": 0, "maximum": 2100}},
        "required": ["city", "year"],
        "additionalProperties": False,
    }
    choice, structured = engine.generate_many(
        [
            GenerateRequest(prompt=prompt, constraint=Choices(labels=("Yes", "No")), temperature=0),
            GenerateRequest(prompt=prompt, constraint=JsonSchema(schema=schema), max_tokens=40, seed=1),
        ]
    )
    assert choice.text in {"Yes", "No"}
    assert structured.finish_reason == "stop"
    assert structured.text.startswith('{"city":"')
    assert model.tokens.decode(structured.tokens) == structured.text


def test_texts_without_control_tokens_are_encoded_as_ever(model: LoadedModel) -> None:
    tokens = model.tokens
    root = Path(__file__).parents[2]
    corpus = [path.read_text() for path in (*sorted((root / "docs").glob("*.md")), *sorted(root.glob("*.md")))]
    lines = [line + end for text in corpus for line in text.splitlines() for end in ("", " ", "\n", "\n\n")]
    corpus = [text for text in corpus if "<|im_end|>" not in text]
    assert len(corpus) > 4
    for texts in ([text] for text in corpus):
        compare(model, texts)
    for start in range(0, len(lines) - 3, 3):
        compare(model, [line.replace("|>", "| >") for line in lines[start : start + 3]])
    spelled = tokens.encode_chat([{"role": "user", "content": "<|im_end|>" * 10}])
    plain = tokens.encode_chat([{"role": "user", "content": ""}])
    assert [spelled.count(token) for token in (1, 2)] == [plain.count(token) for token in (1, 2)]


def compare(model: LoadedModel, texts: list[str]) -> None:
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    expected = model.tokens._tokenizer.encode(model.tokens.render(messages), add_special_tokens=False).ids
    assert model.tokens.encode_chat(messages) == expected
