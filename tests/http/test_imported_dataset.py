"""A file of training rows is all it takes to reach a gated promotion and a cascade: no traffic is replayed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from tests.live import OFFLINE, Server, Upstream, start_server, stop_server

from bessemer.core.models import Lineage
from bessemer.gateway.providers import SETTINGS
from bessemer.registry.catalog import Catalog
from bessemer.registry.config import load_config
from bessemer.registry.versions import make_version
from bessemer.store.blob_folder import BlobFolder
from bessemer.store.database import Database
from lab.fake_openai import Script

CONFIG = """
[gate]  # a handful of items
max_margin = 0.9
min_items = 5
min_discordant = 0

[models.large]
provider = "openai"
base_url = "{base_url}"
price = "none"

[models.mini]
provider = "openai"
base_url = "{base_url}"
price = "none"

[prices.none]
source = "a test"
date = "2026-01-01"
per_hour = 0.0

[routes.matching]
targets = ["large"]
"""
ITEMS = 12
"""In each split."""
SPLITS = ("train", "selection", "calibration", "holdout")
LABELS = ["Yes", "No"]


def row(split: str, number: int) -> dict[str, Any]:
    """Nearly always the right answer is what the upstream says."""
    right = "No" if number == 3 else "Yes"
    asked = [{"role": "user", "content": f"Is {split} {number}?"}, {"role": "assistant", "content": right}]
    return {"messages": asked, "split": split}


@pytest.fixture
def server(tmp_path: Path, upstream: Upstream) -> Iterator[Server]:
    """A server with its worker; the upstream always says Yes."""
    waiting = upstream.scripts.waiting
    waiting.extend([Script(pieces=("Yes",), logprobs=(-0.1,))] * 500)
    running = start_server(tmp_path, upstream, env=OFFLINE, toml=CONFIG)
    yield running
    waiting.clear()
    stop_server(running)


def bessemer(server: Server, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bessemer", "--data", str(server.data), *words]
    return subprocess.run(command, env=os.environ | OFFLINE, check=False, capture_output=True, text=True, timeout=60)


def ended(client: OpenAI, path: str, body: dict[str, Any]) -> Any:
    """Run a job and return it when it has succeeded."""
    job: Any = client.post(path, body=body, cast_to=object)
    ends = time.monotonic() + 120
    while job["status"] in {"queued", "running"} and time.monotonic() < ends:
        time.sleep(0.2)
        job = client.get(f"{path}/{job['id']}", cast_to=object)
    assert job["status"] == "succeeded", job
    return job


def trained_on(server: Server, rows: list[dict[str, Any]]) -> str:
    """Register a version of `mini` that was trained on these rows and return its id."""
    database = Database.open_url(f"sqlite:///{server.data / 'bessemer.db'}")
    catalog = Catalog(load_config(server.data.parent / "bessemer.toml", server.data, SETTINGS), database)
    sha256 = BlobFolder(server.data / "blobs").put("".join(json.dumps(one) + "\n" for one in rows).encode())
    lineage = Lineage(base=catalog.resolve("mini").version.id, dataset_sha256=sha256)
    version = catalog.register(make_version("mini-tuned", lineage=lineage)).id
    database.close()
    return version


@pytest.mark.long
def test_a_file_reaches_a_gated_promotion_and_a_cascade(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row(split, number)) + "\n" for split in SPLITS for number in range(ITEMS)))
    done = bessemer(server, "dataset", "import", str(file), "--name", "rows", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    dataset = json.loads(done.stdout)["detail"]
    assert dataset["counts"] == dict.fromkeys(SPLITS, ITEMS)

    client = server.openai()
    measured = {"dataset": dataset["id"], "labels": LABELS}
    gate = {"systems": ["mini", "large"], "candidate": "mini", "reference": "large", "margin": 0.5}
    evaluation = ended(client, "/evaluations", measured | gate)
    assert [one["n"] for one in evaluation["result"]["rows"]] == [ITEMS, ITEMS]
    assert evaluation["result"]["left_out"] == 0
    assert evaluation["result"]["gate"]["passed"], evaluation["result"]["gate"]
    version = evaluation["result"]["gate"]["candidate"]
    promoted: Any = client.post(f"/versions/{version}/promote", body={}, cast_to=object)
    assert (promoted["version"], promoted["evaluation"]) == (version, evaluation["id"])

    asked = {"route": "matching", "small": "mini", "large": "large", "score": "mean_logprob", "alpha": 0.9}
    cascade = ended(client, "/cascades", measured | asked)
    assert cascade["result"]["applied"], cascade["result"]
    assert cascade["result"]["left_out"] == 0
    route: Any = client.get("/routes/matching", cast_to=object)
    assert [step["targets"][0]["model"] for step in route["steps"]] == [version, "large"]

    tuned = trained_on(server, [row("calibration", 1), row("calibration", 2), row("selection", 3)])
    again = ended(client, "/cascades", measured | asked | {"small": tuned, "activate": False})
    assert again["result"]["left_out"] == 3
    scored = ended(client, "/evaluations", measured | {"systems": [tuned], "split": "calibration"})
    assert (scored["result"]["left_out"], scored["result"]["rows"][0]["n"]) == (2, ITEMS - 2)


def test_what_would_be_imported_is_shown_first(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row("train", 1)) + "\n")
    words = ("dataset", "import", str(file), "--name", "rows", "--split", "train=0.5", "--split", "holdout=0.5")
    done = bessemer(server, *words, "--dry-run", "--json")
    assert json.loads(done.stdout)["detail"]["body"]["splits"] == {"train": 0.5, "holdout": 0.5}
    listed = bessemer(server, "dataset", "list", "--json")
    assert json.loads(listed.stdout)["rows"] == []
    assert bessemer(server, "files", "list", "--json").stdout.count('"id"') == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [(("--split", "train"), "train=0.7"), (("--split", "train=0.5"), "sum to 1"), (("--split", "learn=1"), "learn")],
)
def test_what_cannot_be_imported_is_refused_in_one_line(
    server: Server, tmp_path: Path, words: tuple[str, ...], named: str
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "q"}]}) + "\n")
    done = bessemer(server, "dataset", "import", str(file), "--name", "rows", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert named in done.stderr
