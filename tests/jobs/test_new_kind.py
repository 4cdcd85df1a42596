"""A kind of job that the documentation adds, in the real API and worker: kill -9, pause, resume, cancel, its trail."""

import http.client
import json
import os
import re
import signal
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.live import OFFLINE, Upstream, start_server, stop_server, upstream

__all__ = ["upstream"]
ROOT = Path(__file__).parents[2]


class Installation:
    """`bessemer up` with its worker, and a package with the kind on the path as an installer would leave it."""

    def __init__(self, folder: Path, upstream: Upstream) -> None:
        page = (ROOT / "docs" / "extending.md").read_text().split("## A job kind")[1]
        source, table = (page.split(f"```{kind}\n")[1].split("```")[0] for kind in ("python", "toml"))
        site = folder / "site"
        about = site / "counting-1.0.dist-info"
        about.mkdir(parents=True)
        (site / "counting.py").write_text(source)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: counting\nVersion: 1.0\n")
        ((group, entries),) = tomllib.loads(table)["project"]["entry-points"].items()
        lines = [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
        (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
        paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.server = start_server(folder, upstream, env={**OFFLINE, "PYTHONPATH": paths})
        self.url, self.key, self.log = self.server.url, self.server.key, self.server.log

    def kill_worker(self) -> None:
        """Kill it with kill -9; the server starts another."""
        told = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        pids = [event["pid"] for event in told if event["event"] == "child.started"]
        os.kill(pids[-1], signal.SIGKILL)

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
def installation(tmp_path: Path, upstream: Upstream) -> Iterator[Installation]:
    running = Installation(tmp_path, upstream)
    yield running
    stop_server(running.server)


@pytest.mark.long
def test_a_kind_from_outside_is_killed_paused_resumed_and_cancelled(installation: Installation) -> None:
    here = installation
    status, answer = here.ask("POST", "/counts", {"to": 8, "surprise": 1})
    assert (status, answer["error"]["param"]) == (400, "surprise")
    job = here.ask("POST", "/counts", {"to": 8})[1]["id"]
    here.until(job, "running", number=2)
    here.kill_worker()
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


@pytest.mark.long
def test_a_job_outlives_a_database_that_is_gone_for_a_while(installation: Installation) -> None:
    here = installation
    job = here.ask("POST", "/counts", {"to": 6})[1]["id"]
    here.until(job, "running", number=2)
    path, away = here.server.data / "bessemer.db", here.server.data.parent / "away.db"
    path.rename(away)
    time.sleep(3)  # several steps
    away.rename(path)
    ends = time.monotonic() + 60
    while here.ask("GET", f"/counts/{job}")[0] != 200:
        assert time.monotonic() < ends
        time.sleep(0.1)
    assert here.until(job, "succeeded", "failed")["result"] == {"number": 6}
    told = [event["message"] for event in here.get(f"/counts/{job}/events?limit=100")["data"]]
    assert sorted(told) == [f"Counted {number}" for number in range(1, 7)]
