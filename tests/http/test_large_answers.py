"""What is answered is bounded, too: large requests that were taken come back a few at a time, files piece by piece."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.asking import ask, chat, key_of, upload
from tests.live import Server, Upstream, start_server, stop_server

from bessemer.core.settings import Settings
from bessemer.core.types import JobStatus
from bessemer.store import job_rows
from bessemer.store.database import Database
from bessemer.store.job_rows import JobRow

MIB = 1 << 20
TEXTS = ["\n" * (6 * MIB), "word " * MIB, "🙂" * MIB, '"' * (5 * MIB), "small"]
PATIENCE_S = 2.0
"""Generous, for a busy machine."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    started = start_server(tmp_path_factory.mktemp("large"), upstream, "--no-worker")
    yield started
    stop_server(started)


def memory_mb(server: Server, line: str) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition(f"{line}:")[2].split()[0]) / 1024


def test_large_inferences_are_listed_a_few_at_a_time(server: Server) -> None:
    member, app = key_of(server, "member"), key_of(server, "app")
    asked = [chat(server, app, text) for text in TEXTS]
    before, pages, worst = memory_mb(server, "VmHWM"), list[dict[str, Any]](), 0.0

    def listing() -> None:
        after = ""
        while not pages or pages[-1]["has_more"]:
            status, page, _ = ask(server, "GET", f"/v1/inferences?limit=1000{after}", member)
            assert status == 200
            pages.append(page)
            after = f"&after={page['last_id']}"

    thread = threading.Thread(target=listing)
    thread.start()
    while thread.is_alive():
        begun = time.monotonic()
        assert ask(server, "GET", "/healthz", None)[0] == 200
        worst = max(worst, time.monotonic() - begun)
    rows = [row for page in pages for row in page["data"]]
    assert [row["id"] for row in reversed(rows)] == asked
    assert [row["messages"][0]["content"] for row in reversed(rows)] == TEXTS
    assert 1 < len(pages) < len(TEXTS)
    assert worst < PATIENCE_S
    assert memory_mb(server, "VmHWM") - before < 300
    status, row, _ = ask(server, "GET", f"/v1/inferences/{asked[0]}", member)
    assert (status, row["messages"][0]["content"]) == (200, TEXTS[0])


def test_small_inferences_are_listed_as_many_as_were_asked_for(server: Server) -> None:
    app = key_of(server, "app")
    asked = [chat(server, app, f"{n}") for n in range(5)]
    _, page, _ = ask(server, "GET", "/v1/inferences?limit=5", server.key)
    assert [row["id"] for row in reversed(page["data"])] == asked
    assert page["has_more"]


def test_a_file_is_read_while_it_is_sent(server: Server) -> None:
    text = "word " * 4_000
    row = {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "a"}]}
    file = upload(server, server.key, *[row] * 4_000)
    before, parts = memory_mb(server, "VmRSS"), urlsplit(server.url)
    connections = [http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20) for _ in range(4)]
    for connection in connections:
        connection.request("GET", f"/v1/files/{file}/content", headers={"authorization": f"Bearer {server.key}"})
    answers = [connection.getresponse() for connection in connections]
    assert all(answer.read(1) for answer in answers)
    assert memory_mb(server, "VmRSS") - before < 100  # four times 80 MB are on their way
    line = json.dumps(row).encode() + b"\n"
    assert answers[0].headers["content-length"] == str(4_000 * len(line))
    assert answers[0].read() == (line * 4_000)[1:]
    for connection in connections:
        connection.close()


def test_jobs_of_some_metadata_are_listed_a_few_at_a_time(server: Server) -> None:
    database = Database.open(Settings(data=server.data))
    ids = [f"ftjob-{number:02d}" for number in range(40)]
    for number, name in enumerate(ids):
        large = number < 6  # the oldest: pages of others come before them
        row = JobRow(
            id=name,
            kind="fine_tuning",
            request={"model": "m", "training_file": "f", "seed": 1, "method": {"type": "supervised"}},
            status=JobStatus.FAILED,
            created_at=float(number),
            error={"code": "x", "message": "m" * (5 * MIB if large else 10), "param": None},
            metadata={"large": "yes"} if large else {},
        )
        job_rows.insert(database, row)
    database.close()
    pages, after = list[dict[str, Any]](), ""
    while not pages or pages[-1]["has_more"]:
        status, page, _ = ask(server, "GET", f"/v1/fine_tuning/jobs?limit=5&metadata[large]=yes{after}", server.key)
        assert status == 200
        pages.append(page)
        after = f"&after={page['data'][-1]['id']}"
    assert [len(page["data"]) for page in pages] == [3, 3], "an answer holds 16 MiB"
    assert [row["id"] for page in pages for row in page["data"]] == ids[5::-1]
