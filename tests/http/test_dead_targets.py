"""A route whose targets fail: another target of the step answers, and the one that fails is left alone."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.asking import ask
from tests.live import Server, Upstream, start_server, stop_server

from bessemer.gateway.breakers import FAILURES
from lab.fake_openai import Script


@pytest.fixture
def server(tmp_path: Path, upstream: Upstream) -> Iterator[Server]:
    with socket.socket() as closed:  # bound, and nobody listens
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        models = {"one": "{base_url}", "two": "{base_url}", "dead": dead}
        toml = "".join(
            f'[models.{name}]\nprovider = "openai"\nbase_url = "{url}"\nupstream_model = "{name}"\n'
            for name, url in models.items()
        )
        toml += '[routes.any]\ntargets = ["one", "two", "dead"]\n'
        toml += '[routes.pair]\ntargets = ["one"]\nfallbacks = ["two"]\n'
        toml += '[routes.chain]\ntargets = ["dead"]\nfallbacks = ["dead", "one"]\n'
        running = start_server(tmp_path, upstream, "--no-worker", toml=toml)
        yield running
        stop_server(running)


def chat(server: Server, model: str, **more: Any) -> tuple[int, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]} | more
    status, answer, _ = ask(server, "POST", "/v1/chat/completions", server.key, json.dumps(body).encode())
    return status, answer


def rows(server: Server, route: str) -> list[Any]:
    return ask(server, "GET", f"/v1/inferences?route={route}&limit=100", server.key)[1]["data"]  # type: ignore[no-any-return]


def test_one_of_three_targets_is_dead_and_nobody_notices(server: Server) -> None:
    for number in range(60):
        status, answer = chat(server, "any", stream=number % 2 == 0)
        assert status == 200, answer
    recorded = rows(server, "any")
    calls = [call for row in recorded for call in row["calls"]]
    failed = [call for call in calls if call["error"]]
    assert {call["version"].partition("@")[0] for call in failed} == {"dead"}
    assert len(failed) == FAILURES, "then it is left alone"
    assert len(calls) - len(failed) == len(recorded) == 60
    for row in recorded:
        shares = [call["propensity"] for call in row["calls"]]
        assert shares in ([pytest.approx(1 / 3)], [pytest.approx(1 / 3), 0.5], [0.5]), shares
    told = [json.loads(line) for line in server.log.read_text().splitlines() if "model_avoided" in line]
    assert [line["model"] for line in told] == ["dead"]


def test_where_nothing_else_is_left_the_dead_are_asked_too(server: Server, upstream: Upstream) -> None:
    for _ in range(2 * FAILURES):
        assert chat(server, "dead")[0] == 502
    assert chat(server, "chain")[0] == 200
    assert [len(row["calls"]) for row in rows(server, "chain")] == [1], "nobody waits for what fails"
    upstream.scripts.waiting.append(Script(status=503))
    assert chat(server, "chain")[0] == 502
    assert len(rows(server, "chain")[0]["calls"]) == 2


OTHERS_MAY = [401, 402, 403, 404, 405, 408, 409, 425, 429, 451, 500, 501, 502, 503, 504, 529]
AT_FAULT = [400, 413, 422]


@pytest.mark.parametrize("streamed", [False, True])
def test_the_matrix_of_what_falls_back(server: Server, upstream: Upstream, *, streamed: bool) -> None:
    ways: dict[str, Any] = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
        "/v1/responses": {"input": "hi", "store": False},
        "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
    }
    if not streamed:
        ways["/v1/embeddings"] = {"input": "hi"}
    for path, body in ways.items():
        sent = json.dumps({"model": "pair"} | body | ({"stream": True} if streamed else {})).encode()
        failures = [Script(status=status) for status in OTHERS_MAY]
        if path != "/v1/embeddings":
            failures += [Script(break_after=0)] if streamed else []
        for failure in failures:
            upstream.scripts.waiting.extend([failure, Script(pieces=("saved",))])
            status, answer, _ = ask(server, "POST", path, server.key, sent)
            assert (status, len(upstream.scripts.waiting)) == (200, 0), (path, failure, answer)
            for _ in range(2):  # so that its breaker stays closed
                assert chat(server, "one")[0] == 200
        for wrong in AT_FAULT:
            upstream.scripts.waiting.append(Script(status=wrong))
            status, answer, _ = ask(server, "POST", path, server.key, sent)
            assert status == 400, (path, wrong, answer)
