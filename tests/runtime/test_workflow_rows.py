"""Who can write rows of the workflow tables runs no code; what an earlier version left pending goes on."""

import base64
import json
import os
import pickle
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import dbos
import pytest
from dbos import DBOSClient
from dbos._serialization import deserialize_args, deserialize_exception, deserialize_value
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from tests.live import MATCHING, OFFLINE, Upstream, start_server, stop_server

import bessemer
from bessemer.core.errors import BessemerError, NotFound, StoreError
from bessemer.core.types import JobStatus
from bessemer.jobs import lifecycle
from bessemer.jobs.runner import APPLICATION_VERSION, EXECUTOR, WORKFLOW
from bessemer.jobs.values import JsonValues, refuse_pickles
from bessemer.store import job_rows
from bessemer.store.database import Database
from bessemer.store.job_rows import JobRow
from bessemer.tuning.jobs import FINE_TUNING
from lab.fake_openai import Script

BEFORE = Path(__file__).parent / "before_signing"
"""A data folder of the version that pickled workflows and did not sign its journal, killed in the middle: its databases
as SQL, one evaluation running (two of eight answers), one queued, two answers in the journal alone."""


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.open, (str(self.path), os.O_CREAT)


def pickled(value: object) -> str:
    return base64.b64encode(pickle.dumps(value)).decode()


@contextmanager
def running_worker(data: Path, config: Path, url: str | None = None) -> Iterator[Path]:
    """A worker process that is ready; its log."""
    log = data.parent / "worker.log"
    command = [sys.executable, "-m", "bessemer", "worker", "--data", str(data), "--config", str(config)]
    with log.open("a") as errors:
        seen = log.stat().st_size
        environment = os.environ | OFFLINE | ({} if url is None else {"BESSEMER_DATABASE_URL": url})
        process = subprocess.Popen(command, stderr=errors, env=environment)
    try:
        until(lambda: "worker.ready" in log.read_text()[seen:], log)
        yield log
    finally:
        process.terminate()
        process.wait(20)


def until(reached: Callable[[], object], log: Path, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < ends, log.read_text()[-4000:]
        time.sleep(0.1)


def plant(url: str, marker: Path) -> None:
    """Write what an attacker would: a queued workflow, a pending one, and the result of a step, all as pickles."""
    engine = create_engine(url)
    schema = "dbos." if engine.dialect.name == "postgresql" else ""
    client = DBOSClient(system_database_url=url)
    for number in range(3):
        options: Any = {
            "workflow_name": WORKFLOW,
            "queue_name": FINE_TUNING.lane.queue,
            "app_version": APPLICATION_VERSION,
            "workflow_id": f"planted-{number}",
        }
        client.enqueue(options, Touch(marker) if number < 2 else "no-job")
    client.destroy()
    with engine.begin() as connection:
        pending = f"UPDATE {schema}workflow_status SET status = 'PENDING', executor_id = :me WHERE workflow_uuid = :id"
        for number in (1, 2):
            connection.execute(text(pending), {"me": EXECUTOR, "id": f"planted-{number}"})
        result = f"""INSERT INTO {schema}operation_outputs (workflow_uuid, function_id, function_name, output,
            serialization) VALUES ('planted-2', 1, 'job.prepare', :output, 'py_pickle')"""
        connection.execute(text(result), {"output": pickled(Touch(marker))})
    engine.dispose()


@pytest.mark.long
def test_a_planted_pickle_is_not_read(empty_database_url: str, tmp_path: Path) -> None:
    config = tmp_path / "bessemer.toml"
    config.write_text(MATCHING.format(base_url="http://127.0.0.1:9/v1"))
    data, marker = tmp_path / "data", tmp_path / "executed"
    sqlite = empty_database_url.startswith("sqlite")
    url = None if sqlite else empty_database_url
    workflows = f"sqlite:///{data / 'workflows.db'}" if sqlite else empty_database_url
    with running_worker(data, config, url):
        pass
    plant(workflows, marker)
    store = Database.open_url(f"sqlite:///{data / 'bessemer.db'}" if sqlite else empty_database_url)
    request = {"dataset": "ds-none", "systems": ["large"], "labels": ["Yes", "No"]}
    job = JobRow(id="eval-1", kind="evaluation", request=request, status=JobStatus.QUEUED, created_at=time.time())
    with running_worker(data, config, url) as log:
        job_rows.insert(store, job)
        until(lambda: job_rows.get(store, job.id).status is JobStatus.FAILED, log)
        until(lambda: log.read_text().count("holds a pickle") >= 3, log)
    assert job_rows.get(store, job.id).error == {
        "code": "not_found",
        "message": "There is no dataset 'ds-none'.",
        "param": "dataset",
    }
    assert not marker.exists(), "a row of the database was executed"
    store.close()


def test_a_data_folder_of_an_earlier_version_is_read_and_its_unsigned_journal_taken_in_once(
    tmp_path: Path, upstream: Upstream
) -> None:
    data = installed_before(tmp_path)
    (unsigned,) = (data / "spool").glob("*.journal")
    late = [json.loads(line)["row"]["id"] for line in unsigned.read_bytes().splitlines()]
    lines = unsigned.read_bytes()
    server = start_server(tmp_path, upstream, "--no-worker", toml=MATCHING)
    client = server.openai()
    kept = {row["id"] for row in client.get("/inferences?limit=100", cast_to=object)["data"]}
    assert len(late) == 2
    assert kept >= set(late)
    assert "2 lines of an earlier version" in server.log.read_text()
    kept_before = {"/datasets": 1, "/feedback?limit=100": 8, "/evaluations": 2, "/keys": 1}
    listed = {path: len(client.get(path, cast_to=object)["data"]) for path in kept_before}
    assert listed == kept_before
    assert client.get("/versions/large@33edc99b9631", cast_to=object)
    (file,) = client.files.list()
    assert client.files.content(file.id).read() == next((BEFORE / "blobs" / "0b").iterdir()).read_bytes()
    server.process.kill()
    server.process.wait()
    server.hang_up()
    assert server.process.stdout is not None
    server.process.stdout.close()

    (data / "spool" / "1.journal").write_bytes(lines.replace(late[0].encode(), b"inf-" + b"f" * 32))
    again = start_server(tmp_path, upstream, "--no-worker", toml=MATCHING)
    found = {row["id"] for row in again.openai().get("/inferences?limit=100", cast_to=object)["data"]}
    stop_server(again)
    assert found == kept
    assert (data / "spool" / "rejected.jsonl").read_bytes().count(b"\n") == 2


def installed_before(folder: Path) -> Path:
    """Lay out the data folder of the earlier version."""
    data = folder / "data"
    shutil.copytree(BEFORE, data, ignore=shutil.ignore_patterns("*.sql"))
    for name in ("bessemer", "workflows"):
        with closing(sqlite3.connect(data / f"{name}.db")) as connection:
            connection.executescript((BEFORE / f"{name}.sql").read_text())
    return data


@pytest.mark.long
def test_pending_workflows_of_an_earlier_version_go_on_from_their_job_rows(tmp_path: Path, upstream: Upstream) -> None:
    data = installed_before(tmp_path)
    config = tmp_path / "bessemer.toml"
    config.write_text(MATCHING.format(base_url=upstream.fake.base_url))
    upstream.scripts.waiting.extend([Script(pieces=("Yes",))] * 14)  # of sixteen answers two are there
    store = Database.open_url(f"sqlite:///{data / 'bessemer.db'}")
    with running_worker(data, config) as log:
        until(lambda: all(job.status is JobStatus.SUCCEEDED for job in job_rows.find(store)), log)
    assert not upstream.scripts.waiting
    told = [json.loads(line) for line in log.read_text().splitlines()]
    assert len([event for event in told if event["event"] == "job.taken_over"]) == 1, "the other was only queued"
    assert "holds a pickle" not in log.read_text(), "their pickles are not looked at"
    store.close()


@pytest.mark.long
def test_jobs_that_ran_waited_or_were_paused_in_the_previous_layout_go_on(tmp_path: Path, upstream: Upstream) -> None:
    """Each kind had a workflow of its own, and a job counted its resumptions in its result."""
    data = installed_before(tmp_path)
    with closing(sqlite3.connect(data / "workflows.db")) as workflows, workflows:
        workflows.execute(
            "UPDATE workflow_status SET application_version = '2', workflow_uuid = workflow_uuid || '.2.0'"
        )
    with closing(sqlite3.connect(data / "bessemer.db")) as rows, rows:
        rows.execute(
            """UPDATE jobs SET status = 'paused',
            body = replace(replace(body, '"queued"', '"paused"'), '"result":null', '"result":{"resumed":1}')
            WHERE status = 'queued'"""
        )
    config = tmp_path / "bessemer.toml"
    config.write_text(MATCHING.format(base_url=upstream.fake.base_url))
    upstream.scripts.waiting.extend([Script(pieces=("Yes",))] * 14)
    store = Database.open_url(f"sqlite:///{data / 'bessemer.db'}")
    (paused,) = job_rows.find(store, statuses=[JobStatus.PAUSED])
    assert paused.result == {"resumed": 1}
    with running_worker(data, config) as log:
        until(lambda: len(job_rows.find(store, statuses=[JobStatus.SUCCEEDED])) == 1, log)
        assert len(upstream.scripts.waiting) == 8
        assert lifecycle.control(store, paused.id, None, "key-1").status is JobStatus.QUEUED
        until(lambda: len(job_rows.find(store, statuses=[JobStatus.SUCCEEDED])) == 2, log)
    assert not upstream.scripts.waiting
    store.close()


# -- values -----------------------------------------------------------------------------------------------------------

_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=30)
@given(_PLAIN)
def test_values_come_back(value: Any) -> None:
    assert JsonValues().deserialize(JsonValues().serialize(value)) == value


def test_an_error_comes_back_with_its_cause() -> None:
    kept = JsonValues().deserialize(JsonValues().serialize(NotFound("There is no x.", param="x")))
    assert isinstance(kept, BessemerError)
    assert (kept.message, kept.error_code, kept.param) == ("There is no x.", "not_found", "x")
    assert JsonValues().deserialize(JsonValues().serialize(ValueError("odd"))).error_code == "ValueError"


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}, b"x"])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        JsonValues().serialize(value)


@pytest.mark.parametrize("read", [deserialize_args, deserialize_value, deserialize_exception])
def test_every_way_to_a_pickle_is_closed(read: Callable[..., object], tmp_path: Path) -> None:
    refuse_pickles()
    marker = tmp_path / "executed"
    with pytest.raises(StoreError, match="pickle"):
        read(pickled(Touch(marker)), "py_pickle", JsonValues())
    for serialization in (None, JsonValues().name(), "portable_json"):
        with pytest.raises(ValueError, match=r"Expecting value|Extra data|Invalid"):
            read(pickled(Touch(marker)), serialization, JsonValues())
    assert not marker.exists()


def test_the_library_unpickles_where_it_is_refused_and_nowhere_else() -> None:
    """A new version of DBOS that reads pickles in another place shows here."""
    folder = Path(dbos.__file__).parent
    found = [path.name for path in folder.rglob("*.py") if re.search(r"pickle\.loads?\b|Unpickler", path.read_text())]
    assert found == ["_serialization.py"]
    assert (folder / "_serialization.py").read_text().count("pickle.loads(") == 1


def test_nothing_of_bessemer_reads_pickles() -> None:
    root = Path(bessemer.__file__).parent
    forbidden = re.compile(
        r"^\s*(import|from) (pickle|cPickle|dill|cloudpickle|joblib|shelve|marshal)\b|torch\.load\(|allow_pickle=True|"
        r"trust_remote_code=True|yaml\.load\(",
        re.MULTILINE,
    )
    assert [str(path) for path in root.rglob("*.py") if forbidden.search(path.read_text())] == []
