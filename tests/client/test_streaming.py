"""Streamed answers: typed events, errors inside them, and an end of the work when the reader leaves."""

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from tests.client.test_client import KEY, playing, refusal
from tests.live import Server

from bessemer.client import AsyncClient, Client, Streamed, Unreachable, calls
from bessemer.core.errors import BessemerError, InvalidRequest, NotFound, ProviderError, RateLimited
from bessemer.core.openai_chat import ChatCompletionChunk, ChatRequest, StreamOptions
from lab.fake_openai import Script

Asked = Streamed[ChatCompletionChunk]
BOTH = pytest.mark.parametrize("asynchronous", [False, True], ids=["blocking", "concurrent"])


def asked(**more: Any) -> Asked:
    return calls.stream_chat(ChatRequest(model="assistant", messages=[{"role": "user", "content": "x"}], **more))


class Reader:
    """Reads a stream by either client, and keeps the events that came before it ended, however it did."""

    def __init__(self, url: str, key: str, *, asynchronous: bool) -> None:
        self._url, self._key, self._asynchronous = url, key, asynchronous
        self.events: list[ChatCompletionChunk] = []

    async def read(self, streamed: Asked, most: int = 99) -> Sequence[ChatCompletionChunk]:
        """Return the events, up to `most`."""
        if self._asynchronous:
            async with AsyncClient(self._url, self._key) as client, client.stream(streamed) as told:
                async for event in told:
                    self.events.append(event)
                    if len(self.events) == most:
                        break
        else:
            with Client(self._url, self._key).stream(streamed) as said:
                for event in said:
                    self.events.append(event)
                    if len(self.events) == most:
                        break
        return self.events

    @property
    def text(self) -> str:
        """What was said."""
        return "".join(choice.delta.content or "" for event in self.events for choice in event.choices)


@pytest.fixture(params=[False, True], ids=["blocking", "concurrent"])
def reader(request: pytest.FixtureRequest, server: Server) -> Reader:
    return Reader(server.url, server.key, asynchronous=request.param)


async def test_an_answer_comes_in_typed_events(server: Server, reader: Reader) -> None:
    server.upstream.scripts.waiting.append(Script(pieces=("Good ", "day", "."), logprobs=(-0.1, -0.2, -0.3)))
    events = await reader.read(asked(stream_options=StreamOptions(include_usage=True), logprobs=True))
    assert reader.text == "Good day."
    first, *_, last, usage = events
    assert first.choices[0].delta.role == "assistant"
    assert first.bessemer is not None
    assert last.bessemer is not None
    assert last.bessemer.inference_id == first.bessemer.inference_id
    assert last.bessemer.cost_usd is not None
    assert last.choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage is not None
    scored = [choice.logprobs["content"][0]["logprob"] for one in events for choice in one.choices if choice.logprobs]
    assert scored == [-0.1, -0.2, -0.3]
    recorded = Client(server.url, server.key).send(calls.get_inference(last.bessemer.inference_id))
    assert recorded.output == "Good day."


async def test_an_event_is_given_when_it_comes_and_who_leaves_ends_the_work(server: Server, reader: Reader) -> None:
    server.upstream.fake.disconnected.clear()
    server.upstream.scripts.waiting.append(Script(pieces=("a", "b"), between_s=30.0))
    started = time.monotonic()
    await reader.read(asked(), most=2)
    assert reader.text == "a"
    assert time.monotonic() - started < 30.0
    assert server.upstream.disconnected(20)


@pytest.mark.parametrize("breaks", [{"break_after": 2}, {"error_after": 2}], ids=["cut", "told"])
async def test_an_error_inside_is_raised_after_what_came_before(server: Server, reader: Reader, breaks: Any) -> None:
    server.upstream.scripts.waiting.append(Script(pieces=("a", "b", "c"), **breaks))
    with pytest.raises(BessemerError, match="upstream") as caught:
        await reader.read(asked())
    assert not isinstance(caught.value, Unreachable)
    assert caught.value.error_code is not None
    assert reader.text == "ab"


async def test_a_refusal_is_raised_on_entering(reader: Reader) -> None:
    with pytest.raises(NotFound):
        await reader.read(calls.stream_chat({"model": "nobody", "messages": [{"role": "user", "content": "x"}]}))
    with pytest.raises(InvalidRequest) as caught:
        await reader.read(calls.stream_chat({"model": "assistant", "messages": []}))
    assert caught.value.param == "messages"
    assert reader.events == []


# -- servers that answer as they like ---------------------------------------------------------------------------------

CHUNK = {"id": "c", "created": 1, "model": "m", "surprise": 1}
CHUNK |= {"choices": [{"index": 0, "delta": {"content": "a", "surprise": 2}, "surprise": 3}]}


def stream(*events: Any) -> tuple[int, dict[str, str], bytes]:
    lines = (event if isinstance(event, str) else json.dumps(event) for event in events)
    return 200, {"content-type": "text/event-stream"}, "".join(f"data: {line}\n\n" for line in lines).encode()


def failure(kind: str, code: str | None) -> dict[str, Any]:
    return {"error": {"message": "no", "type": kind, "param": None, "code": code}}


@BOTH
async def test_what_a_newer_server_adds_is_left_out(asynchronous: bool) -> None:
    with playing(stream(CHUNK, CHUNK, "[DONE]")) as (url, _):
        reader = Reader(url, KEY, asynchronous=asynchronous)
        await reader.read(asked())
    assert reader.text == "aa"


@BOTH
@pytest.mark.parametrize(
    ("told", "error"),
    [
        (failure("server_error", "provider_error"), ProviderError),
        (failure("rate_limit_error", "their_own"), RateLimited),
        (failure("invalid_request_error", None), InvalidRequest),
        (failure("what", "ever"), BessemerError),
    ],
)
async def test_errors_in_a_stream_are_those_of_their_code_and_type(asynchronous: bool, told: Any, error: Any) -> None:
    with playing(stream(CHUNK, told)) as (url, seen), pytest.raises(BessemerError, match="no") as caught:
        await Reader(url, KEY, asynchronous=asynchronous).read(asked())
    assert type(caught.value) is error
    assert caught.value.error_code == (told["error"]["code"] or error.code)
    assert len(seen) == 1


@BOTH
@pytest.mark.parametrize("script", [stream(CHUNK), stream(), stream(CHUNK, "<html>")], ids=["cut", "empty", "strange"])
async def test_a_stream_that_ends_before_its_answer_is_no_answer(asynchronous: bool, script: Any) -> None:
    with playing(script) as (url, seen), pytest.raises(Unreachable):
        await Reader(url, KEY, asynchronous=asynchronous).read(asked())
    assert len(seen) == 1


@BOTH
async def test_a_server_that_is_busy_is_asked_again(asynchronous: bool) -> None:
    with playing(refusal(503, "overloaded"), stream(CHUNK, "[DONE]")) as (url, seen):
        reader = Reader(url, KEY, asynchronous=asynchronous)
        await reader.read(asked())
    assert (reader.text, len(seen)) == ("a", 2)
