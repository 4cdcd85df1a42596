"""Tools on the built-in engine, whose tiny random model calls whatever the grammar lets it."""

import json

import pytest
from tests.gateway.conftest import PRINCIPAL, ask, read
from tests.gateway.test_local import Local, tiny_path

from bessemer.core.conversation import Message, Tool, ToolCall, ToolChoice
from bessemer.core.errors import InvalidRequest
from bessemer.gateway.providers.spoken_tools import called, told

__all__ = ["tiny_path"]


@pytest.fixture
async def local(tmp_path, sqlite_database, tiny_path):
    made = Local(tmp_path, sqlite_database, tiny_path, context=2048)
    yield made
    await made.close()


SCHEMA = {
    "type": "object",
    "properties": {"town": {"enum": ["Rome", "Oslo"]}, "days": {"enum": [1, 2]}},
    "required": ["town", "days"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
CLOCK = {"type": "function", "function": {"name": "clock"}}


def is_weather(arguments) -> bool:
    return set(arguments) == {"town", "days"} and arguments["town"] in {"Rome", "Oslo"} and arguments["days"] in {1, 2}


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"weather", "clock"}),
        ({"type": "function", "function": {"name": "weather"}}, {"weather"}),
        ({"type": "function", "function": {"name": "clock"}}, {"clock"}),
    ],
)
async def test_a_demanded_call_satisfies_its_schema(local: Local, choice, names) -> None:
    for seed in range(3):
        asked = ask("tiny", tools=[WEATHER, CLOCK], tool_choice=choice, max_tokens=100, seed=seed, temperature=1.0)
        result = await local.gateway.chat(asked, PRINCIPAL)
        (answer,) = result.completion.choices
        assert (answer.finish_reason, answer.message.content) == ("tool_calls", None)
        (call,) = answer.message.tool_calls
        assert call["id"].startswith("call_")
        assert call["function"]["name"] in names
        arguments = json.loads(call["function"]["arguments"])
        assert is_weather(arguments) if call["function"]["name"] == "weather" else arguments == {}
        assert result.inference.tool_calls[0].name == call["function"]["name"]


async def test_a_streamed_call_is_the_same(local: Local) -> None:
    asked = ask("tiny", tools=[WEATHER], tool_choice="required", max_tokens=100, stream=True)
    events = [
        json.loads(event.removeprefix(b"data: "))
        for raw in (await read(await local.gateway.stream(asked, PRINCIPAL)))
        for event in raw.split(b"\n\n")
        if event and event != b"data: [DONE]"
    ]
    calls = [call for event in events for call in event["choices"][0]["delta"].get("tool_calls", ())]
    assert [(call["index"], call["function"]["name"]) for call in calls] == [(0, "weather")]
    assert is_weather(json.loads(calls[0]["function"]["arguments"]))
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_call_that_is_cut_short_says_so(local: Local) -> None:
    asked = ask("tiny", tools=[WEATHER], tool_choice="required", max_tokens=30)
    (answer,) = (await local.gateway.chat(asked, PRINCIPAL)).completion.choices
    assert answer.finish_reason == "length"


@pytest.mark.parametrize("choice", ["auto", "none", None])
async def test_words_may_be_the_answer(local: Local, choice) -> None:
    for seed in range(4):
        asked = ask("tiny", tools=[WEATHER], tool_choice=choice, seed=seed, max_tokens=40)
        (answer,) = (await local.gateway.chat(asked, PRINCIPAL)).completion.choices
        called = answer.message.tool_calls
        assert (answer.message.content is None) == bool(called)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "clock"}}}, "tool_choice"),
        ({"tools": [{"type": "custom", "custom": {"name": "shell"}}]}, "tools[0]"),
        ({"tools": [WEATHER], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "oops"}}}]}, "tools"),
    ],
)
async def test_what_cannot_be_called_is_refused_by_name(local: Local, more, param) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await local.gateway.chat(ask("tiny", **more), PRINCIPAL)
    assert refusal.value.param == param


def test_calls_and_results_of_before_are_told_as_text() -> None:
    calls = (ToolCall(id="c", name="weather", arguments='{"town":"Rome"}'),)
    history = [
        Message(role="system", content="Be short."),
        Message(role="user", content="Warm?"),
        Message(role="assistant", content=None, tool_calls=calls),
        Message(role="tool", content="20 degrees", tool_call_id="c"),
    ]
    spoken = told(history, [Tool(name="weather", parameters=SCHEMA)], ToolChoice())
    assert [message.role for message in spoken] == ["system", "user", "assistant", "user"]
    assert spoken[0].text.startswith("Be short.")
    assert '"name": "weather"' in spoken[0].text
    assert spoken[2].text == '<tool_call>{"name": "weather", "arguments": {"town":"Rome"}}</tool_call>'
    assert spoken[3].text == "<tool_response>20 degrees</tool_response>"
    read_back = called(spoken[2].text)
    assert read_back is not None
    assert (read_back.name, read_back.arguments) == ("weather", '{"town":"Rome"}')


@pytest.mark.parametrize("text", ["", "Yes.", "{", '{"name": "x"}', "<tool_call>", "<b>no</b>"])
def test_words_are_no_call(text: str) -> None:
    assert called(text) is None
