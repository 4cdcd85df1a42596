"""OpenAI's Responses with the real `openai` client: whole, streamed, parsed, with tools, thoughts and refusals."""

import json
from typing import Any

import openai
import pydantic
import pytest
from openai import OpenAI
from tests.asking import ask
from tests.http.test_tools import CALLING, CALLS
from tests.live import Server

from bessemer.client import Client, calls
from lab.fake_openai import Script

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a town.",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    "strict": True,
}
THINKING = Script(
    pieces=(), says=({"reasoning_content": "Let me "}, {"reasoning_content": "see."}, {"content": "It is."})
)
REFUSING = Script(pieces=(), says=({"refusal": "I may "}, {"refusal": "not."}))


@pytest.fixture
def client(server: Server) -> OpenAI:
    return server.openai()


def script(server: Server, *scripts: Script) -> None:
    server.upstream.scripts.waiting.extend(scripts)


def sent(server: Server) -> Any:
    return json.loads(server.upstream.fake.bodies[-1])


def kept(client: OpenAI, response: Any) -> Any:
    return client.get(f"/inferences/{response.model_extra['bessemer']['inference_id']}", cast_to=object)


def plainly(response: Any) -> Any:
    """Return a response's output without ids, which differ from request to request."""
    items = [item.model_dump(mode="json", exclude_none=True) for item in response.output]
    return [{name: value for name, value in item.items() if name not in ("id", "parsed_arguments")} for item in items]


def test_a_text_is_asked_and_answered(server: Server, client: OpenAI) -> None:
    response = client.responses.create(
        model="assistant", input="Hi", instructions="Be brief.", temperature=0.5, max_output_tokens=9, store=False
    )
    assert (response.output_text, response.status, response.model) == ("ok", "completed", "assistant")
    assert response.id.startswith("resp_")
    assert (response.usage.input_tokens, response.usage.total_tokens) == (10, 11)  # type: ignore[union-attr]
    assert sent(server) == {
        "model": "upstream",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "max_completion_tokens": 9,
        "temperature": 0.5,
    }
    assert kept(client, response)["output"] == "ok"


def test_what_an_upstream_of_chat_knows_is_sent_in_its_words(server: Server, client: OpenAI) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}
    file = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}
    said: Any = [{"role": "user", "content": [{"type": "input_text", "text": "What is it?"}, image, file]}]
    client.responses.create(
        model="assistant",
        input=said,
        reasoning={"effort": "low"},
        text={"verbosity": "low"},
        user="u-1",
        metadata={"a": "b"},
        service_tier="flex",
        prompt_cache_key="k",
    )
    body = sent(server)
    assert [part["type"] for part in body["messages"][0]["content"]] == ["text", "image_url", "file"]
    assert body["messages"][0]["content"][1]["image_url"] == {"url": "data:image/png;base64,AAAA", "detail": "low"}
    more = {name: body[name] for name in ("reasoning_effort", "verbosity", "user", "metadata", "service_tier")}
    assert more == {
        "reasoning_effort": "low",
        "verbosity": "low",
        "user": "u-1",
        "metadata": {"a": "b"},
        "service_tier": "flex",
    }


@pytest.mark.parametrize(
    "answer",
    [
        Script(pieces=("on", "ly ", "words")),
        THINKING,
        REFUSING,
        CALLING,
        Script(pieces=()),
        Script(finish_reason="length"),
    ],
    ids=["words", "thoughts", "refusal", "calls", "nothing", "cut"],
)
def test_a_stream_adds_up_to_the_whole(server: Server, client: OpenAI, answer: Script) -> None:
    script(server, answer, answer)
    asked: Any = {"model": "assistant", "input": "Is it?", "tools": [WEATHER]}
    whole = client.responses.create(**asked)
    kinds, numbers = [], []
    with client.responses.stream(**asked) as stream:
        for event in stream:
            kinds.append(event.type)
            numbers.append(event.sequence_number)
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == f"response.{whole.status}"
    assert numbers == list(range(len(numbers)))
    for begun, ended in (
        ("response.output_item.added", "response.output_item.done"),
        ("response.content_part.added", "response.content_part.done"),
    ):
        assert kinds.count(begun) == kinds.count(ended)
    if whole.status == "completed":
        final = stream.get_final_response()
        assert plainly(final) == plainly(whole)
        assert final.usage == whole.usage


def test_the_events_of_a_stream_say_what_its_last_one_says(server: Server, client: OpenAI) -> None:
    script(server, Script(pieces=(), says=(*THINKING.says, *CALLS), finish_reason="tool_calls"))
    said: dict[str, str] = {}
    items: dict[int, Any] = {}
    final: Any = None
    for event in client.responses.create(model="assistant", input="Hi", tools=[WEATHER], stream=True):
        if event.type.endswith(".delta"):
            key = event.item_id  # type: ignore[union-attr]
            said[key] = said.get(key, "") + event.delta  # type: ignore[union-attr]
        elif event.type == "response.output_item.done":
            items[event.output_index] = event.item
        elif event.type == "response.completed":
            final = event.response
    assert [items[place] for place in sorted(items)] == final.output
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call", "function_call"]
    told = [item.content[0].text if hasattr(item, "content") else item.arguments for item in final.output]
    assert [said[item.id] for item in final.output] == told == ["Let me see.", "It is.", '{"town": "Rome"}', "{}"]


def test_tools_are_called_and_their_outputs_read(server: Server, client: OpenAI) -> None:
    script(server, CALLING)
    items: list[Any] = [{"role": "user", "content": "Is it warm in Rome and in Oslo?"}]
    first = client.responses.create(model="assistant", input=items, tools=[WEATHER], tool_choice="required")
    assert sent(server)["tools"] == [
        {"type": "function", "function": {k: v for k, v in WEATHER.items() if k != "type"}}
    ]
    assert sent(server)["tool_choice"] == "required"
    called = [item for item in first.output if item.type == "function_call"]
    assert [(item.call_id, item.name, item.arguments) for item in called] == [
        ("call_1", "weather", '{"town": "Rome"}'),
        ("call_2", "weather", "{}"),
    ]
    items += first.output
    items += [{"type": "function_call_output", "call_id": item.call_id, "output": "20 degrees"} for item in called]
    second = client.responses.create(model="assistant", input=items, tools=[WEATHER])
    assert second.output_text == "ok"
    assert [message["role"] for message in sent(server)["messages"]] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in sent(server)["messages"][1]["tool_calls"]] == ["call_1", "call_2"]
    assert [call["id"] for call in kept(client, first)["tool_calls"]] == ["call_1", "call_2"]


def test_an_answer_is_parsed(server: Server, client: OpenAI) -> None:
    class Town(pydantic.BaseModel):
        name: str

    script(server, Script(pieces=('{"name": "Rome"}',)))
    response = client.responses.parse(model="assistant", input="Which?", text_format=Town)
    assert response.output_parsed == Town(name="Rome")
    assert sent(server)["response_format"]["json_schema"]["name"] == "Town"
    assert sent(server)["response_format"]["json_schema"]["strict"] is True


def test_the_log_probabilities_are_told_where_they_are_asked_for(server: Server, client: OpenAI) -> None:
    script(server, Script(pieces=("a", "b"), logprobs=(-0.1, -0.2)))
    response = client.responses.create(model="assistant", input="Hi", include=["message.output_text.logprobs"])
    part: Any = response.output[0].content[0]  # type: ignore[union-attr]
    assert [(one.token, one.logprob) for one in part.logprobs] == [("a", -0.1), ("b", -0.2)]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "nobody", "content": "a"}]}, "input"),
        ({"input": []}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"temperature": 3}, "temperature"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
    ],
)
def test_what_cannot_be_is_refused_by_name(server: Server, more: dict[str, Any], param: str) -> None:
    body = json.dumps({"model": "assistant", "input": "a"} | more).encode()
    status, answer, _ = ask(server, "POST", "/v1/responses", server.key, body)
    assert (status, answer["error"]["param"]) == (400, param), answer


def test_errors_have_their_status_before_the_first_event_and_end_the_stream_after_it(
    server: Server, client: OpenAI
) -> None:
    script(server, Script(status=429))
    with pytest.raises(openai.RateLimitError):
        client.responses.create(model="assistant", input="a", stream=True)
    script(server, Script(pieces=("a", "b"), error_after=1))
    events = list(client.responses.create(model="assistant", input="a", stream=True))
    assert events[-1].type == "response.failed"
    assert events[-1].response.error is not None  # type: ignore[union-attr]
    assert "response.completed" not in [event.type for event in events]


def test_our_own_client_asks_too(server: Server) -> None:
    own = Client(server.url, server.key)
    whole = own.send(calls.respond({"model": "assistant", "input": "a"}))
    assert whole.output[0]["content"][0]["text"] == "ok"
    with own.stream(calls.stream_response({"model": "assistant", "input": "a"})) as events:
        assert [event["type"] for event in events][-1] == "response.completed"
