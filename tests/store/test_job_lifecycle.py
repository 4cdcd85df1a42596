"""The life of a job: it runs, obeys, ends once, and says why it failed."""

from pathlib import Path

import pytest

from bessemer.core.errors import GraderError
from bessemer.core.types import JobStatus
from bessemer.store import audit, job_rows
from bessemer.store.database import Database
from bessemer.store.job_lifecycle import attempt, begin, fail, finish, obey, sweep
from bessemer.store.job_rows import Control, JobKind, JobRow


@pytest.fixture
def job_id(database: Database) -> str:
    row = JobRow(id="ftjob-1", kind=JobKind.FINE_TUNING, request={}, status=JobStatus.QUEUED, created_at=1.0)
    job_rows.insert(database, row)
    return row.id


def test_a_job_begins_once_however_often_it_is_begun(database: Database, job_id: str) -> None:
    first = begin(database, job_id)
    again = begin(database, job_id)
    assert first is not None
    assert first.started_at is not None
    assert again == first


def test_a_finished_job_does_not_begin_again(database: Database, job_id: str) -> None:
    begin(database, job_id)
    finish(database, job_id, {"version": "small@1"}, trained_tokens=5)
    assert begin(database, job_id) is None
    row = job_rows.get(database, job_id)
    assert (row.status, row.result, row.trained_tokens) == (JobStatus.SUCCEEDED, {"version": "small@1"}, 5)


@pytest.mark.parametrize(("wish", "status"), [(Control.CANCEL, JobStatus.CANCELLED), (Control.PAUSE, JobStatus.PAUSED)])
def test_a_wish_is_obeyed_once(database: Database, job_id: str, wish: Control, status: JobStatus) -> None:
    begin(database, job_id)
    assert obey(database, job_id) is None
    job_rows.request(database, job_id, wish)
    assert obey(database, job_id) is status
    assert obey(database, job_id) is None
    row = job_rows.get(database, job_id)
    assert row.status is status
    assert (row.finished_at is not None) == (status is JobStatus.CANCELLED)


def test_a_failure_is_named_once(database: Database, job_id: str) -> None:
    begin(database, job_id)
    for _ in range(2):
        fail(database, job_id, GraderError("The grader has no name.", param="grader"))
    row = job_rows.get(database, job_id)
    assert row.status is JobStatus.FAILED
    assert row.error == {"code": "invalid_grader", "message": "The grader has no name.", "param": "grader"}
    assert len(job_rows.events(database, job_id)) == 1
    told = [(event.actor, event.action, event.subject, event.detail["status"]) for event in audit.find(database)]
    assert told == [("system", "job.finished", job_id, "failed")]


def test_ended_jobs_leave_nothing_on_disk_and_others_all(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    assert sweep(database, folder) == 0
    for status in JobStatus:
        row = JobRow(id=status.value, kind=JobKind.EVALUATION, request={}, status=status, created_at=1.0)
        job_rows.insert(database, row)
        (folder / status.value).mkdir(parents=True)
        (folder / status.value / "state.safetensors").write_bytes(b"x" * 1000)
    (folder / "of-another-database").mkdir()
    assert sweep(database, folder) == 3
    ended = {"succeeded", "failed", "cancelled"}
    left = {path.name for path in folder.iterdir()}
    assert left == {status.value for status in JobStatus} - ended | {"of-another-database"}


def test_a_part_that_is_repeated_after_its_job_ended_is_not_done_again(database: Database, job_id: str) -> None:
    begin(database, job_id)
    finish(database, job_id, {"version": "small@1"})
    done: list[str] = []
    assert attempt(database, job_id, lambda: done.append("again")) is None
    assert done == []
    assert job_rows.get(database, job_id).status is JobStatus.SUCCEEDED
