"""A tiny random model: the same network and tokenizer code, small enough for property tests."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from bessemer.engine.engine import LoadedModel
from bessemer.engine.family import ModelConfig
from bessemer.engine.network import Network
from bessemer.engine.tokens import Tokens
from bessemer.engine.weights import LayerWeights, ModelWeights
from bessemer.feedback.rows import TrainingRow
from bessemer.tuning.local import LocalBackend
from bessemer.tuning.selection import CheckpointScorer
from bessemer.tuning.spec import RewardFunction, TuneSpec
from bessemer.tuning.tuner import Tuner
from bessemer.tuning.watch import Watch

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokens(template: str = TEMPLATE) -> Tokens:
    """Bytes as tokens, two control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<|im_start|>", "<|im_end|>")])
    return Tokens(tokenizer, template=template, eos_ids=frozenset(), bos_id=None, add_bos=False, spaced=False)


def tiny_config(family: str = "llama") -> ModelConfig:
    """Two layers; the Gemma one has a window smaller than the test prompts."""
    gemma = family == "gemma3"
    return ModelConfig(
        family="gemma3" if gemma else "llama",
        n_layers=2,
        hidden=32,
        n_heads=4,
        n_kv_heads=2,
        head_dim=8,
        intermediate=48,
        vocab_size=258,
        context_length=256,
        rope_theta=10_000.0,
        rope_theta_local=1_000.0,
        windows=(5, None) if gemma else (None, None),
        norm_eps=1e-5,
        attention_scale=8**-0.5,
        tied=True,
        qk_norm=gemma,
        post_norms=gemma,
        activation="gelu_tanh" if gemma else "silu",
        embedding_scale=32**0.5 if gemma else 1.0,
    )


def tiny_network(config: ModelConfig, dtype: torch.dtype = torch.float32, seed: int = 0) -> Network:
    """Random weights."""
    generator = torch.Generator().manual_seed(seed)

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return (torch.randn(rows, columns, generator=generator) * 1.5 * columns**-0.5).to(dtype)

    def norm(width: int, present: bool = True) -> torch.Tensor | None:
        return 1 + 0.1 * torch.randn(width, generator=generator) if present else None

    def layer() -> LayerWeights:
        return LayerWeights(
            qkv=matrix(sum(config.qkv_sizes), config.hidden),
            o=matrix(config.hidden, config.qkv_sizes[0]),
            gate_up=matrix(2 * config.intermediate, config.hidden),
            down=matrix(config.hidden, config.intermediate),
            attention_norm=norm(config.hidden),
            ffn_norm=norm(config.hidden),
            q_norm=norm(config.head_dim, config.qk_norm),
            k_norm=norm(config.head_dim, config.qk_norm),
            post_attention_norm=norm(config.hidden, config.post_norms),
            post_ffn_norm=norm(config.hidden, config.post_norms),
        )

    embedding = matrix(config.vocab_size, config.hidden)
    layers = tuple(layer() for _ in range(config.n_layers))
    weights = ModelWeights(
        config=config, embedding=embedding, head=embedding, layers=layers, norm=norm(config.hidden), fingerprint="tiny"
    )
    return Network(weights)


def local_tuner(
    spec: TuneSpec,
    train: Sequence[TrainingRow],
    validation: Sequence[TrainingRow],
    reward: RewardFunction | None,
    folder: Path,
    model: LoadedModel,
    judge: CheckpointScorer | None = None,
    watch: Watch | None = None,
) -> Tuner:
    """A run on a model in this process."""
    watch = watch or Watch()
    return Tuner(spec, train, validation, reward, folder, LocalBackend(spec, model, watch), judge, watch)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny products are slower on several threads, and a busy machine makes the threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["llama", "gemma3"])
def network(request: pytest.FixtureRequest) -> Network:
    """A float32 network of each family."""
    return tiny_network(tiny_config(request.param))


@pytest.fixture
def model() -> LoadedModel:
    """A float32 Llama-like network with its tokenizer."""
    return LoadedModel(tiny_network(tiny_config()), tiny_tokens())
