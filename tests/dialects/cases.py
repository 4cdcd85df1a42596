"""Requests of the chat dialect with the script of the upstream's answer: most of what the dialect can say and refuse.

A body is raw text, because the order of keys and what is no JSON matter, too.
"""

import json
from typing import Any, NamedTuple

from lab.fake_openai import Script

PATH = "/v1/chat/completions"


class Case(NamedTuple):
    """One request."""

    name: str
    body: str
    scripts: tuple[Script, ...] = (Script(pieces=("he", "llo"), logprobs=(-0.25, -0.5)),)
    method: str = "POST"
    path: str = PATH
    key: str | None = "admin"


def _chat(model: str = "upstream", text: str = "hello", **more: Any) -> str:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **more})


def _said(*messages: dict[str, Any], **more: Any) -> str:
    return json.dumps({"model": "upstream", "messages": list(messages), **more})


USER = {"role": "user", "content": "hello"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
NAMED = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}
FAILS = (Script(status=503), Script(status=503))

CASES = (
    # whole answers
    Case("plain", _chat()),
    Case("route", _chat("assistant")),
    Case("unicode", _chat(text="Größe 42 – 東京 \u2028 \U0001f600")),
    Case("order of keys", '{"messages":[{"content":"hello","role":"user"}],"model":"upstream"}'),
    Case(
        "conversation",
        _said({"role": "system", "content": "Be brief."}, USER, {"role": "assistant", "content": "Hi."}, USER),
    ),
    Case(
        "developer and name",
        _said({"role": "developer", "content": "x"}, {"role": "user", "content": "y", "name": "ann"}),
    ),
    Case("parts", _said({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})),
    Case(
        "part with more",
        _said({"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "x"}}]}),
    ),
    Case(
        "refusal sent back",
        _said(USER, {"role": "assistant", "content": None, "refusal": "No.", "tool_calls": None}, USER),
    ),
    Case(
        "answer sent back",
        _said(
            USER,
            {"role": "assistant", "content": "A", "refusal": None, "annotations": [], "reasoning_content": "why"},
            USER,
        ),
    ),
    Case(
        "options",
        _chat(
            temperature=0.5, top_p=0.9, top_k=4, seed=7, stop="x", max_tokens=9, logit_bias={"50256": -100, "0": 1.5}
        ),
    ),
    Case(
        "other options", _chat(stop=["x", "y"], max_completion_tokens=9, presence_penalty=0, frequency_penalty=0.0, n=1)
    ),
    Case("nulls", _chat(temperature=None, stop=None, n=None, seed=None, stream=None, logit_bias=None, user=None)),
    Case("user and metadata", _chat(user="u1", metadata={"a": "b"})),
    Case("extension", _chat(bessemer={"episode_id": "e-1", "tags": {"t": "1"}, "split": "holdout"})),
    Case("log-probabilities", _chat(logprobs=True, top_logprobs=2)),
    Case("structured input", _chat("ruled", bessemer={"input": {"a": "x", "b": "y"}})),
    Case("structured input and messages", _chat("upstream", bessemer={"input": {"a": "x"}})),
    Case(
        "only structured input",
        json.dumps({"model": "ruled", "messages": [], "bessemer": {"input": {"a": "x", "b": "y"}}}),
    ),
    Case("schema of the version", _chat("formed")),
    Case("grammar of the version", _chat("spelled", bessemer={"input": {"a": "x"}})),
    Case("grammar without input", _chat("spelled")),
    Case("choices of the version and others", _chat("ruled", structured_outputs={"choice": ["a", "b"]})),
    Case("biased choices", _chat("biased")),
    Case("response_format", _chat(response_format=NAMED)),
    Case("json_object", _chat(response_format={"type": "json_object"})),
    Case("text", _chat(response_format={"type": "text"})),
    Case("choice", _chat(structured_outputs={"choice": ["yes", "no"]})),
    Case("regex", _chat(structured_outputs={"regex": "a+"})),
    Case("json", _chat(structured_outputs={"json": SCHEMA})),
    Case("grammar", _chat(structured_outputs={"grammar": 'start: "a"'})),
    Case("length", _chat(), (Script(pieces=("a",), finish_reason="length", cached_tokens=4),)),
    Case("three answers", _chat(n=3, seed=5), (Script(pieces=("a",), cached_tokens=1),) * 3),
    Case("fallback", _chat("careful"), (Script(status=503), Script(pieces=("b",)))),
    Case("cascade takes", _chat("cascaded"), (Script(pieces=("a",), logprobs=(-0.1,)),)),
    Case("recorded", _chat("old", "same?")),
    Case("long", _chat(text="word " * 20_000)),
    # streams
    Case("stream", _chat(stream=True)),
    Case("stream with usage", _chat(stream=True, stream_options={"include_usage": True})),
    Case("stream with log-probabilities", _chat(stream=True, logprobs=True, top_logprobs=1)),
    Case("stream of two", _chat(stream=True, n=2), (Script(pieces=("a",)), Script(pieces=("a",)))),
    Case(
        "stream of two with usage",
        _chat(stream=True, n=2, stream_options={"include_usage": True}),
        (Script(pieces=("a",)),) * 2,
    ),
    Case("stream of nothing", _chat(stream=True), (Script(pieces=()),)),
    Case("stream of a recorded answer", _chat("old", "same?", stream=True)),
    Case("stream with an error inside", _chat(stream=True), (Script(pieces=("a", "b"), error_after=1),)),
    Case("stream that breaks", _chat(stream=True), (Script(pieces=("a", "b"), break_after=1),)),
    Case("stream with an error first", _chat(stream=True), (Script(pieces=("a",), error_after=0),)),
    Case("stream refused", _chat(stream=True), (Script(status=429),)),
    # refused by the upstream
    *(
        Case(f"upstream {status}", _chat(), (Script(status=status),))
        for status in (400, 401, 404, 413, 422, 429, 500, 503)
    ),
    Case("upstream's code", _chat(), (Script(status=400, code="context_length_exceeded"),)),
    Case("upstream's error inside", _chat(), (Script(error_after=0),)),
    Case("all fail", _chat("careful"), FAILS),
    Case("not recorded", _chat("old", "something else")),
    Case("not recorded option", _chat("old", "same?", logprobs=True)),
    Case("not recorded format", _chat("old", "same?", structured_outputs={"choice": ["a"]})),
    # refused by the dialect
    Case("unknown parameter", _chat(frobnicate=1)),
    Case("unknown parameter inside", _chat(bessemer={"colour": 1})),
    Case("tools", _chat(tools=[{"type": "function", "function": {"name": "f"}}])),
    Case("tool message", _said({"role": "tool", "content": "x", "tool_call_id": "c"})),
    Case("tool calls", _said({"role": "assistant", "content": "x", "tool_calls": [{"id": "c"}]})),
    Case("unknown role", _said({"role": "robot", "content": "x"})),
    Case("no role", _said({"content": "x"})),
    Case("no content", _said({"role": "user"})),
    Case("content of nothing", _said({"role": "user", "content": []})),
    Case("content of a number", _said({"role": "user", "content": 4})),
    Case("image", _said({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]})),
    Case("no messages", json.dumps({"model": "upstream", "messages": []})),
    Case("message that is text", json.dumps({"model": "upstream", "messages": ["hello"]})),
    Case("model missing", json.dumps({"messages": [USER]})),
    Case("model of another type", json.dumps({"model": 4, "messages": [USER]})),
    Case("model unknown", _chat("nobody")),
    Case("temperature", _chat(temperature=3)),
    Case("temperature of text", _chat(temperature="hot")),
    Case("top_p", _chat(top_p=-1)),
    Case("top_logprobs alone", _chat(top_logprobs=2)),
    Case("top_logprobs", _chat(logprobs=True, top_logprobs=21)),
    Case("both limits", _chat(max_tokens=1, max_completion_tokens=1)),
    Case("limit of nothing", _chat(max_tokens=0)),
    Case("penalty", _chat(presence_penalty=0.5)),
    Case("empty stop", _chat(stop=["a", ""])),
    Case("five stops", _chat(stop=list("abcde"))),
    Case("bias of a word", _chat(logit_bias={"a": 1})),
    Case("bias too large", _chat(logit_bias={"1": 101})),
    Case("stream_options alone", _chat(stream_options={"include_usage": True})),
    Case("n of nothing", _chat(n=0)),
    Case("n of many", _chat(n=17)),
    Case("n of many and temperature", _chat(n=17, temperature=3)),
    Case("format unknown", _chat(response_format={"type": "xml"})),
    Case("format without a schema", _chat(response_format={"type": "json_schema", "json_schema": {"name": "n"}})),
    Case("two formats", _chat(response_format=NAMED, structured_outputs={"choice": ["a"]})),
    Case("two outputs", _chat(structured_outputs={"choice": ["a"], "regex": "a"})),
    Case("choices of nothing", _chat(structured_outputs={"choice": [""]})),
    Case("episode", _chat(bessemer={"episode_id": "a b"})),
    Case("input that lacks", _chat("ruled", bessemer={"input": {"a": "x"}})),
    Case("no JSON", "{"),
    Case("no body", ""),
    Case("no object", "[1]"),
    Case("half a character", '{"model":"upstream","messages":[{"role":"user","content":"\\ud800"}]}'),
    Case("byte order mark", "\ufeff" + _chat()),
    Case("nested", '{"model":"upstream","messages":' + "[" * 600 + "]" * 600 + "}"),
    # refused before
    Case("no key", _chat(), key=None),
    Case("wrong key", _chat(), key="sk-bessemer-wrong"),
    Case("split without the right", _chat(bessemer={"split": "train"}), key="app"),
    Case("GET", "", method="GET"),
    Case("a slash", _chat(), path=PATH + "/"),
    Case("twice /v1", _chat(), path="/v1" + PATH),
    Case("query", _chat(), path=PATH + "?a=1"),
)
