"""A kind of job that the documentation adds, in the real API and worker: kill -9, pause, resume, cancel, its trail."""

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.server.live import OFFLINE

ROOT = Path(__file__).parents[2]
OUTSIDE = Path(__file__).with_name("outside.py")


class Installation:
    """The API of an installation with the kind, and a worker that can be killed."""

    def __init__(self, folder: Path) -> None:
        page = (ROOT / "docs" / "extending.md").read_text().split("## Add a job kind")[1]
        self.kind = folder / "counting.py"
        self.kind.write_text(page.split("```python\n")[1].split("```")[0])
        self.data = folder / "data"
        self.log = folder / "log"
        self.api = self.start("up")
        assert self.api.stdout is not None
        self.url = self.api.stdout.readline().strip()
        assert self.url, self.log.read_text()
        self.key = (self.data / "admin.key").read_text().strip()
        self.worker = self.start("worker")

    def start(self, verb: str) -> "subprocess.Popen[str]":
        command = [sys.executable, str(OUTSIDE), verb, str(self.kind), str(self.data)]
        pipe = subprocess.PIPE if verb == "up" else None
        with self.log.open("a") as log:
            return subprocess.Popen(command, stdout=pipe, stderr=log, text=True, env=os.environ | OFFLINE)

    def kill_worker(self) -> None:
        self.worker.kill()
        self.worker.wait(20)

    def close(self) -> None:
        for process in (self.worker, self.api):
            process.terminate()
            process.wait(20)
        assert self.api.stdout is not None
        self.api.stdout.close()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        content = None if body is None else json.dumps(body).encode()
        connection.request(method, f"/v1{path}", content, {"authorization": f"Bearer {self.key}"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        return response.status, answer

    def get(self, path: str) -> Any:
        status, answer = self.ask("GET", path)
        assert status == 200, answer
        return answer

    def until(self, job: str, *statuses: str, number: int = 0) -> Any:
        ends = time.monotonic() + 120
        while (row := self.get(f"/counts/{job}"))["status"] not in statuses or (
            number and row.get("progress", {"number": 0})["number"] < number
        ):
            assert time.monotonic() < ends, self.log.read_text()[-3000:]
            time.sleep(0.05)
        return row


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    running = Installation(tmp_path)
    yield running
    running.close()


@pytest.mark.long
def test_a_kind_from_outside_is_killed_paused_resumed_and_cancelled(installation: Installation) -> None:
    here = installation
    status, answer = here.ask("POST", "/counts", {"to": 8, "surprise": 1})
    assert (status, answer["error"]["param"]) == (400, "surprise")
    job = here.ask("POST", "/counts", {"to": 8})[1]["id"]
    here.until(job, "running", number=2)
    here.kill_worker()
    here.worker = here.start("worker")
    here.until(job, "running", number=4)
    assert here.ask("POST", f"/counts/{job}/pause")[0] == 200
    paused = here.until(job, "paused")
    assert paused["progress"]["number"] < 8
    assert here.ask("POST", f"/counts/{job}/resume")[1]["status"] == "queued"
    done = here.until(job, "succeeded")
    assert done["result"] == {"number": 8}
    assert "progress" not in done
    told = [event["message"] for event in here.get(f"/counts/{job}/events?limit=100")["data"]]
    assert sorted(told) == sorted([*(f"Counted {number}" for number in range(1, 9)), "The job is paused."])

    endless = here.ask("POST", "/counts", {"to": 1000})[1]["id"]
    here.until(endless, "running", number=1)
    here.ask("POST", f"/counts/{endless}/cancel")
    here.until(endless, "cancelled")
    assert [row["id"] for row in here.get("/counts")["data"]] == [endless, job]
    trail = [(event["action"], event["subject"], event["actor"]) for event in reversed(here.get("/audit")["data"])]
    jobs = [
        (action, subject, re.sub("-.*", "", actor)) for action, subject, actor in trail if subject in {job, endless}
    ]
    assert jobs == [
        ("job.created", job, "key"),
        ("job.paused", job, "key"),
        ("job.resumed", job, "key"),
        ("job.finished", job, "system"),
        ("job.created", endless, "key"),
        ("job.cancelled", endless, "key"),
        ("job.finished", endless, "system"),
    ]
