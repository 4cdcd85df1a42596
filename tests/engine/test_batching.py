"""An answer depends on its request alone: not on neighbours, cached prefixes, chunking or how attention is computed."""

import time

import pytest
import torch
from tests.engine.tiny_model import END, prompt_of, recompute_logprobs, tiny_adapter, tiny_engine, tiny_network

from bessemer.core.errors import EngineError, InvalidRequest, NotFound
from bessemer.engine.engine import Engine
from bessemer.engine.request import GenerateRequest, Generation


def mixed_requests() -> list[GenerateRequest]:
    texts = [f"Shared instructions for everybody, then item {i} " + "x" * (7 * i) for i in range(14)]
    return [
        GenerateRequest(
            prompt=prompt_of(text),
            max_tokens=10 + 3 * i,
            seed=i,
            temperature=(1.0, 0.0, 0.7)[i % 3],
            top_p=0.9 if i % 4 == 0 else 1.0,
            top_k=20 if i % 5 == 0 else 0,
            logit_bias={65: 2.0} if i % 6 == 0 else {},
        )
        for i, text in enumerate(texts)
    ]


def content(generation: Generation) -> tuple[object, ...]:
    return (generation.tokens, generation.logprobs, generation.text, generation.finish_reason)


@pytest.mark.parametrize("window", [None, 24])
def test_neighbours_do_not_matter(window: int | None) -> None:
    network = tiny_network(window=window)
    together = tiny_engine(network).generate_many(mixed_requests())
    alone = [tiny_engine(network).generate_many([request])[0] for request in mixed_requests()]
    assert [content(g) for g in together] == [content(g) for g in alone]


def test_prefix_cache_does_not_change_answers() -> None:
    engine = tiny_engine()
    fresh = engine.generate_many(mixed_requests())
    again = engine.generate_many(mixed_requests())
    assert [content(g) for g in fresh] == [content(g) for g in again]
    assert all(g.cached_tokens > 0 for g in again)
    assert engine.stats().tokens_cached > 0


def test_small_steps_do_not_change_answers() -> None:
    whole = tiny_engine().generate_many(mixed_requests())
    chunked = tiny_engine(max_batch_tokens=33, max_running=5).generate_many(mixed_requests())
    assert [content(g) for g in whole] == [content(g) for g in chunked]


@pytest.mark.parametrize("window", [None, 24])
def test_kernel_and_torch_agree(window: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    network = tiny_network(window=window)
    native = tiny_engine(network)
    monkeypatch.setenv("PATH", str(tmp_path))  # no compiler there
    plain = tiny_engine(network)
    assert (native.stats().kernel, plain.stats().kernel) == ("native", "torch")
    for a, b in zip(*(e.generate_many(mixed_requests()) for e in (native, plain)), strict=True):
        assert a.tokens == b.tokens
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


def test_bfloat16_is_independent_of_neighbours_too() -> None:
    # Products of one row with less than 16^3 multiplications take another way through torch; real models have none.
    network = tiny_network(dtype=torch.bfloat16, hidden=128)
    together = tiny_engine(network).generate_many(mixed_requests())
    alone = [tiny_engine(network).generate_many([request])[0] for request in mixed_requests()]
    assert [content(g) for g in together] == [content(g) for g in alone]


def test_a_group_computes_its_prompt_once() -> None:
    prompt = prompt_of("The same question for the whole group, a little longer than some blocks.")
    group = [GenerateRequest(prompt=prompt, max_tokens=12, seed=seed) for seed in range(8)]
    engine = tiny_engine()
    together = engine.generate_many(group)
    assert engine.stats().tokens_prefilled == len(prompt)
    assert [g.cached_tokens for g in together] == [0] + [len(prompt)] * 7
    assert [content(g) for g in together] == [content(tiny_engine().generate_many([r])[0]) for r in group]
    assert len({g.tokens for g in together}) > 1


def test_any_integer_is_a_seed() -> None:
    def answer(seed: int) -> tuple[int, ...]:
        return tiny_engine().generate_many([GenerateRequest(prompt=(1, 2, 3), max_tokens=12, seed=seed)])[0].tokens

    assert answer(-1) == answer(-1) != answer(-2)


def test_a_shared_beginning_is_computed_once() -> None:
    beginning = "A long instruction that all of these requests share, word for word, to the very end. "
    requests = [GenerateRequest(prompt=prompt_of(beginning + str(i)), max_tokens=3, seed=i) for i in range(6)]
    engine = tiny_engine()
    engine.generate_many(requests)
    assert engine.stats().tokens_prefilled < len(requests[0].prompt) + 5 * 20


def test_logprobs_are_the_networks() -> None:
    network = tiny_network()
    requests = mixed_requests()
    for request, generation in zip(requests, tiny_engine(network).generate_many(requests), strict=True):
        expected = recompute_logprobs(network, request.prompt, generation.tokens)
        assert generation.logprobs == pytest.approx(expected, abs=1e-4)
        assert generation.completion_tokens == len(generation.tokens) <= request.max_tokens
        assert (generation.finish_reason == "stop") == (generation.tokens[-1] == END)


def test_adapters_mixed_in_a_batch_answer_as_alone() -> None:
    network = tiny_network()
    adapters = {"one": tiny_adapter(network, 1), "two": tiny_adapter(network, 2)}

    def engine() -> Engine:
        made = tiny_engine(network)
        for name, adapter in adapters.items():
            made.add_adapter(name, adapter)
        return made

    requests = [
        GenerateRequest(
            prompt=prompt_of("The same prompt for all of them."), max_tokens=12, temperature=0, adapter=name
        )
        for name in ("one", None, "two", "one", None, "two")
    ]
    mixed = engine().generate_many(requests)
    alone = [engine().generate_many([request])[0] for request in requests]
    for a, b in zip(mixed, alone, strict=True):
        assert a.tokens == b.tokens
        assert a.logprobs == pytest.approx(
            b.logprobs, abs=1e-4
        )  # a few rows through an adapter round differently than many
    assert len({g.tokens for g in mixed[:3]}) == 3
    assert len({g.version for g in mixed}) == 3


def test_version_follows_a_live_adapter_and_stale_prefixes_are_not_used() -> None:
    network = tiny_network()
    adapter = tiny_adapter(network, 1)
    engine = tiny_engine(network)
    before = engine.add_adapter("live", adapter)
    request = GenerateRequest(
        prompt=prompt_of("A prompt that fills at least one block."), temperature=0, adapter="live"
    )
    first = engine.generate_many([request])[0]
    adapter.flat.mul_(-1.5)
    adapter.changed()
    second = engine.generate_many([request])[0]
    assert first.version == before != second.version == engine.version("live")
    assert second.cached_tokens == 0
    assert second.tokens != first.tokens
    fresh = tiny_engine(network)
    fresh.add_adapter("live", adapter)
    assert content(fresh.generate_many([request])[0]) == content(second)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": ()}, "prompt"),
        ({"prompt": (1,) * 512}, "prompt"),
        ({"prompt": (260,)}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"stop": ("",)}, "stop"),
        ({"logit_bias": {260: 1.0}}, "logit_bias"),
    ],
)
def test_bad_requests_name_the_field(changes: dict[str, object], param: str) -> None:
    request = GenerateRequest(**{"prompt": (1, 2, 3), **changes})  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest) as caught:
        tiny_engine().generate_many([request])
    assert caught.value.param == param


def test_unknown_adapter_and_a_request_larger_than_memory() -> None:
    with pytest.raises(NotFound, match="known are none"):
        tiny_engine().generate_many([GenerateRequest(prompt=(1,), adapter="x")])
    with pytest.raises(InvalidRequest, match="lower max_tokens"):
        tiny_engine(cache_tokens=64).generate_many([GenerateRequest(prompt=(1,) * 50, max_tokens=60)])


def test_one_bad_request_leaves_the_engine_usable() -> None:
    engine = tiny_engine(cache_tokens=512)
    good = GenerateRequest(prompt=(1, 2, 3), max_tokens=5, seed=1)
    with pytest.raises(InvalidRequest):
        engine.generate_many([good, GenerateRequest(prompt=())])
    for _ in range(12):  # memory is given back each time
        engine.generate_many([GenerateRequest(prompt=(seed,) * 100, max_tokens=3, seed=seed) for seed in range(5)])
    assert engine.stats().running == 0


def test_a_closed_engine_refuses() -> None:
    engine = tiny_engine()
    engine.start()
    engine.close()
    with pytest.raises(EngineError, match="not running"):
        engine._submit(GenerateRequest(prompt=(1,)), print)


def test_the_engines_time_is_split_over_the_requests() -> None:
    engine = tiny_engine()
    prompts = [prompt_of("a long prompt " * n) for n in (1, 20)]
    start = time.perf_counter()
    short, long = engine.generate_many([GenerateRequest(prompt=p, max_tokens=4, seed=1) for p in prompts])
    elapsed = time.perf_counter() - start
    assert 0 < short.engine_seconds < long.engine_seconds
    assert short.engine_seconds + long.engine_seconds <= elapsed
