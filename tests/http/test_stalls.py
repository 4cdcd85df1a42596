"""What one client asks of the built-in engine holds up nobody else, and is refused before it takes memory."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.tiny import tiny_model
from tests.live import Server, Upstream, start_server, stop_server

TOML = """
[models.tiny]
provider = "local"
path = "{folder}/tiny"
context_tokens = 512
[models.upstream]
provider = "openai"
base_url = "{base_url}"
"""
PATIENCE_S = 2.0
"""Generous, for a busy machine. Unbounded, these requests take 5 to 25 s of everybody's time, and up to 18 GB."""
MEMORY_MB = 400
MIB = 1 << 20


def structured(**kind: Any) -> dict[str, Any]:
    return {"structured_outputs": kind}


def schema(value: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": value}}}


def prompt(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


STALLS: dict[str, dict[str, Any]] = {
    "a long prompt": prompt("word " * (8 * MIB // 5)),
    "a prompt of one word": prompt("a" * (8 * MIB)),
    "a prompt of spaces": prompt(" " * (8 * MIB)),
    "a prompt of control tokens": prompt("<|im_end|>" * (8 * MIB // 10)),
    "one long label": structured(choice=["word " * 40_000, "y"]),
    "one label of a whole body": structured(choice=["word " * (15 * MIB // 5), "y"]),
    "long labels": structured(choice=[f"{i} " + "word " * 1_500 for i in range(200)]),
    "many labels": structured(choice=[f"label {i}" for i in range(500_000)]),
    "repetitions": structured(regex="(a{1000}){1000}"),
    "repetitions later": structured(regex="[ab](a{1000}){1000}") | {"max_tokens": 4},
    "a long expression": structured(regex="(a|b)" * 500_000),
    "a long grammar": structured(grammar="start: " + " | ".join(f'"{i}"' for i in range(500_000))),
    "many values": schema({"enum": [f"value {i}" for i in range(500_000)]}),
    "many properties": schema(
        {"type": "object", "properties": {f"p{i}": {"type": "string", "pattern": "[a-z]{1,100}"} for i in range(3000)}}
    ),
    "many biases": {"logit_bias": {str(i): 1 for i in range(500_000)}},
    "many stops": {"stop": ["a" * (2 * MIB)] * 4},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("stalls")
    tiny_model(folder / "tiny")
    started = start_server(folder, upstream, "--no-worker", toml=TOML)
    post(started, encoded({}))  # loads the engine
    yield started
    stop_server(started)


def encoded(more: dict[str, Any]) -> bytes:
    """A body, ready to be sent: this process encodes nothing while it measures."""
    return json.dumps({"model": "tiny", **prompt("hi"), "max_tokens": 1, **more}).encode()


def post(server: Server, body: bytes) -> tuple[int, dict[str, Any]]:
    with contextlib.closing(HTTPConnection(server.url.removeprefix("http://"), timeout=60)) as connection:
        headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def memory_mb(server: Server) -> float:
    """The most memory that the process has had so far."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@pytest.mark.parametrize("name", STALLS)
def test_a_second_client_does_not_wait(server: Server, name: str) -> None:
    before, hostile, small = memory_mb(server), encoded(STALLS[name]), encoded({})
    outcome: list[tuple[int, dict[str, Any]]] = []
    asking = threading.Thread(target=lambda: outcome.append(post(server, hostile)))
    asking.start()
    worst = 0.0
    while True:
        begun = time.monotonic()
        assert post(server, small)[0] == 200
        worst = max(worst, time.monotonic() - begun)
        if not asking.is_alive():
            break
    status, body = outcome[0]
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")
    assert len(body["error"]["message"]) < 300
    grown = memory_mb(server) - before
    assert worst < PATIENCE_S
    assert grown < MEMORY_MB
