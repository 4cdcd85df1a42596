"""Tokens per second of the built-in engine and of a training step, against transformers on the same weights in one run.

    python -m lab.engine                                 # ten minutes on two cores; writes lab/results/engine.json
    python -m lab.engine --quick --out /tmp/engine.json  # a look, not a measurement
    python -m lab.engine --vllm path/to/venv/bin/python  # also vLLM, from an environment of its own

Sampling draws at temperature 1 from everything until the model ends its turn or the request's limit. Counted are the
completion tokens that requests asked for, prompts are part of the time. transformers' `generate` pads a batch to its
longest prompt and goes on until its longest answer is finished, as it does. Training counts the tokens of prompts and
completions, padding not; where samples share a prompt it is counted for each sample, as a plain loop computes it.
"""

import argparse
import datetime
import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# As the server sets them; read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "6000")

import torch
from transformers import LlamaConfig, LlamaForCausalLM, StoppingCriteria, StoppingCriteriaList

from bessemer.core.settings import Settings
from bessemer.engine.engine import Engine, LoadedModel, load_model
from bessemer.engine.lora import LoraConfig
from bessemer.engine.request import Choices, GenerateRequest
from bessemer.engine.weights import ModelWeights
from bessemer.registry.weights import SMOLLM2, ensure
from bessemer.tuning.backend import Adam, Scored, Tree
from bessemer.tuning.trainer import Trainer
from lab.provenance import commit, processor

WORDS = (
    "steel furnace price offer kettle model year 500 ml black wireless edition pack of two bundle adapter 12 V the a "
    "with and for new used original case screen inch litre paper journal database query learning system proceedings of "
    "on efficient large scale index join record match same brand size colour flavour roasted salted organic"
)
RANK = 32
HERE = Path(__file__).resolve().parent
_Row = dict[str, Any]


class Sampled(NamedTuple):
    """One request of a workload."""

    prompt: tuple[int, ...]
    limit: int


def main() -> None:
    """Run the benchmark and write its file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "engine.json")
    parser.add_argument(
        "--model", type=Path, default=None, help="GGUF file or safetensors folder; default: SmolLM2-135M"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--vllm", type=Path, default=None, help="python of an environment with vLLM")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = load_model(arguments.model or ensure(SMOLLM2, Settings().data / "models", print))
    rows = measure(model, quick=arguments.quick, vllm=arguments.vllm)
    document = {
        "machine": f"{processor()}, {arguments.threads} threads",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "model": "SmolLM2-135M-Instruct, bfloat16" if arguments.model is None else arguments.model.name,
        "quick": arguments.quick,
        "rows": rows,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")


def measure(model: LoadedModel, *, quick: bool, vllm: Path | None) -> list[_Row]:
    """Return all rows, each printed as it is found."""
    rows: list[_Row] = []

    def add(system: str, phase: str, batch: int, workload: str, tokens: int, seconds: float) -> None:
        rate = round(tokens / seconds, 1)
        rows.append(
            {
                "system": system,
                "phase": phase,
                "batch": batch,
                "tokens_per_s": rate,
                "workload": workload,
                "tokens": tokens,
                "seconds": round(seconds, 2),
            }
        )
        print(f"{system:14} {phase:7} batch {batch:4} {rate:9.1f} tokens/s  {workload}", flush=True)

    shrink = 8 if quick else 1
    other = reference(model.network.weights).to(torch.bfloat16)
    sampling(model, other, add, shrink)
    training(model, other, add, shrink)
    if vllm is not None:
        add("vllm", "sample", 64, MIXED, *sample_vllm(vllm, other, mixed_jobs(model, 128 // shrink)))
    return rows


# -- sampling ---------------------------------------------------------------------------------------------------------

MIXED = "prompts of 40-300 tokens, answers of at most 16-128, all different"
GROUPS = "groups of 8 samples, prompts of about 220 tokens of which 150 are shared by all"
LABELS = "two labels scored after prompts of about 220 tokens of which 150 are shared; counted: prompt tokens answered"

Add = Callable[[str, str, int, str, int, float], None]


def sampling(model: LoadedModel, other: LlamaForCausalLM, add: Add, shrink: int) -> None:
    """Measure both systems on the same requests."""
    mixed = mixed_jobs(model, 128 // shrink)
    for batch, jobs in ((1, mixed[: 8 // shrink]), (64, mixed), (128, mixed)):
        if shrink > 1 and batch == 128:
            continue
        add("bessemer", "sample", batch, MIXED, *sample_bessemer(model, jobs, batch))
        if batch != 128:
            add("transformers", "sample", batch, MIXED, *sample_transformers(model, other, jobs, batch))
    groups = [job for job in group_jobs(model, 16 // shrink) for _ in range(8)]
    add("bessemer", "sample", 64, GROUPS, *sample_bessemer(model, groups, 64))
    add("transformers", "sample", 64, GROUPS, *sample_transformers(model, other, groups, 64))
    add("bessemer", "sample", 64, LABELS, *score_bessemer(model, group_jobs(model, 128 // shrink)))


def text_tokens(model: LoadedModel, source: random.Random, count: int) -> list[int]:
    """About `count` tokens of made-up product text."""
    words = WORDS.split()
    return model.tokens.encode(" ".join(source.choice(words) for _ in range(count)))[:count]


def mixed_jobs(model: LoadedModel, count: int) -> list[Sampled]:
    """Return independent requests; lengths are lognormal, cut to a range."""
    source = random.Random(1)

    def between(low: int, middle: float, high: int) -> int:
        return min(high, max(low, round(source.lognormvariate(0.0, 0.6) * middle)))

    return [
        Sampled(chat(model, text_tokens(model, source, between(10, 80, 270))), between(16, 48, 128))
        for _ in range(count)
    ]


def group_jobs(model: LoadedModel, count: int) -> list[Sampled]:
    """Return requests that begin alike."""
    source = random.Random(2)
    shared = text_tokens(model, source, 120)
    return [
        Sampled(chat(model, shared + text_tokens(model, source, source.randint(40, 100))), 64) for _ in range(count)
    ]


def chat(model: LoadedModel, content: Sequence[int]) -> tuple[int, ...]:
    """Return a chat prompt that asks for a continuation."""
    text = "Write a description from these words: " + model.tokens.decode(content)
    return tuple(model.tokens.encode_chat([{"role": "user", "content": text}]))


def sample_bessemer(model: LoadedModel, jobs: Sequence[Sampled], batch: int) -> tuple[int, float]:
    """Return completion tokens and seconds of a fresh engine."""
    engine = Engine(model, max_running=batch)
    engine.generate_many([GenerateRequest(prompt=jobs[0].prompt[:8], max_tokens=2)])
    requests = [GenerateRequest(prompt=job.prompt, max_tokens=job.limit, seed=i) for i, job in enumerate(jobs)]
    start = time.perf_counter()
    generations = engine.generate_many(requests)
    return sum(g.completion_tokens for g in generations), time.perf_counter() - start


def score_bessemer(model: LoadedModel, jobs: Sequence[Sampled]) -> tuple[int, float]:
    """Return prompt tokens and seconds of scoring two labels after each prompt."""
    engine = Engine(model, max_running=64)
    labels = Choices(labels=("Yes", "No"))
    requests = [GenerateRequest(prompt=job.prompt, constraint=labels, temperature=0) for job in jobs]
    start = time.perf_counter()
    generations = engine.generate_many(requests)
    return sum(g.prompt_tokens for g in generations), time.perf_counter() - start


class StopAtLimits(StoppingCriteria):  # type: ignore[misc]  # transformers is not typed
    """Ends each row at its own limit."""

    def __init__(self, width: int, limits: Sequence[int]) -> None:
        self._ends = width + torch.tensor(limits)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        del scores
        return input_ids.shape[1] >= self._ends


def sample_transformers(
    model: LoadedModel, other: LlamaForCausalLM, jobs: Sequence[Sampled], batch: int
) -> tuple[int, float]:
    """Return completion tokens and seconds of `generate`, batch after batch."""
    end = model.tokens.terminator
    tokens, start = 0, time.perf_counter()
    for at in range(0, len(jobs), batch):
        part = jobs[at : at + batch]
        width = max(len(job.prompt) for job in part)
        ids = torch.full((len(part), width), end)
        mask = torch.zeros_like(ids)
        for row, job in enumerate(part):
            ids[row, width - len(job.prompt) :] = torch.tensor(job.prompt)
            mask[row, width - len(job.prompt) :] = 1
        limits = [job.limit for job in part]
        with torch.inference_mode():
            made = other.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                top_k=0,
                max_new_tokens=max(limits),
                eos_token_id=sorted(model.tokens.eos_ids),
                pad_token_id=end,
                stopping_criteria=StoppingCriteriaList([StopAtLimits(width, limits)]),
            )
        for row, limit in zip(made[:, width:].tolist(), limits, strict=True):
            ends = [i + 1 for i, token in enumerate(row) if token in model.tokens.eos_ids]
            tokens += min([limit, *ends])
    return tokens, time.perf_counter() - start


VLLM = """
import json, sys, time
from vllm import LLM, SamplingParams, TokensPrompt
folder, jobs = sys.argv[1], json.load(open(sys.argv[2]))
llm = LLM(model=folder, skip_tokenizer_init=True, dtype="bfloat16", max_model_len=1024, max_num_seqs=64)
prompts = [TokensPrompt(prompt_token_ids=ids) for ids, limit in jobs]
limits = [SamplingParams(temperature=1.0, max_tokens=limit, seed=7, detokenize=False) for ids, limit in jobs]
llm.generate(prompts[:1], limits[:1])
start = time.perf_counter()
made = llm.generate(prompts, limits)
print("RESULT", sum(len(m.outputs[0].token_ids) for m in made), time.perf_counter() - start)
"""


def sample_vllm(python: Path, other: LlamaForCausalLM, jobs: Sequence[Sampled]) -> tuple[int, float]:
    """Return completion tokens and seconds of vLLM in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        other.save_pretrained(folder)
        requests = Path(folder) / "jobs.json"
        requests.write_text(json.dumps([(job.prompt, job.limit) for job in jobs]))
        done = subprocess.run(
            [str(python), "-c", VLLM, folder, str(requests)], check=True, stdout=subprocess.PIPE, text=True
        )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    _, tokens, seconds = line.split()
    return int(tokens), float(seconds)


# -- training ---------------------------------------------------------------------------------------------------------

SUPERVISED = f"prompts of 30-120 tokens, completions of 4-24, LoRA rank {RANK}, loss on completions"
SHARED = f"8 samples of 24 tokens for each prompt of about 220, LoRA rank {RANK}, loss on completions"


class Sample(NamedTuple):
    """A prompt and its completions."""

    prompt: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]


def training(model: LoadedModel, other: LlamaForCausalLM, add: Add, shrink: int) -> None:
    """Measure a step of both systems on the same samples."""
    source = random.Random(3)

    def text(count: int) -> tuple[int, ...]:
        return tuple(text_tokens(model, source, count))

    steps = 8 // shrink
    single = [Sample(text(source.randint(30, 120)), (text(source.randint(4, 24)),)) for _ in range(16 * steps)]
    shared = [Sample(text(220), tuple(text(24) for _ in range(8))) for _ in range(2 * steps)]
    for workload, samples, per_step, batch in ((SUPERVISED, single, 16, 16), (SHARED, shared, 2, 16)):
        add("bessemer", "train", batch, workload, *train_bessemer(model, samples, per_step))
        add("transformers", "train", batch, workload, *train_transformers(other, samples, per_step))


def naive_tokens(samples: Sequence[Sample]) -> int:
    """Tokens that a loop without shared prompts computes, padding not counted."""
    return sum(len(sample.prompt) + len(answer) for sample in samples for answer in sample.completions)


def train_bessemer(model: LoadedModel, samples: Sequence[Sample], per_step: int) -> tuple[int, float]:
    """Return tokens and seconds of forward, backward and update."""
    trainer = Trainer.create(model.network, LoraConfig(rank=RANK, alpha=2.0 * RANK))
    trees = [Tree(sample.prompt, sample.completions) for sample in samples]

    def loss(scored: Scored) -> torch.Tensor:
        return -scored.logprob_I.mean()

    def step(at: int) -> None:
        trainer.forward_backward(trees[at : at + per_step], loss)
        trainer.optim_step(Adam(1e-4))

    step(0)
    start = time.perf_counter()
    for at in range(0, len(trees), per_step):
        step(at)
    return naive_tokens(samples), time.perf_counter() - start


def train_transformers(other: LlamaForCausalLM, samples: Sequence[Sample], per_step: int) -> tuple[int, float]:
    """Return tokens and seconds of peft's LoRA in a plain loop: padded batches, labels on the completions."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    settings = PeftConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned = get_peft_model(other, settings)
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=1e-4)

    def step(part: Sequence[Sample]) -> None:
        flat = [(sample.prompt, answer) for sample in part for answer in sample.completions]
        width = max(len(prompt) + len(answer) for prompt, answer in flat)
        ids = torch.zeros(len(flat), width, dtype=torch.int64)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for row, (prompt, answer) in enumerate(flat):
            length = len(prompt) + len(answer)
            ids[row, :length] = torch.tensor([*prompt, *answer])
            mask[row, :length] = 1
            labels[row, len(prompt) : length] = torch.tensor(answer)
        tuned(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(tuned.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step(samples[:per_step])
    start = time.perf_counter()
    for at in range(0, len(samples), per_step):
        step(samples[at : at + per_step])
    seconds = time.perf_counter() - start
    tuned.unload()
    return naive_tokens(samples), seconds


# -- the same weights for transformers --------------------------------------------------------------------------------


def reference(weights: ModelWeights) -> LlamaForCausalLM:
    """Return transformers' network with the weights of ours."""
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
            tie_word_embeddings=config.tied,
        )
    )
    state = {"model.embed_tokens.weight": weights.embedding, "model.norm.weight": weights.norm}
    if not config.tied:
        state["lm_head.weight"] = weights.head
    for i, layer in enumerate(weights.layers):
        q, k, v = layer.qkv.split(config.qkv_sizes)
        gate, up = layer.gate_up.chunk(2)
        parts = {
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
        state |= {f"model.layers.{i}.{name}.weight": tensor for name, tensor in parts.items()}
    made.load_state_dict(state, strict=False)
    return made.eval()


if __name__ == "__main__":
    main()
