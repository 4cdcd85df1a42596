"""Kept answers: what is the same question, who shares its answer, what is never kept, and what forgets it."""

import itertools
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.asking import ask, key_of
from tests.live import Server, Upstream, start_server, stop_server

from lab.fake_openai import Script

TOML = """
[models.small]
provider = "openai"
base_url = "{base_url}"
price = "list"
[models.large]
provider = "openai"
base_url = "{base_url}"
[prices.list]
source = "a test"
date = "2026-01-01"
input_per_million = 1.0
output_per_million = 2.0
[routes.kept]
targets = ["small"]
fallbacks = ["large"]
cache = {{ ttl_s = 3600 }}
[routes.brief]
targets = ["small"]
cache = {{ ttl_s = 0.3 }}
[routes.own]
targets = ["small"]
cache = {{ per = "key" }}
[routes.users]
targets = ["small"]
cache = {{ per = "user" }}
[routes.asked]
targets = ["small"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("cache"), upstream, "--no-worker", toml=TOML)
    time.sleep(1.5)  # a second after its start a process asks what changed before, and forgets what it has kept
    yield running
    stop_server(running)


QUESTIONS = itertools.count()
QUESTION = [""]


@pytest.fixture(autouse=True)
def _another_question(upstream: Upstream) -> None:
    """Let each test ask what no other has asked."""
    QUESTION[0] = f"question {next(QUESTIONS)}"
    upstream.scripts.waiting.clear()
    upstream.fake.bodies.clear()


def chat(server: Server, model: str = "kept", key: str | None = None, **more: Any) -> tuple[int, Any, str | None]:
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION[0]}]} | more
    status, answer, headers = ask(server, "POST", "/v1/chat/completions", key or server.key, json.dumps(body).encode())
    return status, answer, headers.get("x-bessemer-cache")


def outcome(server: Server, **more: Any) -> str | None:
    status, answer, told = chat(server, **more)
    assert status == 200, answer
    return told


def text(answer: Any) -> str:
    """Return what an answer says, whole or streamed."""
    if not isinstance(answer, bytes):
        return str(answer["choices"][0]["message"]["content"])
    events = [json.loads(line[6:]) for line in answer.splitlines() if line.startswith(b"data: {")]
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("then", [False, True])
def test_whole_or_streamed_it_is_one_answer_and_the_second_is_free(
    server: Server, upstream: Upstream, *, first: bool, then: bool
) -> None:
    upstream.scripts.waiting.append(Script(pieces=("one ", "answer")))
    assert chat(server, stream=first)[2] == "miss"
    status, answer, told = chat(server, stream=then)
    assert (status, told, text(answer)) == (200, "hit", "one answer")
    if not then:
        assert answer["usage"] == {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
        assert answer["bessemer"]["provider"] == "cache"
        assert answer["bessemer"]["cost_usd"] == 0
    hit, miss = ask(server, "GET", "/v1/inferences?route=kept&limit=2", server.key)[1]["data"]
    assert (hit["output"], hit["cost_usd"], hit["input_tokens"], hit["output_tokens"]) == ("one answer", 0, 0, 0)
    assert hit["saved_usd"] == miss["cost_usd"] > 0
    assert (miss["saved_usd"], hit["version"]) == (None, miss["version"])
    assert (miss["cache"], hit["cache"]) == (None, "exact")
    assert len(upstream.fake.bodies) == 1


DIFFERENT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hi "}],
    "temperature": 0.5,
    "top_p": 0.5,
    "seed": 7,
    "stop": ["x"],
    "max_tokens": 9,
    "logprobs": True,
    "presence_penalty": 0.5,
    "logit_bias": {"5": 1},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "response_format": {"type": "json_object"},
    "reasoning_effort": "low",
    "an_unknown_field": 1,
    "service_tier": "flex",
    "verbosity": "low",
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_another_field_is_another_question(server: Server, name: str) -> None:
    assert outcome(server) == "miss"
    assert outcome(server, **{name: DIFFERENT[name]}) == "miss"
    assert outcome(server, **{name: DIFFERENT[name]}) == "hit"
    assert outcome(server) == "hit"


@pytest.mark.parametrize(
    "more",
    [
        {"user": "somebody"},
        {"metadata": {"a": "b"}},
        {"bessemer": {"tags": {"a": "b"}}},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"store": False},
    ],
)
def test_what_decides_nothing_is_the_same_question(server: Server, more: dict[str, Any]) -> None:
    assert outcome(server) == "miss"
    assert outcome(server, **more) == "hit"


def test_several_answers_to_one_request_differ_and_are_kept_apart(server: Server, upstream: Upstream) -> None:
    upstream.scripts.waiting.extend(Script(pieces=(name,)) for name in "ab")
    answers = [sorted(choice["message"]["content"] for choice in chat(server, n=2)[1]["choices"]) for _ in range(2)]
    assert answers == [["a", "b"], ["a", "b"]]
    assert len(upstream.fake.bodies) == 2


def test_who_shares_an_answer(server: Server) -> None:
    app = key_of(server, "app")
    assert outcome(server) == "miss"
    assert outcome(server, key=app) == "hit", "of one project"
    elsewhere = key_of(server, "app", project="another")
    assert outcome(server, key=elsewhere) == "miss", "never of two"
    assert [outcome(server, model="own", key=key) for key in (server.key, app, app)] == ["miss", "miss", "hit"]
    who = ["ann", "bob", "ann", None, None]
    told = [outcome(server, model="users", key=app, **({"user": one} if one else {})) for one in who]
    assert told == ["miss", "miss", "hit", "miss", "hit"]
    assert outcome(server, model="users") == "miss", "who names no user shares with nobody else"


def test_it_is_off_until_a_route_says_so_and_a_request_may_decline(server: Server, upstream: Upstream) -> None:
    assert [outcome(server, model=name) for name in ("asked", "small")] == [None, None]
    assert outcome(server, bessemer={"cache": "off"}) is None
    assert outcome(server) == "miss"
    upstream.scripts.waiting.append(Script(pieces=("newer",)))
    assert outcome(server, bessemer={"cache": "refresh"}) == "miss"
    assert text(chat(server)[1]) == "newer"
    assert chat(server, bessemer={"cache": "maybe"})[0] == 400


@pytest.mark.parametrize(
    "script", [Script(status=400), Script(finish_reason="length"), Script(finish_reason="content_filter")]
)
def test_what_is_no_whole_answer_is_not_kept(server: Server, upstream: Upstream, script: Script) -> None:
    upstream.scripts.waiting.append(script)
    chat(server)
    assert outcome(server) == "miss"
    assert outcome(server) == "hit"


def test_a_broken_stream_is_not_kept(server: Server, upstream: Upstream) -> None:
    upstream.scripts.waiting.append(Script(pieces=("half", "whole"), break_after=1))
    chat(server, stream=True)
    assert outcome(server) == "miss"


def test_a_fallbacks_answer_is_not_given_for_the_models_own(server: Server, upstream: Upstream) -> None:
    upstream.scripts.waiting.extend([Script(status=503), Script(pieces=("a substitute",))])
    assert text(chat(server)[1]) == "a substitute"
    assert text(chat(server)[1]) == "ok"


def test_it_ends_with_its_time(server: Server) -> None:
    assert [outcome(server, model="brief") for _ in range(2)] == ["miss", "hit"]
    time.sleep(0.4)
    assert outcome(server, model="brief") == "miss"


@pytest.mark.parametrize("value", [False, 0.0, "what it should have said"])
@pytest.mark.parametrize("of", ["the first", "the kept"])
def test_feedback_that_finds_it_wrong_forgets_it(server: Server, value: Any, of: str) -> None:
    ids = [chat(server)[1]["bessemer"]["inference_id"] for _ in range(2)]
    metric = "demonstration" if isinstance(value, str) else "verdict" if value is False else "score"
    for good in ({"metric": "verdict", "value": True}, {"metric": "comment", "value": "well"}):
        said = json.dumps({"inference_id": ids[0], **good}).encode()
        assert ask(server, "POST", "/v1/feedback", server.key, said)[0] == 200
        assert outcome(server) == "hit"
    said = json.dumps({"inference_id": ids[of == "the kept"], "metric": metric, "value": value}).encode()
    assert ask(server, "POST", "/v1/feedback", server.key, said)[0] == 200
    assert outcome(server) == "miss"


def test_erasure_forgets_it(server: Server) -> None:
    inference = chat(server)[1]["bessemer"]["inference_id"]
    assert outcome(server) == "hit"
    deadline = time.monotonic() + 10
    while (status := ask(server, "DELETE", f"/v1/inferences/{inference}", server.key)[0]) == 404:
        assert time.monotonic() < deadline
    assert status == 200
    assert outcome(server) == "miss"


def test_another_version_behind_the_route_is_another_question(server: Server) -> None:
    body = {"name": "moved", "targets": ["small"], "cache": {}, "force": True, "reason": "a test"}
    assert ask(server, "POST", "/v1/routes", server.key, json.dumps(body).encode())[0] == 200
    assert [outcome(server, model="moved") for _ in range(2)] == ["miss", "hit"]
    assert ask(server, "POST", "/v1/routes", server.key, json.dumps(body | {"targets": ["large"]}).encode())[0] == 200
    assert [outcome(server, model="moved") for _ in range(2)] == ["miss", "hit"]
    put = ask(server, "GET", "/v1/routes/moved", server.key)[1]["cache"]
    assert put == {"ttl_s": 3600.0, "per": "project", "semantic": None}


@pytest.mark.parametrize("streamed", [False, True])
def test_those_who_ask_the_same_at_once_wait_for_one_answer(
    server: Server, upstream: Upstream, *, streamed: bool
) -> None:
    upstream.scripts.waiting.append(Script(pieces=("shared",), first_token_s=0.5))
    found: list[Any] = []
    asking = [
        threading.Thread(target=lambda place=place: found.append(chat(server, stream=streamed and place % 2 == 0)))
        for place in range(8)
    ]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    assert [(status, text(answer)) for status, answer, _ in found] == [(200, "shared")] * 8
    assert sorted(told for _, _, told in found) == ["hit"] * 7 + ["miss"]
    assert len(upstream.fake.bodies) == 1


def test_where_the_first_fails_another_asks(server: Server, upstream: Upstream) -> None:
    upstream.scripts.waiting.extend([Script(status=400, first_token_s=0.4), Script(pieces=("saved",))])
    found: list[int] = []
    asking = [threading.Thread(target=lambda: found.append(chat(server)[0])) for _ in range(5)]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    assert sorted(found) == [200] * 4 + [400]
    assert len(upstream.fake.bodies) == 2


def test_embeddings_and_the_other_dialects_are_kept_too(server: Server) -> None:
    ways: dict[str, Any] = {
        "/v1/embeddings": {"input": "hi"},
        "/v1/responses": {"input": "hi", "store": False},
        "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
    }
    for path, body in ways.items():
        sent = json.dumps({"model": "kept"} | body).encode()
        answers = [ask(server, "POST", path, server.key, sent) for _ in range(2)]
        assert [headers["x-bessemer-cache"] for _, _, headers in answers] == ["miss", "hit"], path
        assert all(status == 200 for status, _, _ in answers)
