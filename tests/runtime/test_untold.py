"""No change without its audit event: all transactions of a server and its worker, through the lives of jobs."""

import inspect
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.asking import ask, chat, key_of, upload
from tests.http.test_plans import WORKLOAD
from tests.live import CONFIG, MATCHING, OFFLINE, Server, Upstream, start_server, stop_server, upstream
from tests.store import untold

from bessemer.store.database import Database
from bessemer.store.schema import metadata
from lab.fake_openai import Script

__all__ = ["upstream"]


def row(number: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"Q{number}"}, {"role": "assistant", "content": "Yes"}]}


def test_every_table_is_said_to_be_told_of_or_not() -> None:
    assert untold.TOLD | set(untold.UNTOLD) == set(metadata.tables)
    assert not untold.TOLD & set(untold.UNTOLD)


def test_a_change_without_an_event_is_seen(sqlite_database: Database) -> None:
    seen: list[str] = []
    untold.watch(sqlite_database._engine, seen.append)
    with sqlite_database.transaction() as connection:
        connection.exec_driver_sql("INSERT INTO files VALUES ('file-1', 1.0, 'fine-tune', '{}', 'proj_default', NULL)")
    assert seen == ["INSERT INTO files"]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[tuple[Server, Path]]:
    """A server with its worker, and the file of what they changed without a word."""
    folder = tmp_path_factory.mktemp("untold")
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(inspect.getsource(untold))
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    told = folder / "untold.txt"
    env = {**OFFLINE, "PYTHONPATH": paths, "UNTOLD": str(told)}
    running = start_server(folder, upstream, env=env, toml=CONFIG + MATCHING)
    yield running, told
    stop_server(running)


@pytest.mark.long
def test_no_change_is_without_its_event(watched: tuple[Server, Path]) -> None:
    server, told = watched

    def post(path: str, body: Any = None) -> Any:
        status, answer, _ = ask(server, "POST", f"/v1{path}", server.key, json.dumps(body or {}).encode())
        assert status == 200, answer
        return answer

    def ended(path: str, job: Any) -> Any:
        ends = time.monotonic() + 120
        while (row := ask(server, "GET", f"/v1{path}/{job['id']}", server.key)[1])["status"] not in (
            "succeeded",
            "failed",
            "cancelled",
        ):
            assert time.monotonic() < ends, server.log.read_text()[-3000:]
            time.sleep(0.1)
        return row["status"]

    key_of(server, "member")
    inference = chat(server, server.key, "hello")
    post("/feedback", {"inference_id": inference, "metric": "verdict", "value": True})
    file_id = upload(server, server.key, *map(row, range(8)))
    dataset = post("/datasets", {"name": "d", "file_id": file_id, "splits": {"holdout": 0.5, "calibration": 0.5}})["id"]
    for _ in range(100):
        server.upstream.scripts.waiting.append(Script(pieces=("Yes",)))
    measured = {"dataset": dataset, "metric": "accuracy", "labels": ["Yes", "No"]}
    evaluation = post("/evaluations", measured | {"systems": ["assistant"]})
    assert ended("/evaluations", evaluation) == "succeeded"
    cascade = post("/cascades", measured | {"route": "r", "small": "upstream", "large": "large", "alpha": 0.05})
    assert ended("/cascades", cascade) in {"succeeded", "failed"}
    assert ended("/plans/jobs", post("/plans/jobs", WORKLOAD)) == "succeeded"
    tuning = post("/fine_tuning/jobs", {"model": "small", "training_file": file_id})
    assert ended("/fine_tuning/jobs", tuning) == "failed"  # there are no weights
    post("/routes", {"name": "new", "targets": ["upstream"]})
    post("/erasures", {"inference_ids": [inference]})
    server.upstream.scripts.waiting.clear()
    assert not told.exists(), told.read_text()
    events = ask(server, "GET", "/v1/audit?limit=1000", server.key)[1]["data"]
    named = {event["action"] for event in events}
    assert {"api_key.created", "version.created", "evaluation.created", "job.finished", "subject.erased"} <= named
    finished = [event["subject"] for event in events if event["action"] == "job.finished"]
    assert len(finished) == len(set(finished)) == 4
