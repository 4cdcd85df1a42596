"""Kept answers for questions that only mean the same: checked first, given while few are wrong, off beyond it."""

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.asking import ask, key_of
from tests.engine.tiny_encoder import tiny_encoder
from tests.live import OFFLINE, Server, Upstream, start_server, stop_server

from lab.fake_openai import Script

TOML = """
[models.small]
provider = "openai"
base_url = "{base_url}"
[routes.alike]
targets = ["small"]
cache = {{ semantic = {{ budget = 0.5, check_share = 0.001, similarity = 0.5 }} }}
[routes.strict]
targets = ["small"]
cache = {{ semantic = {{ budget = 0.01, similarity = 0.5 }} }}
[routes.exact]
targets = ["small"]
cache = {{}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    encoder = tiny_encoder(tmp_path_factory.mktemp("encoder"))
    env = OFFLINE | {"BESSEMER_EMBEDDING_MODEL": str(encoder)}
    running = start_server(tmp_path_factory.mktemp("semantic"), upstream, "--no-worker", env=env, toml=TOML)
    yield running
    stop_server(running)


MARKS = itertools.count(1)


def another() -> str:
    """Return the same question in other spaces: another one to the byte, the same in its words."""
    return "the cat sits" + " " * next(MARKS)


def asked(server: Server, model: str, text: str | None = None, key: str | None = None, **more: Any) -> tuple[str, str]:
    """Ask and return the header, and by what likeness the record says that it was answered."""
    said = [{"role": "user", "content": text or another()}]
    body = json.dumps({"model": model, "messages": said} | more).encode()
    status, answer, headers = ask(server, "POST", "/v1/chat/completions", key or server.key, body)
    assert status == 200, answer
    return headers["x-bessemer-cache"], answer["choices"][0]["message"]["content"]


def proven(server: Server, model: str = "alike", **more: Any) -> None:
    """Ask until kept answers are given."""
    deadline = time.monotonic() + 60
    while asked(server, model, **more)[0] == "miss":
        assert time.monotonic() < deadline


def test_it_is_checked_and_then_given_and_wrong_ones_end_it(server: Server, upstream: Upstream) -> None:
    proven(server)
    before = len(upstream.fake.bodies)
    assert asked(server, "alike") == ("hit", "ok")
    assert len(upstream.fake.bodies) == before
    newest = ask(server, "GET", "/v1/inferences?route=alike&limit=1", server.key)[1]["data"][0]
    assert (newest["cache"], newest["cost_usd"], newest["input_tokens"]) == ("semantic", 0, 0)
    assert asked(server, "alike", "the cat sits ")[0] == "hit"
    assert asked(server, "alike", "dog runs the dog runs 7")[0] == "miss", "a number more"


def test_another_system_prompt_key_or_setting_is_another_scope(server: Server) -> None:
    proven(server)
    elsewhere = key_of(server, "app", project="another")
    assert asked(server, "alike", key=elsewhere)[0] == "miss"
    assert asked(server, "alike", temperature=0.5)[0] == "miss"
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    assert asked(server, "alike", tools=tools)[0] == "miss"
    said = [{"role": "system", "content": "be brief"}, {"role": "user", "content": another()}]
    assert asked(server, "alike", messages=said)[0] == "miss"


def test_without_enough_checks_or_beyond_the_budget_nothing_is_given(server: Server, upstream: Upstream) -> None:
    proven(server)  # the encoder is there
    assert {asked(server, "strict")[0] for _ in range(12)} == {"miss"}
    assert {asked(server, "exact")[0] for _ in range(3)} == {"miss"}
    elsewhere = key_of(server, "app", project="moody")
    for place in range(12):
        upstream.scripts.waiting.append(Script(pieces=(f"answer {place}",)))
        assert asked(server, "alike", key=elsewhere) == ("miss", f"answer {place}")
    metrics = ask(server, "GET", "/metrics", server.key)[1].decode()
    assert 'bessemer_cache_checks_total{outcome="different",route="alike"} 11.0' in metrics
