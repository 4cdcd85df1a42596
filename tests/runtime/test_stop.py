"""Jobs that are stopped in the middle: with the worker they continue, at their client's wish they end."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.gateway.tiny import tiny_model
from tests.live import MATCHING, OFFLINE, Upstream, start_server, stop_server

from lab.fake_openai import Script

CONFIG = f"""
{MATCHING}
[gate]
max_margin = 0.9

[models.mini]
provider = "openai"
base_url = "{{base_url}}"
price = "none"
prompt = "same"

[models.judge]
provider = "openai"
base_url = "{{base_url}}"
price = "none"

[models.small]
provider = "local"
path = "{{folder}}/tiny"
price = "none"
prompt = "same"
context_tokens = 512
"""
ITEMS = 10
"""In each split."""
YES = Script(pieces=("Yes",))
JUDGE = {
    "type": "score_model",
    "model": "judge",
    "input": [{"role": "user", "content": "How good is {{sample.output_text}}?"}],
}


class Site:
    """An API process, the worker beside it, and a dataset of which half the right answers are Yes."""

    def __init__(self, folder: Path, upstream: Upstream, **environment: str) -> None:
        tiny_model(folder / "tiny")
        self.upstream = upstream
        self.environment = {**OFFLINE, **environment}
        self.server = start_server(folder, upstream, "--no-worker", env=self.environment, toml=CONFIG)
        self.client = self.server.openai()
        self.worker = self.start_worker()
        self.dataset = ""

    def start_worker(self) -> subprocess.Popen[bytes]:
        config = self.server.data.parent / "bessemer.toml"
        command = [sys.executable, "-m", "bessemer", "worker", "--data", str(self.server.data), "--config", str(config)]
        with self.server.log.open("a") as errors:
            return subprocess.Popen(
                command, stderr=errors, env=os.environ | self.environment | {"OMP_NUM_THREADS": "1"}
            )

    def close(self) -> None:
        self.scripts([])  # the upstream is every test's
        self.worker.terminate()
        self.worker.wait(20)
        stop_server(self.server)

    def collect(self) -> None:
        self.scripts([YES] * 3 * ITEMS)
        for split in ("selection", "calibration", "holdout"):
            for number in range(ITEMS):
                extension = {"input": {"item": f"{split} {number}"}, "split": split}
                answer = self.client.chat.completions.create(
                    model="matching", messages=[], extra_body={"bessemer": extension}
                )
                inference = answer.model_extra["bessemer"]["inference_id"]
                self.post("/feedback", {"inference_id": inference, "metric": "verdict", "value": number % 2 == 0})
        self.dataset = self.post("/datasets", {"name": "matches", "route": "matching", "prompt": "same"})["id"]

    def scripts(self, answers: list[Script]) -> deque[Script]:
        """Lay out what the upstream answers next, in place of what an earlier test has left."""
        waiting = self.upstream.scripts.waiting
        waiting.clear()
        waiting.extend(answers)
        return waiting

    def post(self, path: str, body: object = None) -> dict[str, Any]:
        return self.client.post(path, body=body, cast_to=dict[str, Any])

    def get(self, path: str) -> dict[str, Any]:
        return self.client.get(path, cast_to=dict[str, Any])

    def start_job(self, kind: str, **fields: object) -> str:
        """Post a job that asks the large model about ITEMS items; return its path."""
        body: dict[str, object] = {"dataset": self.dataset, "metric": "accuracy", "labels": ["Yes", "No"]}
        if kind == "evaluations":
            body |= {"systems": ["large"], "split": "holdout"}
        else:
            body |= {"route": "matching", "small": "small", "large": "large", "alpha": 0.9, "delta": 0.4}
        return f"/{kind}/{self.post(f'/{kind}', body | fields)['id']}"

    def answered(self, job: str) -> int:
        """Return of how many items the job has the large model's answer."""
        told = [event["data"] for event in self.get(f"{job}/events")["data"] if event["data"]]
        return max((data["done"] for data in told if data["target"] == "large"), default=0)

    def wait(self, reached: Callable[[], object], seconds: float = 120) -> None:
        ends = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < ends, self.server.log.read_text()[-3000:]
            time.sleep(0.05)

    def end_of(self, job: str) -> dict[str, Any]:
        self.wait(lambda: self.get(job)["status"] in {"succeeded", "failed", "cancelled"})
        return self.get(job)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Site]:
    running = Site(tmp_path_factory.mktemp("stop"), upstream)
    try:
        running.collect()
        yield running
    finally:
        running.close()


@pytest.mark.parametrize(("kind", "number"), [("evaluations", signal.SIGTERM), ("cascades", signal.SIGINT)])
def test_a_job_goes_on_where_it_was_when_the_worker_is_back(site: Site, kind: str, number: int) -> None:
    half, since = ITEMS // 2, time.time()
    scripts = site.scripts([YES] * half + [Script(first_token_s=600)] * half)
    job = site.start_job(kind)
    site.wait(lambda: site.answered(job) == half and not scripts)
    site.worker.send_signal(number)
    assert site.worker.wait(20) == 0
    asked = len(site.upstream.fake.bodies)

    scripts.extend([YES] * half)
    site.worker = site.start_worker()
    done = site.end_of(job)
    assert done["status"] == "succeeded", done["error"]
    assert len(site.upstream.fake.bodies) - asked == half
    errors = [row["error"] for row in site.get(f"/inferences?limit=1000&since={since}")["data"] if row["error"]]
    assert not errors, "the stop was taken for a failure"
    if kind == "evaluations":
        (row,) = done["result"]["rows"]
        assert (row["n"], row["unscorable"], row["score"]["value"]) == (ITEMS, 0, 0.5)
    else:
        assert done["result"]["applied"]
        assert len(site.get("/routes/matching")["steps"]) == 2, "who sees the job ended meets its route"


@pytest.mark.parametrize("kind", ["evaluations", "cascades"])
def test_a_cancelled_job_ends_at_the_next_answer(site: Site, kind: str) -> None:
    half = ITEMS // 2
    site.scripts([YES] * half + [Script(pieces=("Yes",), first_token_s=2.0 * (n + 1)) for n in range(half)])
    job = site.start_job(kind)
    site.wait(lambda: site.answered(job) == half)
    site.post(f"{job}/cancel")
    assert site.end_of(job)["status"] == "cancelled"
    assert site.answered(job) < ITEMS


GATE = {"systems": ["large", "mini"], "candidate": "mini", "reference": "large", "margin": 0.9}


@pytest.mark.parametrize(
    ("kind", "stopped", "fields"),
    [
        ("evaluations", "evaluations", GATE),
        ("cascades", "cascades", {"activate": False}),
        ("cascades", "evaluations", {"activate": False}),
    ],
)
def test_a_look_is_spent_when_answers_can_be_read_however_the_job_ends(
    site: Site, kind: str, stopped: str, fields: dict[str, object]
) -> None:
    def look(job: str) -> int:
        result = site.end_of(job)["result"]
        return int(result["gate"]["look"] if kind == "evaluations" else result["look"])

    site.scripts([YES] * 4 * ITEMS)
    before = look(site.start_job(kind, **fields))
    half = ITEMS // 2
    site.scripts([YES] * half + [Script(pieces=("Yes",), first_token_s=2.0 * (n + 1)) for n in range(half)])
    job = site.start_job(stopped, **(fields if kind == stopped else {"split": "calibration"}))
    site.wait(lambda: site.answered(job) == half)
    site.post(f"{job}/cancel")
    assert site.end_of(job)["status"] == "cancelled"
    site.scripts([YES] * 4 * ITEMS)
    assert look(site.start_job(kind, **fields)) == before + 2


def test_a_gate_on_data_that_the_requester_chose_alone_says_that_it_does_not_count(site: Site) -> None:
    site.scripts([YES] * 4 * ITEMS)
    member = site.post("/keys", {"name": "m", "role": "member"})["key"]
    owner, site.client = site.client, site.client.with_options(api_key=member)
    try:
        body = {"name": "theirs", "route": "matching", "prompt": "same"}
        job = site.start_job("evaluations", **(GATE | {"dataset": site.post("/datasets", body)["id"]}))
        rule = site.end_of(job)["result"]["gate"]["rule"]
        warnings = [
            event["message"] for event in site.get(f"{job}/events?limit=99")["data"] if event["level"] == "warn"
        ]
    finally:
        site.client = owner
    assert "does not count for a promotion" in rule
    assert any("will not count for a promotion" in text and "/approve" in text for text in warnings)


@pytest.mark.parametrize("kind", ["evaluations", "cascades"])
def test_a_paused_job_asks_what_is_missing_when_it_is_resumed(site: Site, kind: str) -> None:
    half = ITEMS // 2
    slow = [Script(pieces=("Yes",), first_token_s=2.0 * (n + 1)) for n in range(half)]
    scripts = site.scripts([YES] * half + slow)
    job = site.start_job(kind)
    site.wait(lambda: site.answered(job) == half)
    assert site.get(job)["progress"]["done"] == half
    site.post(f"{job}/pause")
    site.wait(lambda: site.get(job)["status"] == "paused")
    answered, asked = site.answered(job), len(site.upstream.fake.bodies)
    assert answered < ITEMS
    scripts.clear()
    scripts.extend([YES] * ITEMS)
    assert site.post(f"{job}/resume")["status"] == "queued"
    done = site.end_of(job)
    assert done["status"] == "succeeded", done["error"]
    assert len(site.upstream.fake.bodies) - asked <= ITEMS - answered


def test_a_cascade_that_is_cancelled_at_its_last_moment_does_not_go_live(site: Site) -> None:
    certain = Script(pieces=("1",))
    site.scripts([YES] * ITEMS + [Script(pieces=("1",), first_token_s=4)] + [certain] * 6 * ITEMS)
    job = site.start_job("cascades", route="unwanted", metric="reward", grader=JUDGE)
    site.wait(lambda: site.answered(job) == ITEMS)
    site.post(f"{job}/cancel")  # while the answers are graded
    assert site.end_of(job)["status"] == "cancelled"
    assert "unwanted" not in [route["name"] for route in site.get("/routes")["data"]]


def test_a_small_model_over_http_is_calibrated_by_the_log_probabilities_it_is_asked_for(site: Site) -> None:
    site.scripts([Script(pieces=("Yes",), logprobs=(-0.1,))] * 4 * ITEMS)
    before = len(site.upstream.fake.bodies)
    ended = site.end_of(site.start_job("cascades", small="mini", score="mean_logprob", route="over-http"))
    assert ended["status"] == "succeeded", ended["error"]
    asked = [msgspec.json.decode(body) for body in site.upstream.fake.bodies[before:]]
    assert {body["model"] for body in asked if body.get("logprobs")} == {"mini"}


def test_a_guarantee_names_what_it_bounds(site: Site) -> None:
    site.scripts([Script(pieces=("1",))] * 8 * ITEMS)
    before = len(site.upstream.fake.bodies)
    job = site.start_job("cascades", route="judged", metric="reward", grader=JUDGE, rule="error")
    done = site.end_of(job)
    asked = [msgspec.json.decode(body)["model"] for body in site.upstream.fake.bodies[before:]]
    assert asked == ["judge"] * 2 * ITEMS, "each answer of the two splits is judged once"
    assert all(event["id"].startswith("event-") for event in site.get(f"{job}/events")["data"])
    assert done["status"] == "succeeded", done["error"]
    assert done["result"]["guarantee"]["metric"] == "reward"
    assert "the expected error (1 − reward) of accepted answers" in done["result"]["guarantee"]["statement"]


@pytest.mark.parametrize("kind", ["evaluations", "cascades"])
def test_an_upstream_that_is_down_for_a_moment_fails_no_job(site: Site, kind: str) -> None:
    site.scripts([Script(status=429), Script(status=503), Script(break_after=0), *[YES] * ITEMS])
    done = site.end_of(site.start_job(kind))
    assert done["status"] == "succeeded", done["error"]
    if kind == "evaluations":
        assert done["result"]["rows"][0]["unscorable"] == 0


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ["evaluations", "cascades"])
def test_a_job_on_postgresql_goes_on_after_its_worker_was_killed(
    tmp_path: Path, upstream: Upstream, postgres_url: str, kind: str
) -> None:
    running = Site(tmp_path, upstream, BESSEMER_DATABASE_URL=postgres_url)
    try:
        running.collect()
        half = ITEMS // 2
        scripts = running.scripts([YES] * half + [Script(first_token_s=600)] * half)
        job = running.start_job(kind)
        running.wait(lambda: running.answered(job) == half and not scripts)
        running.worker.kill()
        running.worker.wait(20)
        scripts.extend([YES] * half)
        running.worker = running.start_worker()
        done = running.end_of(job)
        assert done["status"] == "succeeded", done["error"]
    finally:
        running.close()
