"""The life of a job: it is made once, obeys, ends once, says why it failed; each change is told in its transaction."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.jobs.slow import Reached, SlowRequest, a_job

from bessemer.core.errors import GraderError, InvalidRequest
from bessemer.core.types import JobStatus
from bessemer.jobs.kinds import Accepted, Finished, Job, Told
from bessemer.jobs.lifecycle import begin, control, create, fail, finish, obey, sweep
from bessemer.store import audit, job_rows
from bessemer.store.database import Database
from bessemer.store.job_rows import Control, JobRow


@pytest.fixture
def job(database: Database, tmp_path: Path) -> Job[Any]:
    made = a_job(database, tmp_path)
    create(made, Accepted(request=made.request, events=[Told("created", "Here it is.")]), "key-1")
    return made


def trail(database: Database) -> list[tuple[str, str, str]]:
    return [(event.actor, event.action, event.subject) for event in reversed(audit.find(database))]


def test_a_job_is_made_once_with_its_event_and_in_the_trail(database: Database, job: Job[Any]) -> None:
    again = create(job, Accepted(request=job.request, events=[Told("created", "Here it is.")]), "key-1")
    assert again == job_rows.get(database, "slow-1")
    assert [event.message for event in job_rows.events(database, "slow-1")] == ["Here it is."]
    assert trail(database) == [("key-1", "job.created", "slow-1")]
    with pytest.raises(InvalidRequest, match="another request"):
        create(job, Accepted(request=SlowRequest(steps=9)), "key-1")


def test_a_job_begins_once_however_often_it_is_begun(database: Database, job: Job[Any]) -> None:
    assert begin(job)
    first = job_rows.get(database, job.id)
    assert begin(job)
    assert first.started_at is not None
    assert job_rows.get(database, job.id) == first


def test_a_finished_job_does_not_begin_again(database: Database, job: Job[Any]) -> None:
    begin(job)
    job.report(Reached(step=1))
    kept: list[str] = []
    assert finish(job, Finished(result=Reached(step=2), keep=lambda: kept.append("kept"))) is JobStatus.SUCCEEDED
    assert not begin(job)
    row = job_rows.get(database, job.id)
    assert (row.status, row.result, row.progress) == (JobStatus.SUCCEEDED, {"step": 2}, None)
    assert kept == ["kept"]


@pytest.mark.parametrize(("wish", "status"), [(Control.CANCEL, JobStatus.CANCELLED), (Control.PAUSE, JobStatus.PAUSED)])
def test_a_wish_is_obeyed_once(database: Database, job: Job[Any], wish: Control, status: JobStatus) -> None:
    begin(job)
    assert obey(job) is None
    assert control(database, job.id, wish, "key-1").status is JobStatus.RUNNING
    assert obey(job) is status
    assert obey(job) is None
    row = job_rows.get(database, job.id)
    assert row.status is status
    assert (row.finished_at is not None) == (status is JobStatus.CANCELLED)


def test_a_wish_of_the_last_moment_is_obeyed_and_nothing_is_kept(database: Database, job: Job[Any]) -> None:
    begin(job)
    control(database, job.id, Control.CANCEL, "key-1")
    kept: list[str] = []
    assert finish(job, Finished(result=Reached(step=2), keep=lambda: kept.append("kept"))) is JobStatus.CANCELLED
    assert kept == []
    assert job_rows.get(database, job.id).result is None


def test_what_cannot_be_kept_leaves_the_job_as_it_was(database: Database, job: Job[Any]) -> None:
    begin(job)
    before = job_rows.get(database, job.id)
    with pytest.raises(ZeroDivisionError):
        finish(job, Finished(result=Reached(step=2), keep=lambda: 1 // 0))
    assert job_rows.get(database, job.id) == before
    assert ("system", "job.finished", job.id) not in trail(database)


def test_who_controls_a_job_is_in_the_trail(database: Database, job: Job[Any]) -> None:
    assert control(database, job.id, Control.PAUSE, "key-1").status is JobStatus.PAUSED
    resumed = control(database, job.id, None, "key-2")
    assert (resumed.status, resumed.resumed) == (JobStatus.QUEUED, 1)
    assert control(database, job.id, Control.CANCEL, "key-3").finished_at is not None
    told = [("key-1", "job.paused"), ("key-2", "job.resumed"), ("key-3", "job.cancelled")]
    assert trail(database)[1:] == [(actor, action, job.id) for actor, action in told]
    with pytest.raises(InvalidRequest, match="cannot be resumed"):
        control(database, job.id, None, "key-1")
    assert len(trail(database)) == 4


def test_a_failure_is_named_once(database: Database, job: Job[Any]) -> None:
    begin(job)
    for _ in range(2):
        fail(job, GraderError("The grader has no name.", param="grader"))
    row = job_rows.get(database, job.id)
    assert row.status is JobStatus.FAILED
    assert row.error == {"code": "invalid_grader", "message": "The grader has no name.", "param": "grader"}
    assert len(job_rows.events(database, job.id)) == 2
    told = [event for event in audit.find(database) if event.action == "job.finished"]
    assert [(event.actor, event.subject, event.detail["status"]) for event in told] == [("system", job.id, "failed")]


def test_ended_jobs_leave_nothing_on_disk_and_others_all(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    assert sweep(database, folder) == 0
    for status in JobStatus:
        row = JobRow(id=status.value, kind="slow", request={}, status=status, created_at=1.0)
        job_rows.insert(database, row)
        (folder / status.value).mkdir(parents=True)
        (folder / status.value / "state.safetensors").write_bytes(b"x" * 1000)
    (folder / "of-another-database").mkdir()
    assert sweep(database, folder) == 3
    ended = {"succeeded", "failed", "cancelled"}
    left = {path.name for path in folder.iterdir()}
    assert left == {status.value for status in JobStatus} - ended | {"of-another-database"}


def test_a_row_of_an_earlier_release_is_read(database: Database, job: Job[Any]) -> None:
    """It had no progress of its own and counted its resumptions in the result."""
    row = job_rows.get(database, job.id)
    body = {name: value for name, value in msgspec.to_builtins(row).items() if name not in {"progress", "resumed"}}
    old = msgspec.convert(body | {"result": {"resumed": 2}, "trained_tokens": 5}, JobRow)
    assert (old.resumed, old.progress, old.trained_tokens) == (0, None, 5)
