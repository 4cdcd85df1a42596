"""Several servers of one model: which is asked, what is tried again, and a second try beside a slow first."""

import json
import random
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.asking import ask
from tests.live import Server, Upstream, start_server, stop_server

from bessemer.gateway.breakers import FAILURES
from bessemer.gateway.retries import SAVED
from lab.fake_openai import Script

SLOW_S = 1.0


@pytest.fixture
def server(tmp_path: Path, upstream: Upstream) -> Iterator[Server]:
    with socket.socket() as closed:  # bound, and nobody listens
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"

        def endpoints(*urls: str) -> str:
            return ", ".join(
                f'{{ base_url = "{url}", name = "{name}" }}' for url, name in zip(urls, "abc", strict=False)
            )

        one = "{base_url}"
        toml = "".join(
            f'[models.{name}]\nprovider = "openai"\n{rest}\n'
            for name, rest in {
                "three": f"endpoints = [{endpoints(one, dead, one)}]",
                "again": f'base_url = "{one}"\nretries = 2',
                "hedged": f"endpoints = [{endpoints(one, one)}]\nhedge_after = 0.1",
                "user": f'endpoints = [{endpoints(one, one, one)}]\naffinity = "user"',
                "prefix": f'endpoints = [{endpoints(one, one, one)}]\naffinity = "prefix"',
            }.items()
        )
        toml += '[routes.rescued]\ntargets = ["again"]\nfallbacks = ["three"]\n'
        # Braces of inline tables are not those of the address.
        toml = toml.replace("{ ", "{{ ").replace(" }", " }}")
        running = start_server(tmp_path, upstream, "--no-worker", toml=toml)
        yield running
        stop_server(running)


def chat(server: Server, model: str, text: str = "hi", **more: Any) -> tuple[int, Any, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": text}]} | more
    return ask(server, "POST", "/v1/chat/completions", server.key, json.dumps(body).encode())


def rows(server: Server, route: str) -> list[Any]:
    """Return the records, the oldest first."""
    return ask(server, "GET", f"/v1/inferences?route={route}&limit=100", server.key)[1]["data"][::-1]  # type: ignore[no-any-return]


def test_a_dead_endpoint_is_noticed_by_nobody_and_then_avoided(server: Server) -> None:
    for number in range(60):
        status, answer, _ = chat(server, "three", stream=number % 2 == 0)
        assert status == 200, answer
    calls = [call for row in rows(server, "three") for call in row["calls"]]
    failed = [call for call in calls if call["error"]]
    assert {call["endpoint"] for call in failed} == {"three/b"}
    assert 1 <= len(failed) <= FAILURES
    assert len(calls) - len(failed) == 60
    assert {call["endpoint"] for call in calls if not call["error"]} == {"three/a", "three/c"}
    assert all(row["propensity"] == 1 for row in rows(server, "three"))
    metrics = ask(server, "GET", "/metrics", server.key)[1]
    avoided = len(failed) == FAILURES
    assert (b'bessemer_endpoint_avoided{endpoint="three/b"} 1.0' in metrics) is avoided


def test_a_failure_is_tried_again_and_costs_a_record_of_its_own(server: Server, upstream: Upstream) -> None:
    upstream.scripts.waiting.extend([Script(status=503), Script(status=500), Script(pieces=("fine",))])
    status, answer, _ = chat(server, "again")
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "fine")
    [row] = rows(server, "again")
    assert [bool(call["error"]) for call in row["calls"]] == [True, True, False]
    assert row["output_tokens"] == row["calls"][2]["output_tokens"], "what failed took nothing that is known"
    upstream.scripts.waiting.extend([Script(status=400)])
    assert chat(server, "again")[0] == 400
    assert len(rows(server, "again")[-1]["calls"]) == 1, "the request's own fault"


def test_a_long_retry_after_is_passed_on_and_not_waited_for(server: Server, upstream: Upstream) -> None:
    upstream.scripts.waiting.append(Script(status=429, retry_after="30"))
    status, _, headers = chat(server, "again")
    assert (status, headers["retry-after"]) == (429, "30")
    assert len(rows(server, "again")[-1]["calls"]) == 1


def test_what_was_sent_is_not_sent_again(server: Server, upstream: Upstream) -> None:
    upstream.scripts.waiting.append(Script(pieces=("half", "whole"), break_after=1))
    status, _, _ = chat(server, "again", stream=True)
    assert status == 200
    [row] = rows(server, "again")
    assert (row["output"], len(row["calls"]), row["calls"][0]["estimated"]) == ("half", 1, True)


def test_retries_end_with_their_budget(server: Server, upstream: Upstream) -> None:
    upstream.scripts.waiting.extend(Script(status=503) for _ in range(1000))
    asked = 25
    for _ in range(asked):
        assert chat(server, "again")[0] == 502
    upstream.scripts.waiting.clear()
    tries = sum(len(row["calls"]) for row in rows(server, "again"))
    assert asked < tries <= asked + SAVED + asked * 0.2, "an upstream that fails is not asked three times as often"


def test_a_fallback_answers_where_retries_do_not_help(server: Server, upstream: Upstream) -> None:
    upstream.scripts.waiting.extend([*(Script(status=503) for _ in range(3)), Script(pieces=("rescued",))])
    status, answer, _ = chat(server, "rescued")
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "rescued")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_second_try_answers_for_a_slow_first(server: Server, upstream: Upstream, streamed: bool) -> None:
    upstream.scripts.waiting.extend([Script(pieces=("slow",), first_token_s=SLOW_S), Script(pieces=("quick",))])
    status, _, _ = chat(server, "hedged", stream=streamed)
    assert status == 200
    row = rows(server, "hedged")[-1]
    assert row["output"] == "quick"
    assert row["latency_s"] < SLOW_S
    assert [call["accepted"] for call in row["calls"]] == [False, True]
    assert row["calls"][0]["error"].startswith("hedged: ")
    assert {call["endpoint"] for call in row["calls"]} == {"hedged/a", "hedged/b"}
    assert row["propensity"] == 1


def test_the_first_try_may_still_win_and_both_may_fail(server: Server, upstream: Upstream) -> None:
    upstream.scripts.waiting.extend(
        [Script(pieces=("first",), first_token_s=0.2), Script(pieces=("second",), first_token_s=SLOW_S)]
    )
    assert chat(server, "hedged")[1]["choices"][0]["message"]["content"] == "first"
    upstream.scripts.waiting.extend([Script(status=503, first_token_s=0.2), *(Script(status=503) for _ in range(3))])
    assert chat(server, "hedged")[0] == 502
    assert all(call["error"] for call in rows(server, "hedged")[-1]["calls"])


@pytest.mark.parametrize("affinity", ["user", "prefix"])
def test_what_belongs_together_meets_one_server(server: Server, affinity: str) -> None:
    draws = random.Random(1)
    expected: Counter[str] = Counter()
    for number in range(30):
        who = f"somebody {draws.randrange(6)}"
        text = f"{who}: " + "a long preamble " * 40 + str(number)
        assert chat(server, affinity, text, user=who)[0] == 200
        expected[who] += 1
    met: dict[str, set[str]] = {}
    for row in rows(server, affinity):
        met.setdefault(row["user"], set()).add(row["calls"][0]["endpoint"])
    assert {who: len(endpoints) for who, endpoints in met.items()} == dict.fromkeys(expected, 1)
    assert len(set.union(*met.values())) > 1, "and not all the same"
