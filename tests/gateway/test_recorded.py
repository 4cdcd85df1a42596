"""Recorded answers: served for what was recorded, refused for everything else, labelled and priced."""

import gzip
import json
from pathlib import Path

import pytest
from tests.gateway.conftest import PRINCIPAL, ask

from bessemer.core.errors import ConfigError, ProviderError
from bessemer.core.openai_chat import ChatRequest, RequestExtension, StructuredOutputs
from bessemer.core.routes import Route, Step, Target
from lab.fake_openai import Script

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
ROWS = [
    {"prompt": "same?", "recorded_answer": "Yes", "pair_id": "1"},
    {"prompt": "twice", "recorded_answer": "Yes", "pair_id": "2"},
    {"prompt": "twice", "recorded_answer": "No", "pair_id": "3"},
]


def model(path: Path, **fields: object) -> str:
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items())
    return f"""
[models.old]
provider = "recorded"
path = {json.dumps(str(path))}
price = "tokens"
[models.old.recorded]
{lines}"""


def write(path: Path, rows: list[dict]) -> Path:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def tagged(text: str, pair_id: str) -> ChatRequest:
    return ask("old", text, bessemer=RequestExtension(tags={"pair_id": pair_id}))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
async def test_a_recorded_answer_is_served_and_labelled(make_world, tmp_path, name):
    path = write(tmp_path / name, ROWS)
    world = await make_world(toml=model(path, mean_total_tokens=100.4, mean_output_tokens=2.0))
    result = await world.gateway.chat(ask("old", "same?", temperature=0.0, max_tokens=5), PRINCIPAL)
    assert result.completion.choices[0].message.content == "Yes"
    assert result.completion.bessemer.provider == "recorded"
    [row] = world.recorded()
    assert row.calls[0].provider == "recorded"
    assert (row.input_tokens, row.output_tokens) == (98, 2)
    assert row.cost_usd == pytest.approx(98e-6 + 4e-6)


async def test_equal_texts_are_told_apart_by_the_key(make_world, tmp_path):
    path = write(tmp_path / "rows.jsonl", ROWS)
    world = await make_world(toml=model(path, key_field="pair_id", key="tags.pair_id"))
    for pair_id, answer in (("2", "Yes"), ("3", "No")):
        result = await world.gateway.chat(tagged("twice", pair_id), PRINCIPAL)
        assert result.inference.output == answer
    for request in (ask("old", "twice"), tagged("twice", "9"), tagged("same?", "2")):
        with pytest.raises(ProviderError) as refusal:
            await world.gateway.chat(request, PRINCIPAL)
        assert not refusal.value.retryable


async def test_an_answer_may_stand_twice_but_not_two_answers(make_world, tmp_path):
    rows = [
        *ROWS,
        ROWS[0],
        {**ROWS[1], "recorded_answer": "No"},
        {**ROWS[2], "prompt": "other", "recorded_answer": "Yes"},
    ]
    world = await make_world(toml=model(write(tmp_path / "rows.jsonl", rows), key_field="pair_id", key="tags.pair_id"))
    for text, pair_id, answer in (("same?", "1", "Yes"), ("twice", "3", "No"), ("other", "3", "Yes")):
        assert (await world.gateway.chat(tagged(text, pair_id), PRINCIPAL)).inference.output == answer
    with pytest.raises(ProviderError, match=r"2 different answers are recorded for tags\.pair_id = '2'"):
        await world.gateway.chat(tagged("twice", "2"), PRINCIPAL)


async def test_no_answer_is_none_and_numbers_may_be_missing(make_world, tmp_path):
    path = write(tmp_path / "rows.jsonl", [{**ROWS[0], "price": float("nan")}, {**ROWS[1], "recorded_answer": None}])
    world = await make_world(toml=model(path))
    assert (await world.gateway.chat(ask("old", "same?"), PRINCIPAL)).inference.output == "Yes"
    with pytest.raises(ProviderError, match="no answer is recorded for this text: 'twice'"):
        await world.gateway.chat(ask("old", "twice"), PRINCIPAL)


@pytest.mark.parametrize("content", [b"[1]\n", b"{\n", b'{"a": "\xff"}\n'])
async def test_a_line_that_is_no_object_is_named(make_world, tmp_path, content):
    (tmp_path / "rows.jsonl").write_bytes(b"\n" + content)
    world = await make_world(toml=model(tmp_path / "rows.jsonl"))
    with pytest.raises(ConfigError, match="line 2 are not JSON Lines"):
        await world.gateway.chat(ask("old", "same?"), PRINCIPAL)


async def test_without_a_prompt_field_the_key_alone_decides(make_world, tmp_path):
    path = write(tmp_path / "rows.jsonl", ROWS)
    world = await make_world(toml=model(path, prompt_field="", key_field="pair_id", key="tags.pair_id"))
    assert (await world.gateway.chat(tagged("anything", "3"), PRINCIPAL)).inference.output == "No"
    with pytest.raises(ProviderError):
        await world.gateway.chat(ask("old", "same?"), PRINCIPAL)


@pytest.mark.parametrize(
    "request_body",
    [
        ask("old", "same? "),
        ask("old", "same?", logprobs=True),
        ask("old", "same?", stop="x"),
        ask("old", "same?", structured_outputs=StructuredOutputs(choice=["Yes", "No"])),
        ChatRequest(model="old", messages=[{"role": "system", "content": "x"}, {"role": "user", "content": "same?"}]),
    ],
)
async def test_anything_else_is_refused_and_not_retried(make_world, tmp_path, request_body):
    path = write(tmp_path / "rows.jsonl", ROWS)
    world = await make_world({"large": [Script()]}, toml=model(path))
    world.put_route(Route(name="r", steps=(Step(targets=(Target(model="old"),)),), fallbacks=(Target(model="large"),)))
    request_body.model = "r"
    with pytest.raises(ProviderError) as refusal:
        await world.gateway.chat(request_body, PRINCIPAL)
    assert not refusal.value.retryable
    assert world.fakes["large"].bodies == []


async def test_without_a_count_or_a_tokenizer_tokens_and_cost_are_unknown(make_world, tmp_path):
    path = write(tmp_path / "rows.jsonl", ROWS)
    world = await make_world(toml=model(path))
    result = await world.gateway.chat(ask("old", "same?"), PRINCIPAL)
    assert result.inference.calls[0].input_tokens is None
    assert result.inference.cost_usd is None
    assert result.completion.usage is None


async def test_fields_are_free_and_answers_may_be_objects(make_world, tmp_path):
    rows = [{"in": {"title": "shoe"}, "out": {"Brand": "x"}, "usage": {"input": 7, "output": 3}}]
    path = write(tmp_path / "rows.jsonl", rows)
    toml = model(
        path,
        prompt_field="in.title",
        answer_field="out",
        input_tokens_field="usage.input",
        output_tokens_field="usage.output",
    )
    world = await make_world(toml=toml + '[prompts.title]\nuser = "{{input.title}}"\n')
    world.put_route(Route(name="r", steps=(Step(targets=(Target(model="old", prompt="title"),)),)))
    inference = await world.gateway.infer("r", input={"title": "shoe"})
    assert inference.output == '{"Brand":"x"}'
    assert (inference.input_tokens, inference.output_tokens) == (7, 3)


async def test_a_missing_field_is_named(make_world, tmp_path):
    world = await make_world(toml=model(write(tmp_path / "rows.jsonl", ROWS), answer_field="answer"))
    with pytest.raises(ConfigError, match=r"line 1 has no field 'answer'"):
        await world.gateway.chat(ask("old", "same?"), PRINCIPAL)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared benchmark data is not here")
@pytest.mark.parametrize(
    ("name", "fields", "text_field", "answer_field", "count"),
    [
        ("record_matching/dblp-scholar.llama31_70b_recorded.jsonl.gz", {}, "prompt", "recorded_answer", 5742),
        ("record_matching/amazon-google.gpt4o_mini_recorded.jsonl", {}, "prompt", "recorded_answer", 1234),
        (
            "product_attributes/oa-mine.gpt4_10shot.jsonl",
            {"prompt_field": "input", "answer_field": "gpt4_output"},
            "input",
            "gpt4_output",
            491,
        ),
    ],
)
async def test_every_answer_of_a_real_recording_is_served(make_world, name, fields, text_field, answer_field, count):
    path = SHARED / name
    keyed = {"key_field": "pair_id", "key": "tags.pair_id"} if text_field == "prompt" else {}
    world = await make_world(toml=model(path, **fields, **keyed))
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        rows = [json.loads(line) for line in lines]
    assert len(rows) == count
    for row in rows[:: max(1, count // 100)]:
        request = tagged(row[text_field], row["pair_id"]) if keyed else ask("old", row[text_field])
        result = await world.gateway.chat(request, PRINCIPAL)
        assert result.inference.output == row[answer_field]
