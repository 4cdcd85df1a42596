"""Parts of a job in one process: errors end it, wishes break it off, and what is over holds nothing."""

import gc
import weakref
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.jobs.slow import SLOW, Script, SlowRequest, a_job

from bessemer.core.errors import NotFound
from bessemer.core.types import JobStatus
from bessemer.jobs.execution import Execution, Then
from bessemer.jobs.kinds import Accepted, Job, StopRequested
from bessemer.jobs.lifecycle import control, create
from bessemer.store import job_rows
from bessemer.store.database import Database
from bessemer.store.job_rows import Control


class Bench:
    """One job of two steps, and what executes it."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.script = Script()
        self.folder = folder
        self.job: Job[Any] = a_job(database, folder)
        create(self.job, Accepted(request=SlowRequest(steps=2)), "key-1")
        self.execution = self.again()

    def again(self) -> Execution[Script]:
        """Return what executes in another process, after a kill."""
        return Execution({"slow": SLOW}, self.script, self.database, self.folder)

    @property
    def row(self) -> job_rows.JobRow:
        return job_rows.get(self.database, self.job.id)


@pytest.fixture
def bench(sqlite_database: Database, tmp_path: Path) -> Bench:
    return Bench(sqlite_database, tmp_path / "jobs")


def test_a_job_runs_from_its_first_part_to_its_last_in_one_run(bench: Bench) -> None:
    execution, job = bench.execution, bench.job.id
    assert [execution.prepare(job), execution.step(job), execution.step(job)] == [Then.STEP, Then.STEP, Then.FINISH]
    assert bench.row.progress == {"step": 2}
    assert execution.finish(job) is Then.NOTHING
    assert bench.script.did == ["prepare", "step 1", "step 2", "finish", "close"]
    assert (bench.row.status, bench.row.result) == (JobStatus.SUCCEEDED, {"step": 2})


def test_a_part_that_is_repeated_after_a_kill_goes_on_from_the_disk(bench: Bench) -> None:
    bench.execution.prepare(bench.job.id)
    bench.execution.step(bench.job.id)
    assert bench.again().step(bench.job.id) is Then.FINISH
    assert bench.script.did == ["prepare", "step 1", "step 2"]
    assert len(bench.script.opened) == 2


@pytest.mark.parametrize("status", [status for status in JobStatus if status is not JobStatus.RUNNING])
def test_a_part_that_comes_too_late_is_not_done(bench: Bench, status: JobStatus) -> None:
    bench.execution.prepare(bench.job.id)
    job_rows.change(bench.database, bench.job.id, lambda row: msgspec.structs.replace(row, status=status))
    before = bench.row
    again = bench.again()
    assert [again.step(bench.job.id), again.finish(bench.job.id)] == [Then.NOTHING] * 2
    assert bench.script.did == ["prepare"]
    assert bench.row == before


@pytest.mark.parametrize("ending", ["error", "cancel", "pause", "success"])
def test_a_run_that_is_over_or_paused_holds_no_memory(bench: Bench, ending: str) -> None:
    bench.execution.prepare(bench.job.id)
    run = weakref.ref(bench.script.opened.pop())
    assert run() is not None
    if ending == "error":
        bench.script.waiting.append(NotFound("It has gone."))
    elif ending != "success":
        control(bench.database, bench.job.id, Control(ending), "key-1")
    while bench.execution.step(bench.job.id) is Then.STEP:
        pass
    if ending == "success":
        bench.execution.finish(bench.job.id)
    gc.collect()
    assert run() is None
    assert bench.script.did[-1] == "close"
    expected = {"error": "failed", "cancel": "cancelled", "pause": "paused", "success": "succeeded"}
    assert bench.row.status.value == expected[ending]


def test_work_that_a_wish_breaks_off_is_repeated_when_the_wish_is_taken_back(bench: Bench) -> None:
    bench.execution.prepare(bench.job.id)
    bench.script.waiting.append(StopRequested())
    assert bench.execution.step(bench.job.id) is Then.STEP
    assert bench.execution.step(bench.job.id) is Then.STEP
    assert bench.script.did == ["prepare", "step 1", "close", "step 1"]


def test_work_that_a_wish_breaks_off_ends_with_it(bench: Bench) -> None:
    bench.execution.prepare(bench.job.id)
    bench.script.waiting.append(StopRequested())
    control(bench.database, bench.job.id, Control.PAUSE, "key-1")
    with pytest.raises(StopRequested):
        bench.job.heed()
    assert bench.execution.step(bench.job.id) is Then.NOTHING
    assert bench.row.status is JobStatus.PAUSED


def test_an_error_that_is_not_ours_is_an_internal_one(bench: Bench) -> None:
    bench.script.waiting.append(ValueError("a prompt"))
    assert bench.execution.prepare(bench.job.id) is Then.NOTHING
    assert bench.row.error is not None
    assert bench.row.error["code"] == "internal_error"
    assert "a prompt" not in bench.row.error["message"]
