"""One turn of the flywheel through public interfaces, on a tiny random model: killed with kill -9 while it trains."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import openai
import pytest
from openai import OpenAI
from tests.gateway.tiny import tiny_model

CONFIG = """
[models.tiny]
provider = "local"
path = "{path}"
price = "hour"
context_tokens = 512

[models.large]
provider = "local"
path = "{path}"
price = "hour"
context_tokens = 512
prompt = "same"

[prices.hour]
source = "a test"
date = "2026-01-01"
per_hour = 0.09

[prompts.same]
user = "{{{{input.left}}}} {{{{input.right}}}}"
choices = ["Yes", "No"]

[gate]  # a handful of items
max_margin = 0.9
min_items = 5
min_discordant = 0

[routes.matching]
targets = [{{ model = "tiny", prompt = "same" }}]
"""
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
GRADER = {"type": "feedback", "name": "verdicts", "labels": ["Yes", "No"]}
ITEMS = 90


class Installation:
    """A data folder with a server that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.data, self.log = folder / "data", folder / "server.log"
        self.inferences: list[str] = []
        self.feedback: list[str] = []
        """Ids of what it took, over all tests and restarts."""
        self.config = folder / "bessemer.toml"
        self.config.write_text(CONFIG.format(path=tiny_model(folder / "tiny")))
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "bessemer", "up", "--port", "0"]
        with self.log.open("a") as errors:
            self.process = subprocess.Popen(
                [*command, "--data", str(self.data), "--config", str(self.config)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | OFFLINE | {"OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        assert self.process.stdout is not None
        found = re.search(r"http://\S+", self.process.stdout.readline())
        assert found is not None, self.log.read_text()
        key = (self.data / "admin.key").read_text().strip()
        self.client = OpenAI(base_url=f"{found[0]}/v1", api_key=key, max_retries=2, timeout=60)

    def kill(self) -> None:
        """Kill -9 the server and its worker at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def cli(self, *arguments: str) -> dict:
        done = subprocess.run(
            [sys.executable, "-m", "bessemer", *arguments, "--data", str(self.data), "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def post(self, path: str, body: dict) -> dict:
        return self.client.post(path, body=body, cast_to=dict[str, object])

    def ask(self, model: str, left: str, right: str) -> str:
        """Return the answer of a model."""
        answer = self.client.chat.completions.create(
            model=model,
            messages=[],
            temperature=0,
            extra_body={"bessemer": {"input": {"left": left, "right": right}}},
        )
        self.inferences.append(answer.model_extra["bessemer"]["inference_id"])
        return answer.choices[0].message.content

    def judge(self, metric: str, value: object) -> None:
        """Give feedback on the latest answer."""
        given = self.post("/feedback", {"inference_id": self.inferences[-1], "metric": metric, "value": value})
        self.feedback.append(given["id"])

    def listed(self, path: str) -> list[dict]:
        """Return all rows of a list, page by page."""
        rows: list[dict] = []
        while True:
            after = f"&after={rows[-1]['id']}" if rows else ""
            page = self.get(f"{path}?limit=100{after}")
            rows += page["data"]
            if not page["has_more"]:
                return rows

    def get(self, path: str) -> dict:
        return self.client.get(path, cast_to=dict[str, object])

    def wait(self, path: str, seconds: float = 90) -> dict:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            job = self.get(path)
            if job["status"] in {"succeeded", "failed", "cancelled"}:
                assert job["status"] == "succeeded", (job.get("error"), self.log.read_text()[-2000:])
                return job
            time.sleep(0.2)
        raise AssertionError(f"{path} did not end: {self.log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    running = Installation(tmp_path_factory.mktemp("turn"))
    yield running
    running.stop()


def traffic(installation: Installation) -> None:
    for index in range(ITEMS):
        same = index % 3 == 0
        left, right = f"m{index}", f"{'yy' if same else 'nn'}{index}"
        said = installation.ask("matching", left, right)
        assert said in {"Yes", "No"}
        installation.judge("verdict", (said == "Yes") == same)
        if index == 0:
            installation.judge("comment", "clear case")
            installation.judge("seconds_saved", 12.5)


def matches(installation: Installation) -> dict:
    """Return a dataset of fresh traffic."""
    traffic(installation)
    request = {"name": "matches", "route": "matching", "prompt": "same"}
    request["splits"] = {"train": 0.5, "selection": 0.15, "calibration": 0.2, "holdout": 0.15}
    return installation.post("/datasets", request)


def test_one_turn(installation):
    dataset = matches(installation)
    assert sum(dataset["counts"].values()) == ITEMS

    job = installation.client.fine_tuning.jobs.create(
        model="tiny",
        training_file=dataset["files"]["train"],
        validation_file=dataset["files"]["selection"],
        suffix="matcher",
        seed=7,
        method={
            "type": "reinforcement",
            "reinforcement": {"grader": GRADER, "hyperparameters": {"n_epochs": 50, "batch_size": 2}},
        },
        metadata={"bessemer.metric": "f1", "bessemer.positive": "Yes"},
    )
    wait_for_steps(installation, job.id, 20)
    installation.kill()
    installation.start()
    done = installation.wait(f"/fine_tuning/jobs/{job.id}")
    check_job(installation, job.id, done)

    digits = done["fine_tuned_model"].rpartition(":")[2]
    tuned = next(row for row in installation.get("/versions")["data"] if row["id"].endswith(f"@{digits}"))
    evaluation = evaluate(installation, dataset["id"], tuned["id"])
    assert evaluation["result"]["gate"]["passed"]

    for alias in ("challenger", "champion"):
        promoted = installation.post(f"/versions/{tuned['id']}/promote", {"alias": alias})
        assert promoted["version"] == tuned["id"]

    cascade = {"route": "matching", "small": "matcher:champion", "large": "large", "dataset": dataset["id"]}
    cascade |= {"metric": "accuracy", "labels": ["Yes", "No"], "rule": "loss", "alpha": 0.9, "delta": 0.4}
    job_row = installation.post("/cascades", cascade)
    result = installation.wait(f"/cascades/{job_row['id']}")["result"]
    assert result["small"] == tuned["id"]
    assert result["applied"] == (result["threshold"] is not None)

    installation.post("/models/matcher/rollback", {"alias": "champion"})
    assert not [row for row in installation.get("/aliases")["data"] if row["name"] == "champion"]


def test_a_file_of_demonstrations_alone_is_enough(installation, tmp_path):
    """As OpenAI's quick start does it: no validation file, no metadata; the last step is a checkpoint."""
    row = {"messages": [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "ba"}]}
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(row)}\n" * 10)
    jobs = installation.client.fine_tuning.jobs
    file = installation.client.files.create(file=path, purpose="fine-tune")
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 5}}}
    job = jobs.create(model="tiny", training_file=file.id, method=method, suffix="quick")
    installation.wait(f"/fine_tuning/jobs/{job.id}")
    (checkpoint,) = jobs.checkpoints.list(job.id).data
    assert checkpoint.step_number == 4
    assert checkpoint.fine_tuned_model_checkpoint == jobs.retrieve(job.id).fine_tuned_model


def test_demonstrations_are_read_anew_and_the_version_leaves_out_what_it_was_told_to(installation, tmp_path):
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{brand} lid"},
                {"role": "assistant", "content": json.dumps({"Brand": brand})},
            ],
            "input": {"kind": "lid"},
        }
        for brand in ("Acme", "Zeta", "Kroger", "Stash")
    ]
    content = "\n".join(map(json.dumps, rows)).encode()
    client = installation.client
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=client.files.create(file=("rows.jsonl", content), purpose="fine-tune").id,
        suffix="brands",
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 4}}},
        metadata={
            "bessemer.mention_replacement": "1",
            "bessemer.mention_group": "kind",
            "bessemer.field_threshold": "0.5",
        },
    )
    done = installation.wait(f"/fine_tuning/jobs/{job.id}")
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=100))
    assert sum(event.data["rows_replaced"] for event in events if event.type == "metrics") > 0
    digits = done["fine_tuned_model"].rpartition(":")[2]
    (version,) = (row for row in installation.get("/versions")["data"] if row["id"].endswith(f"@{digits}"))
    assert version["field_threshold"] == 0.5


def test_f1_of_answers_that_are_no_choices_is_refused_by_name(installation):
    rows = [{"messages": [{"role": "user", "content": f"n {i}"}]} for i in range(4)]
    content = "\n".join(map(json.dumps, rows)).encode()
    client = installation.client
    grader = {
        "type": "string_check",
        "name": "g",
        "input": "{{sample.output_text}}",
        "reference": "a",
        "operation": "eq",
    }
    with pytest.raises(openai.BadRequestError, match="needs a prompt or version with choices") as refused:
        client.fine_tuning.jobs.create(
            model="tiny",
            training_file=client.files.create(file=("rows.jsonl", content), purpose="fine-tune").id,
            method={"type": "reinforcement", "reinforcement": {"grader": grader}},
            metadata={"bessemer.metric": "f1"},
        )
    assert refused.value.param == "metadata"


@pytest.mark.long
def test_an_evaluation_does_not_wait_for_training(installation):
    rows = [
        {"messages": [{"role": "user", "content": f"n {i}"}, {"role": "assistant", "content": "m"}]} for i in range(900)
    ]
    content = "\n".join(map(json.dumps, rows)).encode()
    client = installation.client
    file = client.files.create(file=("rows.jsonl", content), purpose="fine-tune")
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 50, "batch_size": 2}}}
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id, method=method)
    wait_for_steps(installation, job.id, 3)
    request = {
        "dataset": matches(installation)["id"],
        "systems": ["matching"],
        "metric": "accuracy",
        "labels": ["Yes", "No"],
    }
    row = installation.post("/evaluations", request | {"split": "holdout"})
    installation.wait(f"/evaluations/{row['id']}")
    assert client.fine_tuning.jobs.retrieve(job.id).status == "running"
    client.fine_tuning.jobs.cancel(job.id)
    ends = time.monotonic() + 60
    while client.fine_tuning.jobs.retrieve(job.id).status != "cancelled" and time.monotonic() < ends:
        time.sleep(0.2)
    assert client.fine_tuning.jobs.retrieve(job.id).status == "cancelled"


def wait_for_steps(installation: Installation, job_id: str, steps: int) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        events = installation.client.fine_tuning.jobs.list_events(job_id, limit=1).data
        if events and events[0].type == "metrics" and events[0].data["step"] >= steps:
            return
        row = installation.client.fine_tuning.jobs.retrieve(job_id)
        assert row.status in {"queued", "running"}, (row, installation.log.read_text()[-3000:])
        time.sleep(0.05)
    raise AssertionError(installation.log.read_text()[-3000:])


def check_job(installation: Installation, job_id: str, done: dict) -> None:
    """Every step is told once, in order; the model can be used; the metrics can be downloaded."""
    events = list(installation.client.fine_tuning.jobs.list_events(job_id, limit=100))
    steps = [event.data["step"] for event in reversed(events) if event.type == "metrics"]
    assert steps == list(range(1, steps[-1] + 1))
    assert done["trained_tokens"] > 0
    assert re.fullmatch(r"ft:tiny:[\w-]+:matcher:[0-9a-f]{12}", done["fine_tuned_model"])
    assert installation.client.fine_tuning.jobs.checkpoints.list(job_id).data
    table = installation.client.files.content(done["result_files"][0]).text.splitlines()
    assert len(table) == len(steps) + 2, "a header, and the start as step 0"
    assert installation.ask(done["fine_tuned_model"], "m1", "yy1") in {"Yes", "No"}


def evaluate(installation: Installation, dataset: str, version: str) -> dict:
    request = {"dataset": dataset, "systems": ["matching", version], "metric": "accuracy", "labels": ["Yes", "No"]}
    request |= {"candidate": version, "reference": "matching", "margin": 0.9, "split": "holdout"}
    row = installation.post("/evaluations", request)
    return installation.wait(f"/evaluations/{row['id']}")


def test_nothing_accepted_is_lost(installation):
    """Whatever tests ran before it, and in whatever order."""
    traffic(installation)
    kept = [row["id"] for row in installation.listed("/inferences") if not row["origin"]]
    assert sorted(kept) == sorted(installation.inferences)
    assert sorted(row["id"] for row in installation.listed("/feedback")) == sorted(installation.feedback)


def test_a_grader_that_pays_for_anything_is_told_before_it_fails_the_job(installation):
    rows = [{"messages": [{"role": "user", "content": f"n {i}"}], "demonstration": "Yes"} for i in range(8)]
    content = "\n".join(json.dumps(row) for row in rows).encode()
    file = installation.client.files.create(file=("rows.jsonl", content), purpose="fine-tune")
    grader = {"type": "string_check", "name": "generous", "input": "", "reference": "", "operation": "eq"}
    job = installation.client.fine_tuning.jobs.create(
        model="tiny",
        training_file=file.id,
        method={"type": "reinforcement", "reinforcement": {"grader": grader, "hyperparameters": {"n_epochs": 40}}},
        metadata={"bessemer.prompt": "same"},
    )
    ends = time.monotonic() + 90
    while (done := installation.get(f"/fine_tuning/jobs/{job.id}"))["status"] != "failed" and time.monotonic() < ends:
        time.sleep(0.2)
    assert done["error"]["code"] == "learned_nothing"
    assert done["fine_tuned_model"] is None
    told = [event.message for event in installation.client.fine_tuning.jobs.list_events(job.id, limit=100)]
    assert any("an empty answer is rewarded" in message for message in told)
