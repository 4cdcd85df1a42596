"""Limits of the configuration file: who is refused, with what words and headers, and what is counted."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from openai import RateLimitError
from tests.asking import ask, key_of
from tests.live import Server, Upstream, start_server, stop_server

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
[routes.counted]
targets = ["small"]
[routes.tokens]
targets = ["small"]
[routes.paid]
targets = ["small"]
[routes.falling]
targets = ["large"]
fallbacks = ["small"]
[routes.free]
targets = ["small"]
[limits.requests]
per = ["key"]
only = {{ route = "counted" }}
requests = 5
window = "month"
[limits.tokens]
per = ["key", "route"]
only = {{ route = "tokens" }}
tokens = 2000
window = "month"
[limits.budget]
per = ["project"]
only = {{ route = "paid" }}
usd = 0.0001
window = "month"
[limits.large]
only = {{ model = "large" }}
requests = 1
window = "month"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("limits"), upstream, "--no-worker", toml=TOML)
    yield running
    stop_server(running)


class Answer(NamedTuple):
    status_code: int
    body: Any
    headers: dict[str, str]


def post(server: Server, key: str, route: str, path: str = "/v1/chat/completions", **more: Any) -> Answer:
    body = {"model": route, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100, **more}
    return Answer(*ask(server, "POST", path, key, json.dumps(body).encode()))


def test_as_many_are_answered_as_the_limit_says_and_the_others_are_told_when(server: Server) -> None:
    key = key_of(server, "app")
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda _: post(server, key, "counted"), range(12)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 7
    told = [answer.headers for answer in answers if answer.status_code == 200]
    assert sorted(int(one["x-ratelimit-remaining-requests"]) for one in told) == [0, 1, 2, 3, 4]
    assert {one["x-ratelimit-limit-requests"] for one in told} == {"5"}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) > 0
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["x-ratelimit-reset-requests"].endswith("s")
    assert refused.body["error"]["code"] == "rate_limit_exceeded"
    assert "'requests'" in refused.body["error"]["message"]
    assert post(server, key_of(server, "member"), "counted").status_code == 200
    assert post(server, key, "free").headers.keys() & {"x-ratelimit-limit-requests"} == set()


def test_a_refusal_is_in_the_callers_dialect(server: Server) -> None:
    key = key_of(server, "app")
    for _ in range(5):
        assert post(server, key, "counted", stream=True).headers["x-ratelimit-limit-requests"] == "5"
    refused = post(server, key, "counted", "/v1/messages")
    assert refused.status_code == 429
    assert refused.body["type"] == "error"
    assert refused.body["error"]["type"] == "rate_limit_error"
    client = server.openai(key)
    with pytest.raises(RateLimitError):
        client.chat.completions.create(model="counted", messages=[{"role": "user", "content": "Hello"}])


def test_tokens_are_taken_before_and_settled_after(server: Server) -> None:
    key = key_of(server, "app")
    first = post(server, key, "tokens", max_tokens=1500)
    assert first.status_code == 200
    second = post(server, key, "tokens", max_tokens=1500)
    assert second.status_code == 200, "the first did not use what was taken for it"
    assert int(second.headers["x-ratelimit-limit-tokens"]) == 2000
    assert post(server, key, "tokens", max_tokens=1_000_000).status_code == 429, "more than is left"


def test_a_budget_is_spent(server: Server) -> None:
    answers = [post(server, server.key, "paid", max_tokens=10) for _ in range(40)]
    spent = [answer.status_code for answer in answers]
    assert spent == sorted(spent)
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.body["error"]["code"] == "insufficient_quota"


def test_a_model_at_its_limit_is_replaced(server: Server) -> None:
    versions = {post(server, server.key, "falling").body["bessemer"]["version"].partition("@")[0] for _ in range(3)}
    assert versions == {"large", "small"}


def test_refusals_are_on_record(server: Server) -> None:
    key = key_of(server, "app")
    for _ in range(6):
        post(server, key, "counted")
    _, listed, _ = ask(server, "GET", "/v1/inferences?route=counted&limit=1", server.key)
    assert listed["data"][0]["error"].startswith("rate_limit_exceeded")
    assert listed["data"][0]["calls"] == []
