"""Anthropic's Messages with the real `anthropic` client: whole, streamed, with tools, pictures, thoughts, refusals."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic
from tests.asking import ask
from tests.http.test_responses import REFUSING, THINKING
from tests.http.test_tools import CALLING, CALLS
from tests.live import Server

from bessemer.client import Client, calls
from lab.fake_openai import Script

WEATHER: Any = {
    "name": "weather",
    "description": "The weather in a town.",
    "input_schema": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
}
SAID: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def client(server: Server) -> Iterator[Anthropic]:
    with Anthropic(base_url=server.url, api_key=server.key, max_retries=0) as made:
        yield made


def script(server: Server, *scripts: Script) -> None:
    server.upstream.scripts.waiting.extend(scripts)


def sent(server: Server) -> Any:
    return json.loads(server.upstream.fake.bodies[-1])


def kept(server: Server, message: Any) -> Any:
    name = message.model_extra["bessemer"]["inference_id"]
    return ask(server, "GET", f"/v1/inferences/{name}", server.key)[1]


def plainly(message: Any) -> Any:
    return [block.model_dump(mode="json", exclude_none=True) for block in message.content]


def test_a_text_is_asked_and_answered(server: Server, client: Anthropic) -> None:
    message = client.messages.create(
        model="assistant",
        max_tokens=9,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=SAID,
        extra_body={"temperature": 0.5},
        stop_sequences=["END"],
        metadata={"user_id": "u-1"},
        thinking={"type": "disabled"},
    )
    assert (plainly(message), message.stop_reason, message.model) == (
        [{"type": "text", "text": "ok"}],
        "end_turn",
        "assistant",
    )
    assert (message.usage.input_tokens, message.usage.output_tokens) == (10, 1)
    assert sent(server) == {
        "model": "upstream",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "max_completion_tokens": 9,
        "temperature": 0.5,
        "stop": ["END"],
        "user": "u-1",
    }
    assert kept(server, message)["output"] == "ok"


def test_pictures_and_documents_go_to_an_upstream_that_reads_them(server: Server, client: Anthropic) -> None:
    blocks: Any = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {
            "type": "document",
            "title": "a.pdf",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "AA"},
        },
        {"type": "text", "text": "What is it?"},
    ]
    client.messages.create(model="assistant", max_tokens=9, messages=[{"role": "user", "content": blocks}])
    assert sent(server)["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"}},
        {"type": "text", "text": "What is it?"},
    ]


@pytest.mark.parametrize(
    "answer",
    [
        Script(pieces=("on", "ly ", "words"), cached_tokens=4),
        THINKING,
        REFUSING,
        CALLING,
        Script(finish_reason="length"),
        Script(pieces=(), says=(*THINKING.says, *CALLS), finish_reason="tool_calls"),
    ],
    ids=["words", "thoughts", "refusal", "calls", "cut", "all"],
)
def test_a_stream_adds_up_to_the_whole(server: Server, client: Anthropic, answer: Script) -> None:
    script(server, answer, answer)
    asked: Any = {"model": "assistant", "max_tokens": 99, "messages": SAID, "tools": [WEATHER]}
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert plainly(final) == plainly(whole)
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)
    assert (final.usage.input_tokens, final.usage.cache_read_input_tokens) == (
        whole.usage.input_tokens,
        whole.usage.cache_read_input_tokens,
    )
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == len(whole.content)


def test_tools_are_called_and_their_results_read(server: Server, client: Anthropic) -> None:
    script(server, CALLING)
    asked: Any = {"model": "assistant", "max_tokens": 99, "tools": [WEATHER]}
    first = client.messages.create(
        **asked, messages=SAID, tool_choice={"type": "any", "disable_parallel_tool_use": True}
    )
    function = {"name": "weather", "description": WEATHER["description"], "parameters": WEATHER["input_schema"]}
    body = sent(server)
    assert (body["tools"], body["tool_choice"]) == ([{"type": "function", "function": function}], "required")
    assert body["parallel_tool_calls"] is False
    assert first.stop_reason == "tool_use"
    uses = [block for block in first.content if block.type == "tool_use"]
    assert [(one.id, one.name, one.input) for one in uses] == [
        ("call_1", "weather", {"town": "Rome"}),
        ("call_2", "weather", {}),
    ]
    results: Any = [
        {"type": "tool_result", "tool_use_id": one.id, "content": [{"type": "text", "text": "20"}]} for one in uses
    ]
    said = [*SAID, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    second = client.messages.create(**asked, messages=said)
    assert plainly(second) == [{"type": "text", "text": "ok"}]
    messages = sent(server)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert json.loads(messages[1]["tool_calls"][0]["function"]["arguments"]) == {"town": "Rome"}
    assert (messages[3]["tool_call_id"], messages[3]["content"]) == ("call_2", "20")
    assert [call["id"] for call in kept(server, first)["tool_calls"]] == ["call_1", "call_2"]
    with client.messages.stream(**asked, messages=SAID, tool_choice={"type": "tool", "name": "weather"}) as stream:
        stream.until_done()
    assert sent(server)["tool_choice"] == {"type": "function", "function": {"name": "weather"}}


def test_an_answer_has_the_form_of_a_schema(server: Server) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    body = {"model": "assistant", "max_tokens": 9, "messages": SAID}
    output = {"format": {"type": "json_schema", "schema": schema}}
    status, _, _ = ask(
        server, "POST", "/v1/messages", server.key, json.dumps(body | {"output_config": output}).encode()
    )
    assert (status, sent(server)["response_format"]["json_schema"]["schema"]) == (200, schema)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0]"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"temperature": 3}, "temperature"),
        ({"metadata": {"user_id": 1}}, "metadata.user_id"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
    ],
)
def test_what_cannot_be_is_refused_by_name(server: Server, more: dict[str, Any], param: str) -> None:
    body = json.dumps({"model": "assistant", "max_tokens": 9, "messages": SAID} | more).encode()
    status, answer, _ = ask(server, "POST", "/v1/messages", server.key, body)
    assert (status, answer["error"]["param"]) == (400, param), answer
    assert (answer["type"], answer["error"]["type"]) == ("error", "invalid_request_error")


def test_errors_are_the_clients_own(server: Server, client: Anthropic) -> None:
    asked: Any = {"model": "assistant", "max_tokens": 9, "messages": SAID}
    with Anthropic(base_url=server.url, api_key="bsm-wrong", max_retries=0) as stranger:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            stranger.messages.create(**asked)
        assert refused.value.body["error"]["type"] == "authentication_error"  # type: ignore[index]
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**asked | {"model": "nothing"})
    script(server, Script(status=429))
    with pytest.raises(anthropic.RateLimitError):
        client.messages.create(**asked, stream=True)
    script(server, Script(pieces=("a", "b"), error_after=1))
    kinds: list[str] = []
    with pytest.raises(anthropic.APIStatusError):
        kinds.extend(event.type for event in client.messages.create(**asked, stream=True))
    assert "message_stop" not in kinds


def test_our_own_client_asks_too(server: Server) -> None:
    own, asked = Client(server.url, server.key), {"model": "assistant", "max_tokens": 9, "messages": SAID}
    assert own.send(calls.message(asked)).content == [{"type": "text", "text": "ok"}]
    with own.stream(calls.stream_message(asked)) as events:
        assert [event["type"] for event in events][-1] == "message_stop"
