"""What upstreams send that OpenAI would not: served, or a retryable error with its reason, never an internal one."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.conftest import PRINCIPAL, ask, read
from tests.gateway.raw import DONE, SSE, RawUpstream, event, head, whole

from bessemer.core.errors import BessemerError, ConfigError, InvalidRequest, ProviderError, RateLimited
from bessemer.core.models import Model
from bessemer.core.openai_chat import ChatRequest, StreamOptions
from bessemer.core.routes import Route, Step, Target
from bessemer.gateway.providers.answers import AnswerReader
from bessemer.gateway.providers.openai import OpenAISettings
from lab.fake_openai import Script

Answers = Sequence[Sequence[bytes | float]]
HELLO = {"role": "assistant", "content": "Hello"}
MODEL = Model(name="m", provider="openai", settings=OpenAISettings(base_url="http://127.0.0.1:9/v1"))
SECRET = "sk-upstream-SECRET-1234567890"


async def world_of(make_world, upstream: RawUpstream, *, more: str = ""):
    toml = f'[models.raw]\nprovider = "openai"\nbase_url = "{upstream.base_url}"\n{more}'
    world = await make_world({"backup": []}, toml=toml)
    world.fakes["backup"]._scripts = iter(())
    return world


async def chat(make_world, *answers: Sequence[bytes | float], **options: Any):
    async with RawUpstream(answers) as upstream:
        world = await world_of(make_world, upstream)
        return await world.gateway.chat(ask("raw", **options), PRINCIPAL)


async def stream(make_world, *answers: Sequence[bytes | float], more: str = "", **options: Any) -> list[bytes]:
    async with RawUpstream(answers) as upstream:
        world = await world_of(make_world, upstream, more=more)
        result = await world.gateway.stream(ask("raw", stream=True, **options), PRINCIPAL)
        return await read(result)


def said(raw: list[bytes], field: str = "content") -> str:
    events = [json.loads(one.removeprefix(b"data: ")) for one in raw if b"[DONE]" not in one]
    assert not any("error" in one for one in events), events
    return "".join(choice["delta"].get(field) or "" for one in events for choice in one["choices"])


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": [{"type": "text", "text": "He"}, {"type": "text", "text": "llo"}]}, "Hello"),
        ({"content": ["Hello"]}, "Hello"),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"text": "Hello"}]}, "Hello"),
        ({"content": "hi \ud83d\ude00"}, "hi \U0001f600"),
        ({"content": "hi \ud83d"}, "hi \ufffd"),
        ({"content": None}, ""),
    ],
)
async def test_contents_in_odd_shapes_are_text(make_world, message, text) -> None:
    result = await chat(make_world, whole(message))
    assert result.completion.choices[0].message.content == text


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 5.0, "completion_tokens": "3", "total_tokens": 8}, (5, 3)),
        ({"prompt_tokens": None, "completion_tokens": -1}, (None, None)),
        ({"prompt_tokens": 1.5, "completion_tokens": True}, (None, None)),
        ({"prompt_tokens": [], "completion_tokens": "many"}, (None, None)),
        ("8 tokens", (None, None)),
        (None, (None, None)),
    ],
)
async def test_counts_in_odd_shapes_are_numbers_or_unknown(make_world, usage, counts) -> None:
    result = await chat(make_world, whole(HELLO, usage=usage))
    call, told = result.inference.calls[0], result.completion.usage
    assert call.estimated is (counts == (None, None)), "what nobody tells is estimated in the record"
    assert (None, None) if told is None else (told.prompt_tokens, told.completion_tokens) == counts
    assert call.estimated or (result.inference.input_tokens, result.inference.output_tokens) == counts
    assert result.completion.choices[0].message.content == "Hello"


@pytest.mark.parametrize("logprob", [None, "abc", "-0.5", {}, True, 10**400])
async def test_a_log_probability_without_a_number_is_unknown(make_world, logprob) -> None:
    entries = {"content": [{"token": "Hello", "logprob": logprob, "top_logprobs": None}, "odd"]}
    result = await chat(make_world, whole(HELLO, choice={"logprobs": entries}), logprobs=True)
    assert result.completion.choices[0].message.content == "Hello"
    kept = [token.logprob for token in result.inference.calls[0].token_logprobs]
    assert kept == ([-0.5] if logprob == "-0.5" else [])


async def test_refusal_and_reasoning_are_kept_whole_streamed_and_in_the_record(make_world) -> None:
    result = await chat(make_world, whole({"content": None, "refusal": "I cannot."}))
    assert (result.completion.choices[0].message.content, result.inference.output) == (None, None)
    assert result.completion.choices[0].message.refusal == result.inference.refusal == "I cannot."
    for name in ("reasoning_content", "reasoning"):
        result = await chat(make_world, whole({"content": "42", name: "because"}))
        assert result.completion.choices[0].message.reasoning_content == "because"
        assert (result.inference.output, result.inference.reasoning) == ("42", "because")
        assert result.inference.calls[0].reasoning == "because"
        raw = await stream(
            make_world, [SSE, event({name: "be"}), event({name: "cause"}), event({"content": "42"}, "stop"), DONE]
        )
        assert (said(raw), said(raw, "reasoning_content")) == ("42", "because")
    raw = await stream(make_world, [SSE, event({"refusal": "I can"}), event({"refusal": "not."}, "stop"), DONE])
    assert (said(raw), said(raw, "refusal")) == ("", "I cannot.")


async def test_an_answer_with_reasoning_or_refusal_goes_back_into_the_conversation(make_world) -> None:
    world = await make_world({"small": [Script()]})
    request = ChatRequest(
        model="small",
        messages=[
            {"role": "user", "content": "Is it?"},
            {"role": "assistant", "content": "Yes.", "reasoning_content": "hm", "refusal": None},
            {"role": "assistant", "content": None, "refusal": "I cannot say."},
            {"role": "user", "content": "Why?"},
        ],
    )
    await world.gateway.chat(request, PRINCIPAL)
    sent = json.loads(world.fakes["small"].bodies[0])["messages"]
    assert [message["content"] for message in sent] == ["Is it?", "Yes.", "I cannot say.", "Why?"]
    assert all(set(message) == {"role", "content"} for message in sent)


async def test_reasoning_is_passed_on_before_the_answer_begins(make_world) -> None:
    answer = [SSE, event({"reasoning": "hm"}), 30.0]
    async with RawUpstream([answer]) as upstream:
        world = await world_of(make_world, upstream)
        result = await world.gateway.stream(ask("raw", stream=True), PRINCIPAL)
        assert b'"reasoning_content":"hm"' in await anext(aiter(result.events))
        await result.events.aclose()


STREAMS = {
    "JSON where events were asked for": [head(), json.dumps({"choices": [{"message": HELLO}]}).encode()],
    "with keep-alive spaces before it": [head(), b"\n \n", json.dumps({"choices": [{"message": HELLO}]}).encode()],
    "a BOM": [SSE, b"\xef", b"\xbb\xbf" + event({"content": "Hel"}), event({"content": "lo"}, "stop"), DONE],
    "lone CR": [SSE, event({"content": "Hello"}, end=b"\r\r"), event({}, "stop", b"\r\r"), b"data: [DONE]\r\r"],
    "CRLF": [SSE, event({"content": "Hello"}, end=b"\r\n\r\n"), event({}, "stop", b"\r\n\r\n"), DONE],
    "comments and other fields": [SSE, b": wait\n\nevent: message\nid: 3\n", event({"content": "Hello"}, "stop"), DONE],
    "null choices": [SSE, event({"content": "Hello"}, "stop"), b'data: {"choices":null,"usage":{}}\n\n', DONE],
    "no [DONE]": [SSE, event({"content": "Hello"}, "stop")],
    "no finish reason": [SSE, event({"content": "Hello"}), DONE],
    "an empty finish reason": [SSE, event({"content": "Hello"}, ""), event({}, "stop"), DONE],
    "another choice": [
        SSE,
        b'data: {"choices":[{"index":1,"delta":{"content":"No"}}]}\n\n',
        event({"content": "Hello"}, "stop"),
        DONE,
    ],
    "a list of parts": [SSE, event({"content": [{"type": "text", "text": "Hello"}]}, "stop"), DONE],
}


@pytest.mark.parametrize("answer", STREAMS.values(), ids=STREAMS)
async def test_streams_in_odd_shapes_are_served(make_world, answer) -> None:
    assert said(await stream(make_world, answer)) == "Hello"


async def test_halves_of_a_character_are_joined(make_world) -> None:
    cut = rb'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}' + b"\n\n"
    raw = await stream(make_world, [SSE, cut % rb"hi \ud83d", cut % rb"\ude00", event({}, "stop"), DONE])
    assert said(raw) == "hi \U0001f600"


async def test_events_where_json_was_asked_for_are_one_answer(make_world) -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n'
    result = await chat(
        make_world, [SSE, event({"content": "Hel"}), event({"content": "lo"}), event({}, "length"), usage, DONE]
    )
    assert (result.completion.choices[0].message.content, result.inference.finish_reason) == ("Hello", "length")
    assert (result.inference.input_tokens, result.inference.output_tokens) == (5, 2)


async def test_a_usage_chunk_without_usage_is_not_sent(make_world) -> None:
    options = {"stream_options": StreamOptions(include_usage=True)}
    raw = await stream(make_world, [SSE, event({"content": "Hello"}, "stop"), DONE], **options)
    assert all(json.loads(one[6:])["choices"] for one in raw if b"[DONE]" not in one)


BROKEN = {
    "HTML": [head("502 Bad Gateway", "text/html"), b"<html><body>nginx at 10.0.0.7:8000</body></html>"],
    "HTML with 200": [head(kind="text/html"), b"<html><body>nginx at 10.0.0.7:8000</body></html>"],
    "a redirect": [head("307 Temporary Redirect", "text/plain", "Location: http://10.0.0.7:8000/")],
    "no content": [b"HTTP/1.1 204 No Content\r\n\r\n"],
    "a refused key": [head("401 Unauthorized"), json.dumps({"error": {"message": f"Bad: {SECRET}"}}).encode()],
    "no such model": [head("404 Not Found"), b'{"error": null}'],
    "an error of its own": [head("500 Oops"), b'{"error": "at 10.0.0.7:8000", "detail": [{"loc": [1]}]}'],
    "an error with 200": [head(), json.dumps({"error": {"message": f"at 10.0.0.7:8000 {SECRET}"}}).encode()],
    "deep JSON": [head(), b"[" * 20_000],
    "deep JSON inside": [head(), b'{"choices":' + b"[" * 20_000 + b"]" * 20_000 + b"}"],
    "a list": [head(), b"[]"],
    "null": [head(), b"null"],
    "no choices": [head(), b'{"choices": null}'],
    "a choice that is none": [head(), b'{"choices": [7]}'],
    "no message": [head(), b'{"choices": [{"index": 0, "message": null}]}'],
    "an image": whole({"content": [{"type": "image_url", "image_url": {"url": "x"}}]}),
    "half a body": [head("200 OK", "application/json", "Content-Length: 900"), b'{"choices": [{"index"'],
    "nothing": [b""],
    "no HTTP": [b"220 smtp.example.org ESMTP\r\n"],
    "gzip that is none": [head("200 OK", "application/json", "Content-Encoding: gzip"), b"not gzip"],
    "no UTF-8": [head(), b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'],
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
async def test_what_holds_no_answer_is_a_reason_and_the_fallback_is_asked(make_world, answer, streamed) -> None:
    async with RawUpstream([answer]) as upstream:
        world = await world_of(make_world, upstream)
        with pytest.raises(ProviderError) as failure:
            if streamed:
                await world.gateway.stream(ask("raw", stream=True), PRINCIPAL)
            else:
                await world.gateway.chat(ask("raw"), PRINCIPAL)
        assert failure.value.retryable
        [row] = world.recorded()
        seen = f"{failure.value.message} {failure.value.error_code} {row.error} {row.calls[0].error}"
        for foreign in ("10.0.0.7", "<html", SECRET, "None", "127.0.0.1"):
            assert foreign not in seen
        assert SECRET not in str(row.calls[0].error_detail)


async def test_a_fallback_answers_for_what_cannot_be_read(make_world) -> None:
    async with RawUpstream([BROKEN["deep JSON inside"]]) as upstream, RawUpstream([whole(HELLO)]) as good:
        world = await world_of(
            make_world, upstream, more=f'[models.good]\nprovider = "openai"\nbase_url = "{good.base_url}"\n'
        )
        world.put_route(
            Route(name="r", steps=(Step(targets=(Target(model="raw"),)),), fallbacks=(Target(model="good"),))
        )
        result = await world.gateway.chat(ask("r"), PRINCIPAL)
        assert result.completion.choices[0].message.content == "Hello"


@pytest.mark.parametrize(
    ("status", "body", "says", "kind"),
    [
        ("422 X", {"detail": [{"loc": ["body", "messages"], "msg": SECRET, "type": "missing"}]}, "messages", None),
        ("422 X", {"detail": "no"}, "refuses the request's content", None),
        (
            "400 X",
            {"error": {"message": "too long", "code": "context_length_exceeded"}},
            "longer than its context",
            None,
        ),
        ("400 X", {"error": {"code": SECRET, "param": "10.0.0.7:8000"}}, "refuses the request", None),
        ("413 X", None, "too large", None),
        ("404 X", None, "base_url mostly ends in /v1", ProviderError),
        ("429 X", {"error": {"code": "insufficient_quota"}}, "no quota left", RateLimited),
    ],
)
async def test_a_refused_request_says_why_in_words_of_ours(make_world, status, body, says, kind) -> None:
    with pytest.raises(kind or InvalidRequest, match=says) as refusal:
        await chat(make_world, [head(status), json.dumps(body).encode()])
    for foreign in (SECRET, "10.0.0.7", "None"):
        assert foreign not in str(refusal.value.message)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("37", 37), ("0.2", 1), ("9" * 12, 86400), ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("soon", None)],
)
async def test_retry_after_is_kept_in_seconds(make_world, given, seconds) -> None:
    for status in ("429 Too Many Requests", "503 Unavailable"):
        with pytest.raises(BessemerError) as failure:
            await chat(make_world, [head(status, "application/json", f"Retry-After: {given}"), b"{}"])
        assert failure.value.retry_after == seconds


async def test_comments_count_as_life_and_silence_does_not(make_world) -> None:
    more = "timeouts = { idle = 0.4, first_byte = 0.4 }\n"
    wait = [part for _ in range(8) for part in (b": wait\n\n", 0.1)]
    alive = [SSE, *wait, event({"content": "Hel"}), *wait, event({"content": "lo"}, "stop"), DONE]
    assert said(await stream(make_world, alive, more=more)) == "Hello"
    with pytest.raises(ProviderError, match="in time"):
        await stream(make_world, [SSE, 5.0], more=more)
    total = "timeouts = { total = 0.5 }\n"
    with pytest.raises(ProviderError, match="in time"):
        await stream(make_world, [SSE, *wait, event({"content": "Hello"}, "stop")], more=total)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_no_value_in_any_field_breaks_the_reader(data) -> None:
    def maybe(value: Any) -> Any:
        return data.draw(JSON_VALUES) if data.draw(st.integers(0, 3)) == 0 else value

    entry = {"token": maybe("a"), "logprob": maybe(-0.1), "top_logprobs": maybe([])}
    message = {"role": "assistant", "content": maybe("a"), "reasoning": maybe("b"), "refusal": maybe(None)}
    choice = {
        "index": maybe(0),
        "message": maybe(message),
        "delta": maybe(message),
        "finish_reason": maybe("stop"),
        "logprobs": maybe({"content": maybe([maybe(entry)])}),
    }
    usage = {"prompt_tokens": maybe(1), "completion_tokens": maybe(1), "prompt_tokens_details": maybe({})}
    body = json.dumps({"choices": maybe([maybe(choice)]), "usage": maybe(usage), "error": maybe(None)}).encode()
    reader = AnswerReader(MODEL)
    for reading in (reader.whole, reader.chunk):
        try:
            chunk = reading(body)
        except ProviderError as error:
            assert error.retryable
        else:
            chunk.text.encode()


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reader(body) -> None:
    reader = AnswerReader(MODEL)
    for reading in (reader.whole, reader.chunk):
        try:
            reading(body)
        except ProviderError as error:
            assert error.retryable


@pytest.mark.parametrize("key", ["sk-made-up\r", "sk-made-up\n", " sk-made-up ", "\tsk-made-up\r\n"])
def test_space_around_a_key_is_trimmed(key) -> None:
    settings = OpenAISettings(base_url="http://127.0.0.1:9/v1", api_key_env="UP")
    assert settings.api_key("models.m", {"UP": key}) == "sk-made-up"


@pytest.mark.parametrize(
    "key", ["", "  ", '"sk-made-up"', "'sk-made-up'", "sk-ma\u2013de", "sk-a\nsk-b", "sk a", "a\0b"]
)
def test_a_key_that_cannot_be_one_is_refused_by_its_variables_name(key) -> None:
    settings = OpenAISettings(base_url="http://127.0.0.1:9/v1", api_key_env="UP")
    with pytest.raises(ConfigError, match=r"models\.m.*'UP'") as refusal:
        settings.api_key("models.m", {"UP": key})
    assert not key.strip() or key not in refusal.value.message
