"""Constrained answers always satisfy their constraint, and forced tokens are marked."""

import math
import re
from typing import Any

import msgspec
import pytest
from tests.engine.tiny_model import END, ByteTokens, all_logprobs, prompt_of, tiny_engine, tiny_network

from bessemer.core.errors import EngineError, InvalidRequest
from bessemer.core.template import render_grammar
from bessemer.engine import runner
from bessemer.engine.network import Network
from bessemer.engine.request import Choices, Constraint, GenerateRequest, Generation, JsonSchema, Lark, Regex

SCHEMA = {
    "type": "object",
    "properties": {
        "brand": {"type": "string", "maxLength": 6},
        "size": {"type": "integer", "minimum": 0, "maximum": 999},
        "kind": {"enum": ["nut", "tea", "té"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["brand", "size", "kind", "tags"],
    "additionalProperties": False,
}


def nested(levels: int) -> dict[str, Any]:
    """A schema of objects in objects, deeper than the grammar library reads."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


class Item(msgspec.Struct, forbid_unknown_fields=True):
    brand: str
    size: int
    kind: str
    tags: list[bool]


def ask(constraint: Constraint, count: int = 12, **fields: object) -> list[GenerateRequest]:
    return [
        GenerateRequest(prompt=prompt_of(f"Attributes {i}: "), max_tokens=200, seed=i, constraint=constraint, **fields)  # type: ignore[arg-type]
        for i in range(count)
    ]


def expected_logprobs(network: Network, request: GenerateRequest, generation: Generation) -> list[float]:
    """The model's own log-probabilities, normalised over what the grammar left; a sequence of its own, no cache."""
    assert request.constraint is not None
    candidates = tiny_engine(network).grammars.candidates(request.constraint, generation.tokens, generation.forced)
    logprob_LV = all_logprobs(network, request.prompt, generation.tokens)
    rows = zip(logprob_LV, generation.tokens, candidates, strict=True)
    return [float(row[token] - (0 if ids is None else row[ids].logsumexp(0))) for row, token, ids in rows]


def test_json_is_always_valid() -> None:
    network = tiny_network()
    requests = ask(JsonSchema(schema=SCHEMA))
    free = [GenerateRequest(prompt=prompt_of("beside them"), max_tokens=30, seed=i) for i in range(3)]
    generations = tiny_engine(network).generate_many([*requests, *free])[: len(requests)]
    for request, generation in zip(requests, generations, strict=True):
        item = msgspec.json.decode(generation.text, type=Item)
        assert 0 <= item.size <= 999
        assert item.kind in {"nut", "tea", "té"}
        assert generation.finish_reason == "stop"
        assert sum(generation.forced) >= len('{"brand":"","size":,"kind":"","tags":[]}') - 6
        assert len(generation.forced) == len(generation.tokens) == len(generation.logprobs)
        assert generation.logprobs == pytest.approx(expected_logprobs(network, request, generation), abs=1e-4)
        assert all(value == 0 for value, alone in zip(generation.logprobs, generation.forced, strict=True) if alone)
    assert [g.text for g in generations] == [tiny_engine(network).generate_many([r])[0].text for r in requests]


def test_many_and_few_allowed_tokens_give_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    network, requests = tiny_network(), ask(JsonSchema(schema=SCHEMA), count=6, top_logprobs=2)
    few = tiny_engine(network).generate_many(requests)
    monkeypatch.setattr(runner, "LISTED", 0)
    many = tiny_engine(network).generate_many(requests)
    assert [g.tokens for g in few] == [g.tokens for g in many]
    for request, generation in zip(requests, many, strict=True):
        own = all_logprobs(network, request.prompt, generation.tokens)
        drawn = [i for i, alone in enumerate(generation.forced) if not alone]
        expected = [float(own[i, generation.tokens[i]]) for i in drawn]
        assert [generation.logprobs[i] for i in drawn] == pytest.approx(expected, abs=1e-4)


def test_alternatives_are_what_the_grammar_allows() -> None:
    request = GenerateRequest(prompt=(1, 2), max_tokens=4, constraint=Regex(pattern="x[ab]y"), seed=1, top_logprobs=5)
    generation = tiny_engine().generate_many([request])[0]
    assert [sorted(chr(other.token) for other in top) for top in generation.top_logprobs] == [["x"], ["a", "b"], ["y"]]
    assert sum(math.exp(other.logprob) for other in generation.top_logprobs[1]) == pytest.approx(1)


def test_regex_and_lark() -> None:
    for generation in tiny_engine().generate_many(ask(Regex(pattern="[a-c]{3}-[0-9]{1,4}z"))):
        assert re.fullmatch("[a-c]{3}-[0-9]{1,4}z", generation.text)
    source = "canon eos mark ii camera body, 24 megapixels"
    grammar = f'start: "<" SPAN ">"\nSPAN: %regex {{"substring_words": "{source}"}}'
    for generation in tiny_engine().generate_many(ask(Lark(grammar=grammar))):
        assert generation.text[0] == "<"
        assert generation.text[-1] == ">"
        assert generation.text[1:-1] in source


def test_an_object_has_each_of_its_names_once_at_most() -> None:
    names = ["red", 'a "b"', "é"]
    grammar = render_grammar("start: object\n{{object(input.names)}}value: /[0-9]/", {"names": names})
    seen = set()
    for generation in tiny_engine().generate_many(ask(Lark(grammar=grammar), count=40)):
        pairs = msgspec.json.decode(generation.text, type=dict[str, int])
        assert generation.text.count(":") == len(pairs)
        assert set(pairs) <= set(names)
        seen.add(tuple(pairs))
    assert {1, 2, 3} <= {len(found) for found in seen}
    assert len(seen) > 3, "names come in any order"


def test_a_repeatable_end_is_left_to_the_model() -> None:
    generations = tiny_engine().generate_many(ask(Regex(pattern="[ab]*"), temperature=0.5))
    assert all(re.fullmatch("[ab]*", g.text) for g in generations)
    assert all(g.tokens[-1] == END for g in generations if g.finish_reason == "stop")


@pytest.mark.parametrize("vocabulary", [ByteTokens.vocab_size + 200, END + 1])
def test_embeddings_need_not_be_as_many_as_the_tokenizers_tokens(vocabulary: int) -> None:
    engine = tiny_engine(tiny_network(vocabulary=vocabulary))
    for generation in engine.generate_many(ask(JsonSchema(schema=SCHEMA), count=3)):
        assert generation.finish_reason == "stop"
        assert msgspec.json.decode(generation.text, type=Item).kind in {"nut", "tea", "té"}
        assert max(generation.tokens) < vocabulary


def test_an_answer_that_ends_at_its_limit_is_complete() -> None:
    for pattern in ("x[ab]y", "xy[ab]"):
        request = GenerateRequest(prompt=(1, 2), max_tokens=3, constraint=Regex(pattern=pattern), seed=1)
        generation = tiny_engine().generate_many([request])[0]
        assert re.fullmatch(pattern, generation.text)
        assert generation.finish_reason == "stop"


def test_a_grammar_that_broke_is_no_complete_answer() -> None:
    grammar = tiny_engine().grammars.start(Regex(pattern="ab"))
    with pytest.raises(EngineError):
        grammar.consume(list(b"x"))
    assert grammar.complete, "as the library sees it"
    with pytest.raises(EngineError):
        grammar.check()


def test_an_answer_cut_by_its_limit_says_so() -> None:
    request = GenerateRequest(prompt=(1, 2), max_tokens=7, constraint=JsonSchema(schema=SCHEMA), seed=1)
    generation = tiny_engine().generate_many([request])[0]
    assert (generation.finish_reason, generation.text, len(generation.tokens)) == ("length", '{"brand', 7)


@pytest.mark.parametrize(
    "constraint",
    [
        Regex(pattern="("),
        Lark(grammar="start: nothing"),
        JsonSchema(schema={"type": "x"}),
        JsonSchema(schema=nested(200)),
    ],
)
def test_malformed_constraints_are_refused(constraint: Constraint) -> None:
    with pytest.raises(InvalidRequest) as caught:
        tiny_engine().generate_many([GenerateRequest(prompt=(1,), constraint=constraint)])
    assert caught.value.param == "constraint"


IMPOSSIBLE = [
    Regex(pattern=r"[^\s\S]"),
    Regex(pattern="[a&&b]"),
    JsonSchema(schema={"$ref": "#"}),
    JsonSchema(schema={"type": "object", "properties": {"a": False}, "required": ["a"]}),
    Lark(grammar="start: start"),
    Lark(grammar="start: a\na: b\nb: a"),
    Lark(grammar='start: "a" x\nx: x'),
]
COSTLY = [
    Regex(pattern="(a{1000}){1000}"),
    Regex(pattern="a{1000000}y"),
    Lark(grammar='start: "a" start'),
    JsonSchema(schema={"type": "array", "items": {"const": 1}, "minItems": 100_000}),
    Regex(pattern="a" * 70_000),
    JsonSchema(schema={"enum": ["é" * 40_000]}),
]


@pytest.mark.parametrize("constraint", [*IMPOSSIBLE, *COSTLY])
def test_what_cannot_be_answered_is_said_in_one_sentence(constraint: Constraint) -> None:
    engine = tiny_engine()
    with pytest.raises(InvalidRequest) as caught:
        engine.generate_many([GenerateRequest(prompt=(1,), constraint=constraint)])
    assert caught.value.param == "constraint"
    assert caught.value.message.startswith("constraint is not valid: ")
    assert len(caught.value.message) < 150
    assert "\n" not in caught.value.message
    assert "state" not in caught.value.message
    if constraint in IMPOSSIBLE:
        assert "satisf" in caught.value.message


@pytest.mark.parametrize("pattern", ["[ab](a{1000}){1000}", "[ab](cd{30}){30}(a{1000}){1000}"])
def test_a_grammar_that_grows_too_large_on_its_way_is_the_clients_error(pattern: str) -> None:
    requests = [GenerateRequest(prompt=(1,), constraint=Regex(pattern=pattern), seed=i) for i in range(3)]
    engine = tiny_engine()
    for request in requests:
        with pytest.raises(InvalidRequest, match="too much work"):
            engine.generate_many([request])
    assert engine.generate_many([GenerateRequest(prompt=(1,), max_tokens=3)])[0].completion_tokens > 0


def test_a_long_forced_answer_is_given_whole() -> None:
    wanted = "a sentence of some length, " * 10
    for constraint in (Regex(pattern=wanted), JsonSchema(schema={"const": wanted})):
        request = GenerateRequest(prompt=(1,), max_tokens=400, constraint=constraint)
        generation = tiny_engine().generate_many([request])[0]
        assert generation.text.strip('"') == wanted
        assert all(generation.forced)


def test_a_constraint_made_ready_is_compiled_once() -> None:
    engine = tiny_engine()
    for constraint in (Regex(pattern="[ab]{2}"), Lark(grammar='start: "x" | "y"'), Choices(labels=("a", "b"))):
        assert not engine.is_ready(constraint)
        engine.make_ready(constraint)
        assert engine.is_ready(constraint)
        assert engine.generate_many([GenerateRequest(prompt=(1,), constraint=constraint)])[0].finish_reason == "stop"
    with pytest.raises(InvalidRequest):
        engine.make_ready(Choices(labels=("a",) * 2))
