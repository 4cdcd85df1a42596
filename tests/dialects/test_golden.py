"""The chat dialect byte by byte: what the client and the upstream get, and what is recorded, are those of golden.json.

A file that is not there is written, by the server that is tested: delete it only to change the wire on purpose.
"""

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from tests.asking import ask, key_of
from tests.dialects.cases import CASES, Case
from tests.live import Server, Upstream, start_server, stop_server

from bessemer.core.content import input_hash
from bessemer.core.conversation import message_of, plain
from bessemer.core.inferences import Inference

GOLDEN = Path(__file__).parent / "golden.json"
CONFIG = """
[models.upstream]
provider = "openai"
base_url = "{base_url}"
price = "list"

[models.ruled]
provider = "openai"
base_url = "{base_url}"
upstream_model = "other-name"
prompt = "compare"
choices = ["Yes", "No"]
max_tokens = 5

[models.formed]
provider = "openai"
base_url = "{base_url}"
response_schema = {{ type = "object" }}
temperature = 0.3

[models.spelled]
provider = "openai"
base_url = "{base_url}"
grammar = 'start: "{{{{input.a}}}}"'

[models.biased]
provider = "openai"
base_url = "{base_url}"
choices = ["Yes", "No"]
choice_bias = [0.5, 0.0]

[models.old]
provider = "recorded"
path = "{folder}/old.jsonl"
price = "list"
[models.old.recorded]
mean_output_tokens = 3
mean_input_tokens = 4

[prices.list]
source = "a test"
date = "2026-01-01"
input_per_million = 1.0
output_per_million = 2.0
cached_input_per_million = 0.5

[prompts.compare]
system = "Compare."
user = "Same? {{{{input.a}}}} | {{{{input.b}}}}"

[routes.assistant]
targets = ["upstream"]

[routes.careful]
targets = ["upstream"]
fallbacks = ["upstream"]
"""
_CHANGING = (
    (re.compile(r"(inf|chatcmpl|req|call)-[0-9A-Za-z]+"), r"\1-ID"),
    (re.compile(r'"(created|created_at|latency_s|ttft_s)":[0-9.e-]+'), r'"\1":0'),
    (re.compile(r"@[0-9a-f]{12}"), "@VERSION"),
    (re.compile(r'"(config_sha256|key_id)":"[^"]*"'), r'"\1":"X"'),
    (re.compile(r',"policy_sha256":"[0-9a-f]{64}"'), ""),  # records say by which policy since
    (re.compile(r"(word ){100,}"), "word …"),
)
_OWN_ORDER = {"order of keys"}
"""Objects have no order: the keys of a message come in ours, whatever the client's was."""
_HEADERS = ("content-type", "allow", "retry-after", "www-authenticate", "cache-control", "x-bessemer-inference-id")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    """A server with a model of each kind of rule, and a cascade."""
    folder = tmp_path_factory.mktemp("golden")
    (folder / "old.jsonl").write_text('{"prompt": "same?", "recorded_answer": "Yes"}\n')
    server = start_server(folder, upstream, "--no-worker", toml=CONFIG)
    yield server
    stop_server(server)


def outcome(server: Server, case: Case, keys: dict[str | None, str | None]) -> dict[str, Any]:
    """Return what the client got, what the upstream was sent and what was recorded, without what changes."""
    fake = server.upstream.fake
    fake.bodies.clear()
    server.upstream.scripts.waiting.extend(case.scripts)
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    key = keys.get(case.key, case.key)
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    connection.request(case.method, case.path, case.body.encode(), headers)
    response = connection.getresponse()
    content = response.read().decode()
    connection.close()
    server.upstream.scripts.waiting.clear()
    given = {name: value for name in _HEADERS if (value := response.headers.get(name)) is not None}
    names = [name for name in given.get("x-bessemer-inference-id", "").split(",") if name]
    rows = [ask(server, "GET", f"/v1/inferences/{name}", server.key)[1] for name in names]
    answered = [content] if not content.startswith("data: ") else content.split("\n\n")
    if len(names) > 1:  # which of several comes first is chance
        fake.bodies.sort()
        answered.sort()
        rows.sort(key=str)
    return {
        "status": response.status,
        "headers": {name: _steady(value) for name, value in given.items()},
        "answer": [_steady(text) for text in answered],
        "upstream": [_steady(body.decode()) for body in fake.bodies],
        "recorded": [_steady(json.dumps(row, separators=(",", ":"), ensure_ascii=False)) for row in rows],
    }


def _steady(text: str) -> str:
    for pattern, instead in _CHANGING:
        text = pattern.sub(instead, text)
    return text


def _parsed(case: dict[str, Any]) -> dict[str, Any]:
    return case | {name: [json.loads(text) for text in case[name]] for name in ("upstream", "recorded")}


def test_rows_of_before_are_read_and_hash_as_they_did() -> None:
    cases = json.loads(GOLDEN.read_text()).values()
    rows = [msgspec.json.decode(text, type=Inference) for case in cases for text in case["recorded"] if "…" not in text]
    assert len(rows) > 40
    for row in rows:
        assert input_hash(row.input, row.messages) == row.input_sha256
        again = tuple(message_of(said, "messages") for said in row.messages)
        assert plain(again) == row.messages


def test_the_chat_dialect_speaks_as_it_did(running: Server) -> None:
    keys = {"admin": running.key, "app": key_of(running, "app"), None: None}
    small = ask(running, "GET", "/v1/versions?model=upstream", running.key)[1]["data"][0]["id"]
    calibration = {"version": small, "score": "mean_logprob", "dataset_sha256": "0" * 64, "x": [-1.0, 0.0], "y": [0, 1]}
    steps = [
        {"targets": [{"model": "upstream"}], "threshold": 0.5, "calibration": calibration},
        {"targets": [{"model": "old"}]},
    ]
    body = {"name": "cascaded", "steps": steps, "force": True, "reason": "a test"}
    status, answer, _ = ask(running, "POST", "/v1/routes", running.key, json.dumps(body).encode())
    found = {case.name: outcome(running, case, keys) for case in CASES}
    assert len(found) == len(CASES)
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        pytest.fail(f"{GOLDEN} was not there: it is written now. Cascade: {status} {answer}")
    for name, wanted in json.loads(GOLDEN.read_text()).items():
        compared = _parsed if name in _OWN_ORDER else dict
        assert compared(found[name]) == compared(wanted), name
