"""Tools, pictures and what Bessemer does not read: through the gateway as they came, with the real `openai` client."""

import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageToolCall
from tests.live import Server

from lab.fake_openai import Script

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}
ASKED: list[Any] = [{"role": "user", "content": "Is it warm in Rome and in Oslo?"}]
CALLS = (
    {
        "tool_calls": [
            {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
        ]
    },
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"town":'}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": ' "Rome"}'}}]},
    {
        "tool_calls": [
            {"index": 1, "id": "call_2", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        ]
    },
)
CALLING = Script(pieces=(), says=CALLS, finish_reason="tool_calls")


@pytest.fixture
def client(server: Server) -> OpenAI:
    return server.openai()


def script(server: Server, *scripts: Script) -> None:
    server.upstream.scripts.waiting.extend(scripts)


def sent(server: Server) -> Any:
    return json.loads(server.upstream.fake.bodies[-1])


def kept(client: OpenAI, answer: Any) -> Any:
    return client.get(f"/inferences/{answer.model_extra['bessemer']['inference_id']}", cast_to=object)


def named(calls: Any) -> list[tuple[str, str, str]]:
    assert all(isinstance(call, ChatCompletionMessageToolCall) for call in calls)
    return [(call.id, call.function.name, call.function.arguments) for call in calls]


BOTH = [("call_1", "weather", '{"town": "Rome"}'), ("call_2", "weather", "{}")]


def test_a_model_asks_for_tools_and_reads_their_results(server: Server, client: OpenAI) -> None:
    script(server, CALLING, Script(pieces=("Only in Rome.",)))
    options: Any = {"tools": [WEATHER], "tool_choice": "auto", "parallel_tool_calls": True}
    first = client.chat.completions.create(model="assistant", messages=ASKED, **options)
    message = first.choices[0].message
    assert (first.choices[0].finish_reason, message.content) == ("tool_calls", None)
    assert named(message.tool_calls) == BOTH
    assert sent(server) == {"model": "upstream", "messages": ASKED, **options}, "as the client wrote it"
    row = kept(client, first)
    assert row["output"] is None
    assert [(call["id"], call["name"], call["arguments"]) for call in row["tool_calls"]] == BOTH
    assert row["tools"] == [WEATHER]
    results = [{"role": "tool", "tool_call_id": id, "content": "20 degrees"} for id, _, _ in BOTH]
    history = [*ASKED, message, *results]
    second = client.chat.completions.create(model="assistant", messages=history, **options)
    assert second.choices[0].message.content == "Only in Rome."
    assert [said["role"] for said in sent(server)["messages"]] == ["user", "assistant", "tool", "tool"]
    assert [call["function"]["arguments"] for call in sent(server)["messages"][1]["tool_calls"]] == [
        arguments for _, _, arguments in BOTH
    ]


@pytest.mark.parametrize("odd", ["as OpenAI", "no index", "id repeated", "arguments as an object"])
def test_a_client_that_adds_up_a_stream_has_the_same_calls(server: Server, client: OpenAI, odd: str) -> None:
    says: tuple[Any, ...] = CALLS
    if odd == "no index":
        says = tuple(
            {"tool_calls": [{name: value for name, value in call.items() if name != "index"}]}
            for delta in CALLS
            for call in delta["tool_calls"]
        )
    elif odd == "id repeated":
        ids = {0: "call_1", 1: "call_2"}
        says = tuple(
            {"tool_calls": [call | {"id": ids[call["index"]]} for call in delta["tool_calls"]]} for delta in CALLS
        )
    elif odd == "arguments as an object":
        said = {"name": "weather", "arguments": {}}
        says = (*CALLS[:3], {"tool_calls": [{"index": 1, "id": "call_2", "type": "function", "function": said}]})
    script(server, Script(pieces=(), says=says, finish_reason="tool_calls"))
    with client.chat.completions.stream(model="assistant", messages=ASKED, tools=[WEATHER]) as stream:
        for _ in stream:
            pass
        answer = stream.get_final_completion()
    assert answer.choices[0].finish_reason == "tool_calls"
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == BOTH


def test_a_custom_tool_is_called(server: Server, client: OpenAI) -> None:
    tool: Any = {"type": "custom", "custom": {"name": "shell", "description": "Runs a command."}}
    call = {"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "shell", "input": "ls"}}
    script(server, Script(pieces=(), says=({"tool_calls": [call]},), finish_reason="tool_calls"))
    answer: Any = client.chat.completions.create(model="assistant", messages=ASKED, tools=[tool])
    (made,) = answer.choices[0].message.tool_calls
    assert (made.type, made.custom.name, made.custom.input) == ("custom", "shell", "ls")
    assert sent(server)["tools"] == [tool]


def test_what_is_not_read_here_goes_to_the_upstream_as_it_was_written(server: Server, client: OpenAI) -> None:
    picture: list[Any] = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            ],
        }
    ]
    options: Any = {
        "reasoning_effort": "low",
        "presence_penalty": 0.5,
        "store": False,
        "service_tier": "auto",
        "user": "u-1",
        "metadata": {"team": "a"},
    }
    script(server, Script())
    new: Any = {"of_next_year": {"depth": 3}, "nothing": None}
    client.chat.completions.create(model="assistant", messages=picture, **options, extra_body=new)
    assert sent(server) == {"model": "upstream", "messages": picture, **options, "of_next_year": {"depth": 3}}


def test_what_an_upstream_adds_reaches_the_client(server: Server, client: OpenAI) -> None:
    note = {
        "type": "url_citation",
        "url_citation": {"url": "https://a.example", "title": "A", "start_index": 0, "end_index": 2},
    }
    details = {
        "completion_tokens_details": {"reasoning_tokens": 5},
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    }
    told = Script(pieces=("ok",), says=({"annotations": [note]},), usage_details=details)
    script(server, told, told)
    whole = client.chat.completions.create(model="assistant", messages=ASKED)
    assert whole.choices[0].message.annotations is not None
    assert whole.choices[0].message.annotations[0].url_citation.url == "https://a.example"
    assert whole.usage is not None
    assert whole.usage.completion_tokens_details is not None
    assert whole.usage.completion_tokens_details.reasoning_tokens == 5
    assert whole.usage.prompt_tokens_details is not None
    assert whole.usage.prompt_tokens_details.cached_tokens == 4
    streamed = list(client.chat.completions.create(model="assistant", messages=ASKED, stream=True))
    deltas: list[Any] = [chunk.choices[0].delta for chunk in streamed if chunk.choices]
    assert [delta.annotations for delta in deltas if getattr(delta, "annotations", None)] == [[note]]


@pytest.mark.parametrize("value", [None, [], "default"])
def test_values_that_ask_for_nothing_are_absent(server: Server, client: OpenAI, value: Any) -> None:
    defaults: Any = {
        "tools": [],
        "tool_choice": "none",
        "presence_penalty": 0,
        "n": 1,
        "store": True,
        "modalities": ["text"],
    }
    names = (
        "tools",
        "tool_choice",
        "functions",
        "reasoning_effort",
        "prediction",
        "audio",
        "user",
        "metadata",
        "stop",
        "n",
    )
    body = (
        defaults
        if value == "default"
        else dict.fromkeys(names, value)
        if value is None
        else {"tools": value, "functions": value}
    )
    script(server, Script())
    answer = client.chat.completions.create(model="assistant", messages=ASKED, extra_body=body)
    assert answer.choices[0].message.content == "ok"


def test_a_name_that_is_wrong_inside_a_field_of_ours_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(model="assistant", messages=ASKED, extra_body={"bessemer": {"tag": {}}})
    assert refusal.value.param == "bessemer.tag"


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("reasoning_effort", {"reasoning_effort": "high"}),
        ("presence_penalty", {"presence_penalty": 1}),
        (
            "messages",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
        ),
        ("messages", {"messages": [{"role": "user", "content": "x", "audio": {"id": "a"}}]}),
    ],
)
def test_a_model_names_what_it_cannot_do(client: OpenAI, field: str, more: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.post("/chat/completions", body={"model": "small", "messages": ASKED} | more, cast_to=object)
    assert (refusal.value.param, refusal.value.code) == (field, "unsupported_by_model")


def test_a_cascade_goes_on_to_a_model_that_knows_tools(server: Server, client: OpenAI) -> None:
    versions: Any = client.get("/versions?model=small", cast_to=object)
    version = versions["data"][0]["id"]
    calibration = {"version": version, "score": "mean_logprob", "dataset_sha256": "0" * 64, "x": [-1, 0], "y": [0, 1]}
    steps = [
        {"targets": [{"model": "small"}], "threshold": 0.5, "calibration": calibration},
        {"targets": [{"model": "upstream"}]},
    ]
    route = {"name": "handy", "steps": steps, "force": True, "reason": "a test"}
    client.post("/routes", body=route, cast_to=object)
    script(server, CALLING)
    answer = client.chat.completions.create(model="handy", messages=ASKED, tools=[WEATHER])
    assert named(answer.choices[0].message.tool_calls) == BOTH
