"""OpenAI's batches with the real client: files of requests answered by the worker, and the files that come of them."""

import io
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from openai import OpenAI
from openai.types import Batch
from tests.asking import ask, key_of
from tests.live import Server, Upstream, start_server, stop_server

from lab.fake_openai import Script

TOML = """
[models.small]
provider = "openai"
base_url = "{base_url}"
[routes.assistant]
targets = ["small"]
"""
ENDED = {"completed", "failed", "expired", "cancelled"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("batches"), upstream, toml=TOML)
    yield running
    stop_server(running)


@pytest.fixture
def client(server: Server, upstream: Upstream) -> OpenAI:
    upstream.scripts.waiting.clear()
    upstream.fake.bodies.clear()
    return server.openai()


def line(number: int, **more: Any) -> dict[str, Any]:
    body = {"model": "assistant", "messages": [{"role": "user", "content": f"question {number}"}]}
    return {"custom_id": f"ask-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body} | more


def uploaded(client: OpenAI, *lines: Any) -> str:
    content = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines).encode()
    return client.files.create(file=("batch.jsonl", io.BytesIO(content)), purpose="batch").id


def made(client: OpenAI, file: str, **more: Any) -> Batch:
    given: dict[str, Any] = {"endpoint": "/v1/chat/completions", "completion_window": "24h"} | more
    return client.batches.create(input_file_id=file, **given)


def ended(client: OpenAI, batch: Batch, timeout_s: float = 30) -> Batch:
    deadline = time.monotonic() + timeout_s
    while (found := client.batches.retrieve(batch.id)).status not in ENDED:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def lines_of(client: OpenAI, file: str | None) -> list[dict[str, Any]]:
    assert file is not None
    return [json.loads(each) for each in client.files.content(file).text.splitlines()]


def test_a_batch_is_answered_and_what_fails_is_told_apart(client: OpenAI, server: Server, upstream: Upstream) -> None:
    wrong = line(3, body={"model": "nobody", "messages": []})
    batch = made(client, uploaded(client, line(1), line(2), wrong), metadata={"team": "search"})
    assert batch.object == "batch"
    assert batch.status == "validating"
    assert batch.expires_at == batch.created_at + 86_400
    found = ended(client, batch)
    assert (found.status, found.metadata) == ("completed", {"team": "search"})
    assert found.request_counts is not None
    assert found.request_counts.model_dump() == {"total": 3, "completed": 2, "failed": 1}
    assert found.in_progress_at and found.finalizing_at and found.completed_at
    answers = {each["custom_id"]: each for each in lines_of(client, found.output_file_id)}
    assert set(answers) == {"ask-1", "ask-2"}
    response = answers["ask-1"]["response"]
    assert (response["status_code"], answers["ask-1"]["error"]) == (200, None)
    assert response["body"]["choices"][0]["message"]["content"] == "ok"
    assert response["request_id"]
    [refused] = lines_of(client, found.error_file_id)
    assert refused["custom_id"] == "ask-3"
    assert refused["response"]["status_code"] in {400, 404}
    assert refused["response"]["body"]["error"]["message"]
    kept = ask(server, "GET", "/v1/inferences?limit=10", server.key)[1]["data"]
    assert {row["messages"][0]["content"] for row in kept} >= {"question 1", "question 2"}
    assert {row["key_id"] for row in kept} == {kept[0]["key_id"]}, "recorded as the key's own"
    assert client.files.retrieve(found.output_file_id or "").purpose == "batch_output"
    assert next(one.id for one in client.batches.list(limit=1)) == batch.id


@pytest.mark.parametrize(
    ("lines", "code", "at"),
    [
        ([line(1), "{not json"], "invalid_json_line", 2),
        ([line(1), line(1)], "duplicate_custom_id", 2),
        ([line(1, method="GET")], "invalid_method", 1),
        ([line(1, url="/v1/embeddings")], "mismatched_endpoint", 1),
        ([line(1), {"custom_id": "x"}], "invalid_request", 2),
        ([line(1, custom_id="")], "invalid_custom_id", 1),
        (["\n"], "empty_file", None),
    ],
)
def test_a_file_with_a_fault_is_asked_nothing(
    client: OpenAI, upstream: Upstream, lines: list[Any], code: str, at: int | None
) -> None:
    found = ended(client, made(client, uploaded(client, *lines)))
    assert found.status == "failed"
    assert found.errors is not None and found.errors.data
    assert [(one.code, one.line) for one in found.errors.data] == [(code, at)]
    assert found.failed_at
    assert upstream.fake.bodies == []


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"endpoint": "/v1/nothing"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "output_expires_after.seconds"),
    ],
)
def test_what_cannot_be_is_refused_at_once(client: OpenAI, more: dict[str, Any], param: str) -> None:
    given: dict[str, Any] = {
        "input_file_id": uploaded(client, line(1)),
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as raised:
        client.batches.create(**(given | more))
    assert raised.value.param == param


def test_a_file_of_another_purpose_is_refused(client: OpenAI) -> None:
    row = b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}'
    file = client.files.create(file=("t.jsonl", row), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="purpose"):
        made(client, file.id)


def test_a_cancelled_batch_keeps_what_was_answered(client: OpenAI, upstream: Upstream) -> None:
    upstream.scripts.waiting.extend(Script(first_token_s=0.0 if number < 3 else 20) for number in range(40))
    batch = made(client, uploaded(client, *(line(number) for number in range(40))))
    deadline = time.monotonic() + 20
    while (counts := client.batches.retrieve(batch.id).request_counts) is None or counts.completed < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert client.batches.cancel(batch.id).status == "cancelling"
    found = ended(client, batch)
    assert found.status == "cancelled"
    assert found.cancelled_at
    assert len(lines_of(client, client.batches.retrieve(batch.id).output_file_id)) == 3


@pytest.mark.long
def test_an_expired_batch_tells_what_was_not_asked(client: OpenAI, upstream: Upstream) -> None:
    upstream.scripts.waiting.extend(Script(first_token_s=0.0 if number < 3 else 300) for number in range(40))
    batch = made(client, uploaded(client, *(line(number) for number in range(40))), completion_window="1m")
    assert batch.expires_at == batch.created_at + 60
    found = ended(client, batch, 90)
    assert found.status == "expired"
    assert found.expired_at
    assert len(lines_of(client, found.output_file_id)) == 3
    left = lines_of(client, found.error_file_id)
    assert {each["error"]["code"] for each in left} == {"batch_expired"}
    assert {each["custom_id"] for each in left} == {f"ask-{number}" for number in range(3, 40)}


def test_what_may_pass_is_asked_again(client: OpenAI, upstream: Upstream) -> None:
    upstream.scripts.waiting.extend([Script(status=429), Script(status=503), Script(pieces=("at last",))])
    found = ended(client, made(client, uploaded(client, line(1))))
    [answer] = lines_of(client, found.output_file_id)
    assert answer["response"]["body"]["choices"][0]["message"]["content"] == "at last"


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/embeddings", {"model": "assistant", "input": "hi"}),
        ("/v1/responses", {"model": "assistant", "input": "hi", "store": False}),
        ("/v1/messages", {"model": "assistant", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
    ],
)
def test_the_other_dialects(client: OpenAI, endpoint: Any, body: dict[str, Any]) -> None:
    found = ended(client, made(client, uploaded(client, line(1, url=endpoint, body=body)), endpoint=endpoint))
    [answer] = lines_of(client, found.output_file_id)
    assert answer["response"]["body"]["object" if endpoint != "/v1/messages" else "type"]


def test_of_another_project_there_is_nothing(client: OpenAI, server: Server) -> None:
    batch = made(client, uploaded(client, line(1)))
    other = server.openai(key_of(server, "member", project="elsewhere"))
    with pytest.raises(openai.NotFoundError):
        other.batches.retrieve(batch.id)
    with pytest.raises(openai.NotFoundError):
        made(other, batch.input_file_id)
    ended(client, batch)


@pytest.mark.parametrize("purpose", ["assistants", "vision", "user_data", "evals", "batch"])
def test_files_of_every_purpose_come_back_as_they_were_sent(client: OpenAI, purpose: Any) -> None:
    content = bytes(range(256))
    file = client.files.create(
        file=("x.bin", content), purpose=purpose, expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert (file.purpose, file.bytes, file.status) == (purpose, 256, "processed")
    assert file.expires_at == file.created_at + 3600
    assert client.files.content(file.id).read() == content
    assert file.id in [each.id for each in client.files.list(purpose=purpose)]
    assert client.files.delete(file.id).deleted


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"purpose": "anything"}, "purpose"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "now", "seconds": 3600}}, "expires_after.anchor"),
    ],
)
def test_files_that_cannot_be_are_refused_by_name(client: OpenAI, more: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.files.create(**({"file": ("x", b"1"), "purpose": "user_data"} | more))
    assert raised.value.param == param


@pytest.mark.long
def test_a_killed_worker_loses_no_line_and_repeats_none(tmp_path: Path, upstream: Upstream) -> None:
    upstream.scripts.waiting.clear()
    here = start_server(tmp_path, upstream, toml=TOML)
    try:
        client = here.openai()
        count = 3000
        batch = made(client, uploaded(client, *(line(number) for number in range(count))))
        kills = 0
        while (found := client.batches.retrieve(batch.id)).status not in ENDED:
            counts = found.request_counts
            if kills < 3 and counts is not None and counts.completed > kills * count // 4:
                children = psutil.Process(here.process.pid).children(recursive=True)
                for worker in (one for one in children if "worker" in one.cmdline()):
                    os.kill(worker.pid, signal.SIGKILL)
                    kills += 1
            time.sleep(0.1)
        assert kills == 3
        assert found.status == "completed"
        answers = [each["custom_id"] for each in lines_of(client, found.output_file_id)]
        assert len(answers) == count
        assert set(answers) == {f"ask-{number}" for number in range(count)}
        asked_twice = len(upstream.fake.bodies) - count
        assert asked_twice <= kills * 8 + 8, "only what was under way at a kill is asked again"
    finally:
        upstream.fake.bodies.clear()
        stop_server(here)
