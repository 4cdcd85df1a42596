"""Scored labels equal their brute-force log-probabilities, whatever they share."""

import math
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.tiny_model import END, prompt_of, recompute_logprobs, tiny_adapter, tiny_engine, tiny_network

from bessemer.core.errors import InvalidRequest
from bessemer.engine.choices import (
    MAX_CHARACTERS,
    MAX_LABEL_CHARACTERS,
    MAX_LABELS,
    build_tree,
    choose,
    tree_pairs,
)
from bessemer.engine.request import Choices, GenerateRequest

LABELS = ("Yes", "No", "Yellow", "Y", "None of these", "Nothing")


@pytest.mark.parametrize("window", [None, 10])
def test_scores_are_brute_force(window: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    network = tiny_network(window=window)
    prompts = [prompt_of("Same? " * n) for n in (1, 3, 7, 20)]
    requests = [GenerateRequest(prompt=p, constraint=Choices(labels=LABELS), temperature=0) for p in prompts]
    engines = [tiny_engine(network), tiny_engine(network, max_batch_tokens=20)]
    monkeypatch.setenv("PATH", str(tmp_path))
    engines.append(tiny_engine(network))
    for engine in engines:
        for prompt, generation in zip(prompts, engine.generate_many(requests), strict=True):
            assert generation.choice_logprobs is not None
            for label in LABELS:
                expected = sum(recompute_logprobs(network, prompt, [*label.encode(), END]))
                assert generation.choice_logprobs[label] == pytest.approx(expected, abs=2e-3)
            best = max(LABELS, key=generation.choice_logprobs.__getitem__)
            assert generation.text == best
            assert generation.tokens == (*best.encode(), END)
            assert sum(generation.logprobs) == pytest.approx(generation.choice_logprobs[best])


def test_scores_in_company_are_those_alone() -> None:
    network = tiny_network()
    adapter = tiny_adapter(network, 3)
    requests = [
        GenerateRequest(
            prompt=prompt_of(f"Instructions for all of them, then pair {i}"),
            constraint=Choices(labels=LABELS[: 2 + i % 4]),
            temperature=0,
            adapter="a" if i % 2 else None,
        )
        for i in range(9)
    ]
    words = [GenerateRequest(prompt=prompt_of(f"Free text {i}"), max_tokens=9, seed=i) for i in range(4)]

    def answers(batches: list[list[GenerateRequest]]) -> list[dict[str, float] | None]:
        found = []
        for batch in batches:
            engine = tiny_engine(network)
            engine.add_adapter("a", adapter)
            found += [g.choice_logprobs for g in engine.generate_many(batch)]
        return found

    together = answers([[*words, *requests]])[len(words) :]
    for a, b in zip(together, answers([[request] for request in requests]), strict=True):
        assert a == pytest.approx(b, abs=1e-4)


def test_bias_and_temperature() -> None:
    engine = tiny_engine()
    prompt = prompt_of("Which one?")

    def ask(**fields: object) -> str:
        bias = fields.pop("bias", ())
        request = GenerateRequest(prompt=prompt, constraint=Choices(labels=("a", "b"), bias=bias), **fields)  # type: ignore[arg-type]
        return engine.generate_many([request])[0].text

    scores = engine.generate_many([GenerateRequest(prompt=prompt, constraint=Choices(labels=("a", "b")))])[0]
    assert scores.choice_logprobs is not None
    gap = scores.choice_logprobs["a"] - scores.choice_logprobs["b"]
    assert ask(temperature=0, bias=(0.0, gap + 0.01)) == "b"
    assert ask(temperature=0, bias=(0.0, gap - 0.01)) == "a"
    even = [ask(seed=seed, bias=(0.0, gap)) for seed in range(200)]
    assert 70 < even.count("a") < 130
    assert even == [ask(seed=seed, bias=(0.0, gap)) for seed in range(200)]


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        (Choices(labels=()), {}),
        (Choices(labels=("a", "a")), {}),
        (Choices(labels=("a", "")), {}),
        (Choices(labels=("a", "b"), bias=(1.0,)), {}),
        (Choices(labels=("a",)), {"stop": ("x",)}),
        (Choices(labels=("a",)), {"top_k": 1}),
        (Choices(labels=("a",)), {"logit_bias": {1: 1.0}}),
        (Choices(labels=("a" * 510,)), {}),
        (Choices(labels=("a" * (MAX_LABEL_CHARACTERS + 1),)), {}),
        (Choices(labels=tuple(map(str, range(MAX_LABELS + 1)))), {}),
        (Choices(labels=tuple(f"{i} {'a' * 300}" for i in range(MAX_CHARACTERS // 300))), {}),
    ],
)
def test_meaningless_choices_are_refused(constraint: Choices, changes: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        tiny_engine().generate_many([GenerateRequest(prompt=(1, 2, 3), constraint=constraint, **changes)])  # type: ignore[arg-type]


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), min_size=1, max_size=8, unique=True))
def test_every_label_is_a_path_of_the_tree(labels: list[tuple[int, ...]]) -> None:
    tree = build_tree(labels, terminator=9)
    assert len(tree.tokens) == len({label[:n] for label in labels for n in range(1, len(label) + 1)})
    assert all(parent < node for node, parent in enumerate(tree.parents))
    pairs = iter(tree_pairs(tree))
    for label in labels:
        before = 0
        for token in (*label, 9):
            row, predicted = next(pairs)
            assert predicted == token
            assert row == before
            if token != 9:
                before = 1 + next(
                    n
                    for n, (t, p) in enumerate(zip(tree.tokens, tree.parents, strict=True))
                    if t == token and p == before - 1
                )


def test_a_tree_takes_memory_in_proportion_to_its_labels() -> None:
    labels = [tuple(range(10_000)), (*range(9_999), -1), (7,)]
    tracemalloc.start()
    tree = build_tree(labels, terminator=9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(tree.tokens) == 10_002
    assert peak < 20e6, "all prefixes of the first label alone would be 400 MB"


@settings(max_examples=50)
@given(st.lists(st.floats(-50, 0), min_size=1, max_size=6), st.floats(0, 1, exclude_max=True))
def test_drawing_follows_the_distribution(scores: list[float], uniform: float) -> None:
    assert scores[choose(scores, 0, uniform)] == max(scores)
    weights = [math.exp(score - max(scores)) for score in scores]
    picked = choose(scores, 1.0, uniform)
    assert sum(weights[:picked]) <= uniform * sum(weights) + 1e-9
    assert sum(weights[: picked + 1]) >= uniform * sum(weights) - 1e-9
