"""The built-in engine as a provider, on a tiny random model: versions, answer rules, adapters, streams."""

import asyncio
import json
import math
from pathlib import Path

import pytest
from tests.gateway.conftest import PRICES, PRINCIPAL, ChatGateway, ask, read
from tests.gateway.tiny import adapter_tar, open_tiny, tiny_model

from bessemer.core.errors import InvalidRequest, ProviderError, StoreError
from bessemer.core.openai_chat import ChatRequest, StructuredOutputs
from bessemer.core.routes import Calibration, Route, Step, Target
from bessemer.engine.engine import Engine
from bessemer.gateway import Gateway
from bessemer.gateway.providers import PROVIDERS, SETTINGS, build_providers, provider_context
from bessemer.gateway.stages import with_recorder
from bessemer.identity.policy import RolePolicy
from bessemer.registry.catalog import Catalog
from bessemer.registry.config import load_config
from bessemer.registry.versions import make_version
from bessemer.store.blob_folder import BlobFolder
from bessemer.store.spool import Spool
from bessemer.store.writer import Writer

MODELS = """
[models.tiny]
provider = "local"
path = {path}
price = "hours"
max_tokens = 12
context_tokens = {context}
[prompts.match]
user = "{{{{input.x}}}}?"
choices = ["Yes", "No", "Maybe"]
[prompts.span]
user = "{{{{input.x}}}}!"
grammar = 'start: %regex {{"substring_words": "{{{{input.x}}}}"}}'
"""

ASKED = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


class Local:
    """A gateway whose models are all the tiny one; counts the engines that were opened."""

    def __init__(self, folder: Path, database, model: Path, context: int = 256) -> None:
        (folder / "c.toml").write_text(PRICES + MODELS.format(path=json.dumps(str(model)), context=context))
        self.catalog = Catalog(load_config(folder / "c.toml", folder, SETTINGS), database)
        self.blobs = BlobFolder(folder / "blobs")
        self.writer = Writer(database, Spool.open(database, folder / "spool"))
        self.opened: list[Engine] = []
        self.providers = build_providers(PROVIDERS, provider_context(self.catalog, self.blobs, folder, {}, self._open))
        self.gateway = ChatGateway(Gateway(self.catalog, self.providers, with_recorder(self.writer), RolePolicy()))

    def _open(self, path: Path) -> Engine:
        self.opened.append(open_tiny(path))
        return self.opened[-1]

    def register(self, **fields) -> str:
        return self.catalog.register(make_version("tiny", **fields)).id

    async def close(self) -> None:
        await self.gateway.close()
        self.writer.close()


@pytest.fixture
async def local(tmp_path, sqlite_database, tiny_path):
    made = Local(tmp_path, sqlite_database, tiny_path)
    yield made
    await made.close()


async def test_choices_are_scored_normalised_and_the_best_is_taken(local):
    version = local.register(prompt="match")
    row = await local.gateway.infer(version, input={"x": "a"})
    call = row.calls[0]
    assert call.choice_logprobs is not None
    assert set(call.choice_logprobs) == {"Yes", "No", "Maybe"}
    assert math.fsum(math.exp(value) for value in call.choice_logprobs.values()) == pytest.approx(1)
    assert row.output == max(call.choice_logprobs, key=call.choice_logprobs.__getitem__)
    assert call.provider == "local"
    assert row.cost_usd == pytest.approx(row.cost_usd)
    assert 0 < row.cost_usd <= row.latency_s


async def test_a_bias_moves_the_choice_and_its_confidence(local):
    plain = await local.gateway.infer(local.register(prompt="match"), input={"x": "a"})
    best = plain.calls[0].choice_logprobs
    assert best is not None
    labels = ("Yes", "No", "Maybe")
    for index, label in enumerate(labels):
        bias = tuple(100.0 if position == index else 0.0 for position in range(3))
        row = await local.gateway.infer(
            local.register(prompt="match", choices=labels, choice_bias=bias), input={"x": "a"}
        )
        assert row.output == label
        assert row.calls[0].choice_logprobs[label] == pytest.approx(0, abs=1e-6)
    same = await local.gateway.infer(
        local.register(prompt="match", choices=labels, choice_bias=(1.0, 1.0, 1.0)), input={"x": "a"}
    )
    assert same.calls[0].choice_logprobs == pytest.approx(best, abs=1e-4)


async def test_a_client_may_not_replace_the_rules_of_a_version(local):
    version = local.register(choices=("Yes", "No"))
    outputs = StructuredOutputs(choice=["A", "B"])
    with pytest.raises(InvalidRequest, match="constrains its answers itself"):
        await local.gateway.chat(ask(version, structured_outputs=outputs), PRINCIPAL)
    free = await local.gateway.chat(ask("tiny", structured_outputs=outputs), PRINCIPAL)
    assert free.inference.output in ("A", "B")


async def test_a_grammar_keeps_the_answer_to_the_input_whatever_it_holds(local):
    text = 'quote " backslash \\ %} end'
    row = await local.gateway.infer(local.register(prompt="span"), input={"x": text}, max_tokens=40, seed=3)
    assert row.output is not None
    assert row.output.strip() in text
    assert any(token.forced for token in row.calls[0].token_logprobs)
    with pytest.raises(InvalidRequest, match=r"bessemer\.input"):
        await local.gateway.chat(ask(local.register(grammar="start: /{{input.x}}/")), PRINCIPAL)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_malformed_constraint_is_named_as_the_client_wrote_it(local, stream):
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "objekt"}}}
    own = local.register(grammar="start: nothing")
    for request, field in (
        (ask("tiny", response_format=schema, stream=stream), "response_format"),
        (ask("tiny", structured_outputs=StructuredOutputs(regex="("), stream=stream), "structured_outputs"),
        (ask(own, stream=stream), "grammar"),
    ):
        with pytest.raises(InvalidRequest, match=f"^{field} is not valid") as caught:
            await (local.gateway.stream if stream else local.gateway.chat)(request, PRINCIPAL)
        assert caught.value.param == field


async def test_the_limit_is_the_versions_unless_the_client_sends_one(local):
    assert (await local.gateway.chat(ask("tiny", seed=1, temperature=0.0), PRINCIPAL)).inference.output_tokens <= 12
    short = await local.gateway.chat(ask("tiny", seed=1, max_completion_tokens=2, temperature=0.0), PRINCIPAL)
    assert short.inference.output_tokens <= 2


async def test_a_version_answers_at_its_own_temperature_unless_a_client_asks_for_another(local):
    def told(row):
        return row.calls[0].temperature

    free, greedy, warm = (
        "tiny",
        local.register(temperature=0.0, max_tokens=12),
        local.register(temperature=1.5, max_tokens=12),
    )
    own = {name: [await local.gateway.infer(name, messages=ASKED) for _ in range(6)] for name in (free, greedy, warm)}
    assert [{told(row) for row in rows} for rows in own.values()] == [{1.0}, {0.0}, {1.5}]
    assert len({row.output for row in own[greedy]}) == 1
    assert all(len({row.output for row in own[name]}) > 1 for name in (free, warm))
    asked = await local.gateway.infer(greedy, messages=ASKED, temperature=1.0, seed=4)
    same = await local.gateway.infer(free, messages=ASKED, seed=4)
    assert (told(asked), asked.output) == (1.0, same.output)
    chosen = await local.gateway.infer(local.register(prompt="match"), input={"x": "a"})
    assert told(chosen) == 0.0
    drawn = await local.gateway.infer(local.register(prompt="match", temperature=1.0), input={"x": "a"})
    assert told(drawn) == 1.0


@pytest.mark.parametrize("temperature", [-0.1, 2.1])
async def test_a_temperature_that_cannot_be_is_refused(local, temperature):
    with pytest.raises(InvalidRequest) as refused:
        local.register(temperature=temperature)
    assert refused.value.param == "temperature"


async def test_a_stream_and_a_whole_answer_are_the_same(local):
    whole = await local.gateway.chat(ask("tiny", seed=5, temperature=1.0), PRINCIPAL)
    result = await local.gateway.stream(ask("tiny", seed=5, temperature=1.0, stream=True, logprobs=True), PRINCIPAL)
    raw = await read(result)
    assert raw[-1] == b"data: [DONE]\n\n"
    chunks = [json.loads(event[6:]) for event in raw[:-1]]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == whole.inference.output
    assert local.writer.flush()
    streamed = next(row for row in _rows(local) if row.id == result.inference_id)
    assert streamed.calls[0].token_logprobs == pytest.approx(whole.inference.calls[0].token_logprobs)
    assert streamed.input_tokens == whole.inference.input_tokens > 0


def _rows(local):
    from bessemer.store import inferences

    return inferences.find(local.catalog._database, limit=None)


async def test_versions_share_an_engine_and_adapters_change_the_answer(local, tmp_path):
    base = await local.gateway.infer(local.register(prompt="match"), input={"x": "a"})
    shas = [local.blobs.put(adapter_tar(local.opened[0], tmp_path / f"adapter{seed}", seed)) for seed in (1, 2)]
    versions = [local.register(prompt="match", adapter_sha256=sha) for sha in shas]
    rows = await asyncio.gather(*(local.gateway.infer(version, input={"x": "a"}) for version in versions * 3))
    assert len(local.opened) == 1
    answers = {row.version: row.calls[0].choice_logprobs for row in rows}
    assert len(answers) == 2
    for choices in answers.values():
        assert choices != pytest.approx(base.calls[0].choice_logprobs, abs=1e-3)
    assert sorted(local.opened[0].adapters()) == sorted(shas)


async def test_a_broken_adapter_is_an_error_and_no_other_try_helps(local):
    version = local.register(adapter_sha256=local.blobs.put(b"not a tar"))
    with pytest.raises(ProviderError, match="unpacked") as failure:
        await local.gateway.chat(ask(version), PRINCIPAL)
    assert not failure.value.retryable


async def test_an_adapter_that_was_changed_is_refused_by_name(local, tmp_path):
    await local.gateway.infer("tiny", messages=ASKED)
    sha256 = local.blobs.put(adapter_tar(local.opened[0], tmp_path / "adapter", 1))
    version = local.register(adapter_sha256=sha256)
    blob = tmp_path / "blobs" / sha256[:2] / sha256
    whole = blob.read_bytes()
    middle = len(whole) // 2
    blob.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(StoreError, match=sha256):
        await local.gateway.chat(ask(version), PRINCIPAL)
    blob.write_bytes(whole)
    assert (await local.gateway.chat(ask(version), PRINCIPAL)).inference.output is not None


async def test_a_prompt_beyond_the_context_is_refused_by_name(local):
    with pytest.raises(InvalidRequest, match="context") as refusal:
        await local.gateway.chat(ask("tiny", "x" * 400), PRINCIPAL)
    assert refusal.value.error_code == "context_length_exceeded"


async def test_a_cascade_by_choice_margin_escalates_below_its_threshold(local):
    small = local.register(prompt="match")
    margin = 50.0
    calibration = Calibration(version=small, score="choice_margin", dataset_sha256="0", x=(0.0, margin), y=(0.0, 1.0))
    for threshold, calls in ((0.0, 1), (1.0, 2)):
        steps = (
            Step(targets=(Target(model=small),), threshold=threshold, calibration=calibration),
            Step(targets=(Target(model="tiny", prompt="match"),)),
        )
        local.catalog.put_route(Route(name="match", steps=steps))
        row = await local.gateway.infer("match", input={"x": "a"})
        assert len(row.calls) == calls
        assert row.calls[0].score is not None
        assert row.calls[0].confidence == pytest.approx(min(1.0, row.calls[0].score / margin))


async def test_tokens_of_recorded_answers_are_counted_by_a_stated_tokenizer(tmp_path, sqlite_database, tiny_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "abc", "recorded_answer": "de"}\n')
    made = Local(tmp_path, sqlite_database, tiny_path)
    path = tmp_path / "c.toml"
    recorded = f'[models.old]\nprovider = "recorded"\npath = "{tmp_path}/rows.jsonl"\nprice = "tokens"\n'
    path.write_text(path.read_text() + recorded + '[models.old.recorded]\ntokenizer = "tiny"\n')
    catalog = Catalog(load_config(path, tmp_path, SETTINGS), sqlite_database)
    providers = build_providers(PROVIDERS, provider_context(catalog, made.blobs, tmp_path, {}, open_tiny))
    gateway = ChatGateway(Gateway(catalog, providers, with_recorder(made.writer), RolePolicy()))
    result = await gateway.chat(ChatRequest(model="old", messages=[{"role": "user", "content": "abc"}]), PRINCIPAL)
    assert (result.inference.input_tokens, result.inference.output_tokens) == (3, 2)
    await gateway.close()
    await made.close()
