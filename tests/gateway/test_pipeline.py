"""One request through the gateway: the answer, the fallbacks, the stream's contract and the record."""

import asyncio
import json

import msgspec
import pytest
from tests.gateway.conftest import PRINCIPAL, ask, read

from bessemer.core.access import Role
from bessemer.core.content import HASH_VERSION
from bessemer.core.datasets import Split
from bessemer.core.errors import ConfigError, Forbidden, InvalidRequest, NotFound, ProviderError, RateLimited
from bessemer.core.openai_chat import ChatRequest, RequestExtension, StreamOptions
from bessemer.core.routes import Calibration, Route, Step, Target
from bessemer.registry.upstreams import Timeouts
from lab.fake_openai import FakeOpenAI, Script

ALWAYS = (0.0, 1.0)


def calibration(version: str, score: str = "mean_logprob") -> Calibration:
    """P(correct) = 1 + score, so a mean log-probability of -0.3 is a confidence of 0.7."""
    return Calibration(version=version, score=score, dataset_sha256="0" * 64, x=(-1.0, 0.0), y=ALWAYS)


def cascade(world, threshold: float, *, fallbacks: tuple[str, ...] = ()) -> Route:
    small = world.version("small")
    return Route(
        name="match",
        steps=(
            Step(targets=(Target(model="small"),), threshold=threshold, calibration=calibration(small)),
            Step(targets=(Target(model="large"),)),
        ),
        fallbacks=tuple(Target(model=name) for name in fallbacks),
    )


def events(raw: list[bytes]) -> list[dict]:
    return [json.loads(event.removeprefix(b"data: ")) for event in raw if event != b"data: [DONE]\n\n"]


async def test_an_answer_is_returned_priced_and_recorded(make_world):
    world = await make_world({"small": [Script(pieces=("he", "llo"), prompt_tokens=100)]})
    result = await world.gateway.chat(ask("small", temperature=0.5, user="u1"), PRINCIPAL)
    assert result.completion.choices[0].message.content == "hello"
    assert result.completion.usage is not None
    assert result.completion.usage.total_tokens == 102
    assert result.overhead_s >= 0
    [row] = world.recorded()
    assert row == result.inference
    assert row.output == "hello"
    assert row.cost_usd == pytest.approx(100e-6 + 2 * 2e-6)
    assert (row.input_tokens, row.output_tokens, row.key_id) == (100, 2, "key-test")
    assert row.version == world.version("small")
    assert row.propensity == 1
    assert (row.tags, row.user, row.origin, row.split, row.hash_version) == ({}, "u1", None, None, HASH_VERSION)
    assert row.ttft_s is not None
    assert row.ttft_s <= row.latency_s
    assert row.config_sha256 == world.catalog.config_sha256
    assert row.calls[0].provider == "openai"
    assert result.completion.bessemer is not None
    assert result.completion.bessemer.inference_id == row.id


async def test_nothing_but_a_streams_usage_is_added_to_what_the_client_sent(make_world):
    world = await make_world({"small": [Script(), Script(), Script()]})
    await world.gateway.chat(ask("small", seed=7, stop="x"), PRINCIPAL)
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    await world.gateway.chat(ask("small", response_format=schema), PRINCIPAL)
    message = [{"role": "user", "content": "hello"}]
    bodies = [json.loads(body) for body in world.fakes["small"].bodies]
    assert bodies[0] == {"model": "small", "messages": message, "seed": 7, "stop": ["x"]}
    assert bodies[1] == {"model": "small", "messages": message, "response_format": schema}
    await read(await world.gateway.stream(ask("small", stream=True), PRINCIPAL))
    sent = json.loads(world.fakes["small"].bodies[2])
    assert sent == {"model": "small", "messages": message, "stream": True, "stream_options": {"include_usage": True}}
    assert "User-Agent" not in world.fakes["small"].headers[0]


async def test_a_long_request_arrives_whole(make_world):
    world = await make_world({"small": [Script()]})
    text = "word " * 600_000
    await world.gateway.chat(ask("small", text), PRINCIPAL)
    assert json.loads(world.fakes["small"].bodies[0])["messages"][0]["content"] == text
    assert "Content-Length" in world.fakes["small"].headers[0]


async def test_structured_input_is_rendered_by_the_version_and_kept_as_it_is(make_world):
    world = await make_world({"small": [Script()]})
    inference = await world.gateway.infer("small", input={"left": "a", "right": "b"}, origin="evaluation")
    sent = json.loads(world.fakes["small"].bodies[0])["messages"]
    assert sent == [{"role": "user", "content": "Is a the same as b?"}]
    assert inference.input == {"left": "a", "right": "b"}
    assert inference.messages == ()
    assert inference.calls[0].prompt == "ask"
    assert (inference.origin, inference.tags, inference.made_by_bessemer) == ("evaluation", {}, True)


@pytest.mark.parametrize(
    ("request_body", "param"),
    [
        (ask("small", temperature=3.0), "temperature"),
        (ask("small", top_logprobs=2), "top_logprobs"),
        (ask("small", presence_penalty=2.5), "presence_penalty"),
        (ask("small", stream_options=StreamOptions(include_usage=True)), "stream_options"),
        (ask("small", max_tokens=1, max_completion_tokens=1), "max_tokens"),
        (ask("small", response_format={"type": "xml"}), "response_format"),
        (ask("small", stop=["a", ""]), "stop"),
        (ChatRequest(model="small", messages=[]), "messages"),
        (ChatRequest(model="small", messages=[{"role": "tool", "content": "x"}]), "messages[0].tool_call_id"),
        (ChatRequest(model="small", messages=[{"role": "robot", "content": "x"}]), "messages[0].role"),
        (
            ChatRequest(model="small", messages=[{"role": "user", "content": "x", "tool_calls": [{}]}]),
            "messages[0].tool_calls[0]",
        ),
        (ChatRequest(model="small", messages=[{"role": "user", "content": ["x"]}]), "messages[0].content[0]"),
        (ask("small", tools=[{"type": "function", "function": {"name": 3}}]), "tools[0].function.name"),
        (ChatRequest(model="small", messages=[], bessemer=RequestExtension(input={"left": "a"})), "input.right"),
    ],
)
async def test_what_is_not_supported_is_refused_by_name(make_world, request_body, param):
    world = await make_world({"small": []})
    with pytest.raises(InvalidRequest) as refusal:
        await world.gateway.chat(request_body, PRINCIPAL)
    assert refusal.value.param == param
    assert world.fakes["small"].bodies == []


async def test_an_unknown_name_is_not_found(make_world):
    world = await make_world({"small": []})
    with pytest.raises(NotFound):
        await world.gateway.chat(ask("nobody"), PRINCIPAL)


async def test_a_sure_answer_is_accepted_and_an_unsure_one_escalated(make_world):
    sure = Script(pieces=("yes",), logprobs=(-0.1,))
    unsure = Script(pieces=("no",), logprobs=(-0.6,))
    world = await make_world({"small": [sure, unsure], "large": [Script(pieces=("big",))]})
    world.put_route(cascade(world, 0.8))
    first = await world.gateway.chat(ask("match"), PRINCIPAL)
    second = await world.gateway.chat(ask("match"), PRINCIPAL)
    assert first.completion.choices[0].message.content == "yes"
    assert first.completion.bessemer.escalated is False
    assert first.inference.calls[0].confidence == pytest.approx(0.9)
    assert second.completion.choices[0].message.content == "big"
    assert second.completion.bessemer.escalated is True
    assert [call.accepted for call in second.inference.calls] == [False, True]
    assert second.inference.calls[0].score == pytest.approx(-0.6)
    assert second.inference.cost_usd == pytest.approx(sum(call.cost_usd for call in second.inference.calls))


async def test_an_answer_without_logprobs_is_never_trusted(make_world):
    world = await make_world({"small": [Script()], "large": [Script(pieces=("big",))]})
    world.put_route(cascade(world, 0.0))
    result = await world.gateway.chat(ask("match"), PRINCIPAL)
    assert result.completion.choices[0].message.content == "big"
    assert result.inference.calls[0].confidence is None


async def test_a_calibration_of_another_version_is_not_trusted(make_world):
    world = await make_world({"small": [], "large": [Script(pieces=("big",))]})
    route = cascade(world, 0.5)
    step = msgspec.structs.replace(route.steps[0], calibration=calibration(world.version("large")))
    world.put_route(msgspec.structs.replace(route, steps=(step, route.steps[1])))
    result = await world.gateway.chat(ask("match"), PRINCIPAL)
    assert [call.version for call in result.inference.calls] == [world.version("large")]


async def test_retryable_failures_go_on_and_others_do_not(make_world):
    world = await make_world(
        {"small": [Script(status=503), Script(status=429), Script(status=400)], "large": [Script(pieces=("big",))] * 2}
    )
    world.put_route(
        Route(name="match", steps=(Step(targets=(Target(model="small"),)),), fallbacks=(Target(model="large"),))
    )
    for _ in range(2):
        result = await world.gateway.chat(ask("match"), PRINCIPAL)
        assert result.completion.choices[0].message.content == "big"
        assert [bool(call.error) for call in result.inference.calls] == [True, False]
    with pytest.raises(InvalidRequest, match="400"):
        await world.gateway.chat(ask("match"), PRINCIPAL)
    failed = world.recorded()[-1]
    assert failed.error is not None
    assert failed.output is None


async def test_a_prompt_too_long_for_the_small_model_goes_to_the_large_one(make_world):
    world = await make_world(
        {"small": [Script(status=400, code="context_length_exceeded")], "large": [Script(pieces=("big",))]}
    )
    world.put_route(cascade(world, 0.5))
    result = await world.gateway.chat(ask("match"), PRINCIPAL)
    assert result.completion.choices[0].message.content == "big"


async def test_the_last_failure_is_the_clients_with_its_own_status(make_world):
    world = await make_world({"small": [Script(status=429), Script(status=500), Script(error_after=0)]})
    with pytest.raises(RateLimited):
        await world.gateway.chat(ask("small"), PRINCIPAL)
    for _ in range(2):
        with pytest.raises(ProviderError) as failure:
            await world.gateway.chat(ask("small"), PRINCIPAL)
        assert failure.value.retryable


async def test_a_stream_carries_pieces_usage_and_done(make_world):
    world = await make_world({"small": [Script(pieces=("he", "llo"), logprobs=(-0.1, -0.2))]})
    request = ask("small", stream=True, stream_options=StreamOptions(include_usage=True), logprobs=True)
    result = await world.gateway.stream(request, PRINCIPAL)
    raw = await read(result)
    assert raw[-1] == b"data: [DONE]\n\n"
    chunks = events(raw)
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"]) == "hello"
    assert chunks[1]["choices"][0]["logprobs"]["content"][0]["logprob"] == -0.1
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-2]["bessemer"]["inference_id"] == result.inference_id
    [row] = world.recorded()
    assert row.output == "hello"
    assert [token.logprob for token in row.calls[0].token_logprobs] == [-0.1, -0.2]


async def test_the_cost_of_a_stream_is_known_to_who_did_not_ask_for_usage(make_world):
    world = await make_world({"small": [Script(pieces=("he", "llo"), prompt_tokens=7)]})
    raw = await read(await world.gateway.stream(ask("small", stream=True), PRINCIPAL))
    assert all(chunk.get("usage") is None for chunk in events(raw))
    [row] = world.recorded()
    assert (row.input_tokens, row.output_tokens) == (7, 2)
    assert row.cost_usd is not None
    assert row.cost_usd > 0


@pytest.mark.parametrize("stream", [False, True])
async def test_the_ledger_is_the_upstreams_invoice_cached_tokens_included(make_world, stream):
    world = await make_world({"small": [Script(pieces=("he", "llo"), prompt_tokens=1000, cached_tokens=600)]})
    if stream:
        await read(await world.gateway.stream(ask("small", stream=True), PRINCIPAL))
    else:
        await world.gateway.chat(ask("small"), PRINCIPAL)
    [row] = world.recorded()
    assert (row.input_tokens, row.calls[0].cached_tokens, row.output_tokens) == (1000, 600, 2)
    assert row.cost_usd == pytest.approx(400 * 1e-6 + 600 * 0.1e-6 + 2 * 2e-6)


async def test_what_a_broken_stream_delivered_is_counted_and_marked(make_world):
    pieces = tuple(f"word{number} " for number in range(30))
    whole, broken = Script(pieces=pieces, prompt_tokens=40), Script(pieces=pieces, break_after=20)
    world = await make_world({"small": [whole, broken, Script(pieces=pieces, break_after=0)]})
    for _ in range(2):
        await read(await world.gateway.stream(ask("small", text="tell me " * 20, stream=True), PRINCIPAL))
    with pytest.raises(ProviderError):
        await world.gateway.stream(ask("small", stream=True), PRINCIPAL)
    told, left, never = world.recorded()
    assert (told.input_tokens, told.output_tokens, told.calls[0].estimated) == (40, 30, False)
    assert left.calls[0].estimated
    assert left.input_tokens == 40, "as one character of this model's input is so many tokens"
    assert left.output_tokens == pytest.approx(20, abs=1)
    assert left.cost_usd == pytest.approx(told.cost_usd * (40 + 2 * left.output_tokens) / (40 + 2 * 30), rel=0.5)
    assert (never.input_tokens, never.output_tokens, never.cost_usd) == (None, None, None), "nothing is known of it"


async def test_a_cascade_streams_only_what_it_accepted(make_world):
    world = await make_world(
        {
            "small": [
                Script(pieces=("n", "o"), logprobs=(-0.9, -0.9)),
                Script(pieces=("y", "es"), logprobs=(0.0, 0.0)),
            ],
            "large": [Script(pieces=("b", "ig"))],
        }
    )
    world.put_route(cascade(world, 0.5))
    for expected in ("big", "yes"):
        raw = await read(await world.gateway.stream(ask("match", stream=True), PRINCIPAL))
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in events(raw))
        assert text == expected


@pytest.mark.parametrize("failing", [Script(status=503), Script(error_after=0), Script(break_after=0)])
async def test_before_the_first_token_a_stream_falls_back_or_has_a_real_status(make_world, failing):
    world = await make_world({"small": [failing, failing], "large": [Script(pieces=("big",))]})
    world.put_route(
        Route(name="match", steps=(Step(targets=(Target(model="small"),)),), fallbacks=(Target(model="large"),))
    )
    raw = await read(await world.gateway.stream(ask("match", stream=True), PRINCIPAL))
    assert raw[-1] == b"data: [DONE]\n\n"
    with pytest.raises(ProviderError):
        await world.gateway.stream(ask("small", stream=True), PRINCIPAL)


@pytest.mark.parametrize(
    "failing",
    [Script(pieces=("a", "b"), error_after=1), Script(pieces=("a", "b"), break_after=1, between_s=0.01)],
)
async def test_after_the_first_token_a_failure_is_one_terminal_error_event(make_world, failing):
    world = await make_world({"small": [failing], "large": []})
    world.put_route(
        Route(name="match", steps=(Step(targets=(Target(model="small"),)),), fallbacks=(Target(model="large"),))
    )
    raw = await read(await world.gateway.stream(ask("match", stream=True), PRINCIPAL))
    last = events(raw)[-1]
    assert set(last) == {"error"}
    assert b"data: [DONE]\n\n" not in raw
    assert all(event.get("choices", [{}])[0].get("finish_reason") is None for event in events(raw))
    [row] = world.recorded()
    assert row.error is not None
    assert row.output == "a"
    assert row.finish_reason is None
    assert row.calls[0].error is not None


async def test_a_client_that_leaves_closes_the_upstream_and_leaves_a_failed_record(make_world):
    world = await make_world({"small": [Script(pieces=("a",) * 100, between_s=0.02)]})
    result = await world.gateway.stream(ask("small", stream=True), PRINCIPAL)
    assert len([await anext(aiter(result.events)) for _ in range(2)]) == 2
    await result.events.aclose()
    await asyncio.wait_for(world.fakes["small"].disconnected.wait(), 0.5)
    [row] = world.recorded()
    assert row.error is not None
    assert row.error.startswith("client_disconnected")
    assert row.output is not None
    assert set(row.output) == {"a"}


async def test_a_stream_that_is_never_read_is_recorded_as_failed(make_world):
    world = await make_world({"small": [Script(pieces=("a", "b"), between_s=5)]})
    result = await world.gateway.stream(ask("small", stream=True), PRINCIPAL)
    await result.events.aclose()
    [row] = world.recorded()
    assert row.error is not None


async def test_connections_are_kept_and_used_again(make_world):
    world = await make_world({"small": [Script(pieces=("a", "b"))] * 6})
    for _ in range(3):
        await world.gateway.chat(ask("small"), PRINCIPAL)
        await read(await world.gateway.stream(ask("small", stream=True), PRINCIPAL))
    assert len(world.fakes["small"].connections) == 1


async def test_the_router_draws_by_weight_and_records_the_propensity(make_world):
    world = await make_world({"small": [Script()] * 200, "large": [Script()] * 200})
    both = (Target(model="small", weight=1.0), Target(model="large", weight=3.0))
    world.put_route(Route(name="match", steps=(Step(targets=both),)))
    for _ in range(200):
        await world.gateway.chat(ask("match"), PRINCIPAL)
    rows = world.recorded()
    expected = {world.version("small"): 0.25, world.version("large"): 0.75}
    assert all(row.propensity == expected[row.version] for row in rows)
    assert 20 <= sum(row.version == world.version("small") for row in rows) <= 85


async def test_a_slow_first_token_is_a_timeout(make_world):
    world = await make_world({"small": [Script(first_token_s=5)]}, timeouts=Timeouts(first_byte=0.1))
    with pytest.raises(ProviderError, match="in time") as failure:
        await world.gateway.stream(ask("small", stream=True), PRINCIPAL)
    assert failure.value.retryable


async def test_a_stream_that_stalls_is_a_terminal_error(make_world):
    world = await make_world(
        {"small": [Script(pieces=("a", "b"), between_s=5)]}, timeouts=Timeouts(idle=0.1, first_byte=10)
    )
    raw = await read(await world.gateway.stream(ask("small", stream=True), PRINCIPAL))
    assert events(raw)[-1]["error"]["code"] == "timeout"


async def test_a_client_that_reads_slowly_is_no_upstream_that_stalls(make_world):
    world = await make_world(
        {"small": [Script(pieces=("a",) * 5, between_s=0.02)]}, timeouts=Timeouts(idle=0.1, first_byte=0.1)
    )
    result = await world.gateway.stream(ask("small", stream=True), PRINCIPAL)
    raw = b""
    async for event in result.events:
        raw += event
        await asyncio.sleep(0.15)
    assert raw.count(b'"content":"a"') == 5
    assert raw.endswith(b"data: [DONE]\n\n")


async def test_the_key_comes_from_the_environment_that_the_model_names(make_world):
    async with FakeOpenAI([Script()], api_key="s3cret") as fake:
        toml = f'[models.up]\nprovider = "openai"\nprice = "tokens"\nbase_url = "{fake.base_url}"\n'
        toml += 'api_key_env = "UP_KEY"\n'
        world = await make_world(toml=toml)
        with pytest.raises(ConfigError, match="UP_KEY"):
            await world.gateway.chat(ask("up"), PRINCIPAL)
        world = await make_world(toml=toml, environ={"UP_KEY": "s3cret"})
        await world.gateway.chat(ask("up"), PRINCIPAL)
        assert fake.refused == []
    assert "s3cret" not in repr(world.recorded())


async def test_the_fake_refuses_what_it_does_not_expect(make_world):
    world = await make_world({"small": []})
    with pytest.raises(InvalidRequest, match="answered 400"):
        await world.gateway.chat(ask("small"), PRINCIPAL)
    assert world.fakes["small"].refused == ["no script is left for this request"]


async def test_a_server_that_is_not_there_is_retryable(make_world):
    toml = '[models.gone]\nprovider = "openai"\nprice = "tokens"\nbase_url = "http://127.0.0.1:9/v1"\n'
    world = await make_world(toml=toml)
    with pytest.raises(ProviderError) as failure:
        await world.gateway.chat(ask("gone"), PRINCIPAL)
    assert failure.value.retryable


@pytest.mark.parametrize("last", [Step(targets=(Target(model="small"),), threshold=0.5), Step(targets=())])
async def test_a_route_that_may_end_without_an_answer_is_refused(make_world, last):
    world = await make_world({"small": []})
    with pytest.raises(InvalidRequest):
        world.put_route(Route(name="match", steps=(last,)))


async def test_hourly_prices_charge_overlapping_calls_once(make_world):
    scripts = [Script(first_token_s=0.2) for _ in range(4)]
    world = await make_world({"small": scripts})
    path = world.fakes["small"].base_url
    toml = f'[models.hourly]\nprovider = "openai"\nprice = "hours"\nbase_url = "{path}"\n'
    world = await make_world(toml=toml)
    results = await asyncio.gather(*(world.gateway.chat(ask("hourly"), PRINCIPAL) for _ in range(4)))
    total = sum(result.inference.cost_usd for result in results)
    longest = max(result.inference.latency_s for result in results)
    assert 0.19 <= total <= longest * 1.2 + 0.05


SPELLINGS = [
    [{"role": "user", "content": "q"}],
    [{"role": "user", "content": [{"type": "text", "text": "q"}]}],
    [{"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "q"}]}],
    [{"role": "user", "content": [{"type": "text", "text": "q", "cache_control": {"type": "ephemeral"}}]}],
    [{"role": "user", "content": "q", "name": "ann"}],
    [{"role": "user", "content": "q", "name": None, "tool_calls": []}],
]


async def test_one_input_has_one_hash_in_every_spelling(make_world):
    world = await make_world({"small": [Script() for _ in SPELLINGS]})
    for messages in SPELLINGS:
        await world.gateway.chat(ChatRequest(model="small", messages=messages), PRINCIPAL)
    assert len({row.input_sha256 for row in world.recorded()}) == 1


async def test_only_who_may_contribute_gives_an_input_a_split(make_world):
    world = await make_world({"small": [Script()]})
    request = ask("small", bessemer=RequestExtension(split=Split.HOLDOUT))
    app = msgspec.structs.replace(PRINCIPAL, role=Role.APP)
    with pytest.raises(Forbidden, match="contribute"):
        await world.gateway.chat(request, app)
    member = msgspec.structs.replace(PRINCIPAL, role=Role.MEMBER)
    assert (await world.gateway.chat(request, member)).inference.split is Split.HOLDOUT


async def test_metadata_and_user_are_kept_apart(make_world):
    world = await make_world({"small": [Script()]})
    await world.gateway.chat(ask("small", metadata={"user": "theirs", "origin": "x"}, user="u1"), PRINCIPAL)
    [row] = world.recorded()
    assert (row.tags, row.user, row.made_by_bessemer) == ({"user": "theirs", "origin": "x"}, "u1", False)
    assert row.has_tags({"user": "u1"}) and row.has_tags({"user": "theirs"}) and not row.has_tags({"user": "x"})
