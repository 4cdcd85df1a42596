"""What goes into the store comes out again, in order, page by page."""

import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.store.samples import a_call, a_feedback, an_inference, keep

from bessemer.core.datasets import Dataset, Split
from bessemer.core.errors import InvalidRequest, NotFound
from bessemer.core.evaluations import Evaluation, GateResult
from bessemer.core.inferences import INTERNAL_KEY, TokenLogprob
from bessemer.core.types import Interval, JobStatus
from bessemer.store import datasets, erasure, evaluations, feedback, files, inferences, job_rows, plans, usage
from bessemer.store.database import Database
from bessemer.store.files import FileRow
from bessemer.store.job_rows import Control, JobCheckpoint, JobRow


def a_job(job_id: str = "ftjob-1", created_at: float = 1.0, status: JobStatus = JobStatus.QUEUED) -> JobRow:
    return JobRow(id=job_id, kind="fine_tuning", request={"model": "small"}, status=status, created_at=created_at)


# -- inferences -------------------------------------------------------------------------------------------------------


def test_inferences_are_found_by_route_time_and_episode(database: Database) -> None:
    rows = [
        an_inference("inf-1", created_at=1.0),
        an_inference("inf-2", created_at=2.0, route="other"),
        an_inference("inf-3", created_at=3.0, episode_id="ep-1"),
        an_inference("inf-4", created_at=3.0, calls=()),
    ]
    keep(database, *rows)
    keep(database, *rows)
    found = inferences.find(database)
    assert [row.id for row in found] == ["inf-4", "inf-3", "inf-2", "inf-1"]
    assert found == rows[::-1]
    assert [row.id for row in inferences.find(database, route="other")] == ["inf-2"]
    assert [row.id for row in inferences.find(database, since=2.0, until=3.0)] == ["inf-2"]
    assert [row.id for row in inferences.find(database, episode_id="ep-1")] == ["inf-3"]
    assert set(inferences.get_many(database, ["inf-1", "inf-9"])) == {"inf-1"}
    with pytest.raises(NotFound, match="inf-9"):
        inferences.get(database, "inf-9")


@hypothesis_settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    times=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    size=st.integers(1, 5),
    ascending=st.booleans(),
)
def test_pages_joined_are_the_whole(sqlite_database: Database, times: list[int], size: int, ascending: bool) -> None:
    route = f"route-{len(inferences.find(sqlite_database, limit=None))}"
    rows = [an_inference(f"{route}-{n}", created_at=float(t), route=route) for n, t in enumerate(times)]
    keep(sqlite_database, *rows)
    whole = inferences.find(sqlite_database, route=route, limit=None, ascending=ascending)
    pages: list[str] = []
    after: str | None = None
    while some := inferences.find(sqlite_database, route=route, limit=size, after=after, ascending=ascending):
        pages += [row.id for row in some]
        after = pages[-1]
    assert pages == [row.id for row in whole]
    assert len(pages) == len(times)


def test_a_logprob_of_minus_infinity_can_be_read_again(database: Database) -> None:
    call = msgspec.structs.replace(
        a_call("call-1", "inf-1"),
        token_logprobs=(
            TokenLogprob(token="no", logprob=float("-inf")),
            TokenLogprob(token="yes", logprob=-0.5, forced=True),
        ),
        choice_logprobs={"yes": 0.0, "no": float("-inf")},
    )
    keep(database, an_inference("inf-1", calls=(call,)))
    (found,) = inferences.get(database, "inf-1").calls
    assert [(token.logprob, token.forced) for token in found.token_logprobs] == [(-9999.0, False), (-0.5, True)]
    assert found.choice_logprobs == {"yes": 0.0, "no": -9999.0}


def test_what_could_not_be_read_again_is_refused(database: Database) -> None:
    broken = Interval(value=float("nan"), low=0.0, high=1.0)
    gate = GateResult(passed=False, rule="r", difference=broken, margin=0.01)
    evaluation = Evaluation(
        id="eval-1", dataset="ds-1", split=Split.HOLDOUT, metric="f1", created_at=1.0, rows=(), gate=gate
    )
    with pytest.raises(InvalidRequest, match="finite"):
        evaluations.insert(database, evaluation)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_no_database_holds_is_the_callers_mistake(database: Database, text: str) -> None:
    with pytest.raises((NotFound, InvalidRequest)):
        inferences.get(database, text)


def test_an_unknown_mark_is_refused(database: Database) -> None:
    with pytest.raises(InvalidRequest, match="after"):
        inferences.find(database, after="inf-none")


def test_usage_adds_up_and_keeps_unknown_costs_apart(database: Database) -> None:
    calls = (a_call("call-1", "inf-1"), a_call("call-2", "inf-1", cost=None, step=1))
    keep(database, an_inference("inf-1", calls=calls), an_inference("inf-2"), an_inference("inf-3", route="other"))
    matching, other = usage.find(database)
    assert (matching.route, matching.calls, matching.unpriced_calls) == ("matching", 3, 1)
    assert (matching.input_tokens, matching.output_tokens) == (30, 6)
    assert matching.cost_usd == pytest.approx(0.002)
    assert matching.seconds == pytest.approx(0.75)
    assert other.calls == 1
    keep(database, an_inference("inf-4", route="free", calls=(a_call("call-4", "inf-4", cost=None),)))
    assert usage.find(database, route="free")[0].cost_usd is None


# -- feedback ---------------------------------------------------------------------------------------------------------


def test_feedback_may_come_before_its_inference(database: Database) -> None:
    early = a_feedback("fb-1", inference_id="inf-late", created_at=1.0)
    later = a_feedback("fb-2", inference_id="inf-late", created_at=2.0, metric="helpful")
    whole = a_feedback("fb-3", inference_id=None, episode_id="ep-1")
    keep(database, later, early, whole)
    assert feedback.for_inferences(database, ["inf-late", "inf-none"]) == {"inf-late": [early, later]}
    assert feedback.for_episodes(database, ["ep-1"]) == {"ep-1": [whole]}
    assert feedback.find(database, metric="helpful") == [later]
    assert feedback.find(database, inference_id="inf-late", since=2.0) == [later]
    with pytest.raises(NotFound):
        feedback.get(database, "fb-none")


# -- jobs -------------------------------------------------------------------------------------------------------------


def test_a_job_keeps_what_is_set_and_nothing_else_changes(database: Database) -> None:
    job_rows.insert(database, a_job())
    job_rows.insert(database, msgspec.structs.replace(a_job(), request={"model": "other"}))
    new = msgspec.structs.replace(a_job(), started_at=2.0, result={"version": "v"}, progress={"step": 1}, resumed=1)
    assert job_rows.change(database, "ftjob-1", lambda _: new) == new == job_rows.get(database, "ftjob-1")
    assert job_rows.change(database, "ftjob-1", lambda row: row) == new
    with pytest.raises(NotFound):
        job_rows.change(database, "ftjob-none", lambda row: row)


def test_jobs_are_found_by_kind_and_status(database: Database) -> None:
    job_rows.insert(database, a_job("ftjob-1", 1.0))
    job_rows.insert(database, a_job("ftjob-2", 2.0, JobStatus.RUNNING))
    queued = job_rows.find(database, kind="fine_tuning", statuses=[JobStatus.QUEUED])
    assert [row.id for row in queued] == ["ftjob-1"]
    assert [row.id for row in job_rows.find(database)] == ["ftjob-2", "ftjob-1"]
    assert [row.id for row in job_rows.find(database, ascending=True)] == ["ftjob-1", "ftjob-2"]
    assert job_rows.find(database, kind="cascade") == []


def test_only_one_of_two_takes_a_queued_job(database: Database) -> None:
    job_rows.insert(database, a_job())
    outcomes: list[str] = []

    def taken(row: JobRow) -> JobRow:
        outcomes.append(row.status.value)
        return msgspec.structs.replace(row, status=JobStatus.RUNNING)

    def take() -> None:
        job_rows.change(database, "ftjob-1", taken)

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["queued", "running"]
    assert job_rows.find(database, statuses=[JobStatus.RUNNING])[0].status is JobStatus.RUNNING


def test_wishes_are_left_and_taken_back(database: Database) -> None:
    def wish(control: Control | None) -> None:
        job_rows.change(database, "ftjob-1", lambda row: msgspec.structs.replace(row, control=control))

    job_rows.insert(database, a_job())
    assert job_rows.control(database, "ftjob-1") is None
    wish(Control.PAUSE)
    assert job_rows.control(database, "ftjob-1") is Control.PAUSE
    assert job_rows.get(database, "ftjob-1").control is Control.PAUSE
    wish(None)
    assert job_rows.control(database, "ftjob-1") is None
    with pytest.raises(NotFound):
        job_rows.control(database, "ftjob-none")


def test_events_come_newest_first_and_once(database: Database) -> None:
    job_rows.insert(database, a_job())
    for step in range(5):
        job_rows.append_event(
            database, "ftjob-1", f"step {step}", type="metrics", data={"step": step}, event_id=f"ev-{step}"
        )
    again = job_rows.append_event(database, "ftjob-1", "step 4, repeated", event_id="ev-4")
    assert again.message == "step 4"
    assert [event.seq for event in job_rows.events(database, "ftjob-1")] == [5, 4, 3, 2, 1]
    page = job_rows.events(database, "ftjob-1", limit=2, after="ev-3")
    assert [event.id for event in page] == ["ev-2", "ev-1"]
    onwards = job_rows.events(database, "ftjob-1", limit=None, after="ev-3", ascending=True)
    assert [event.id for event in onwards] == ["ev-4"]
    with pytest.raises(NotFound):
        job_rows.append_event(database, "ftjob-none", "x")
    with pytest.raises(InvalidRequest):
        job_rows.events(database, "ftjob-1", after="ev-none")


def test_checkpoints_come_newest_first_and_once(database: Database) -> None:
    job_rows.insert(database, a_job())
    saved = [
        JobCheckpoint(
            id=f"ftckpt-{step}", job_id="ftjob-1", created_at=1.0, step=step, version="v", metrics={"loss": 0.5}
        )
        for step in (10, 20, 30)
    ]
    for checkpoint in saved:
        job_rows.append_checkpoint(database, checkpoint)
    job_rows.append_checkpoint(database, msgspec.structs.replace(saved[0], metrics={}))
    assert job_rows.checkpoints(database, "ftjob-1") == saved[::-1]
    assert job_rows.checkpoints(database, "ftjob-1", limit=1, after="ftckpt-20") == [saved[0]]


# -- files, datasets, evaluations -------------------------------------------------------------------------------------


def test_files_come_and_go(database: Database) -> None:
    row = FileRow(id="file-1", sha256="0" * 64, bytes=3, created_at=1.0, filename="a.jsonl", purpose="fine-tune")
    files.insert(database, row)
    assert files.get(database, "file-1") == row
    assert files.find(database, purpose="fine-tune") == [row]
    assert files.find(database, purpose="batch") == []
    files.delete(database, "file-1")
    for missing in (files.get, files.delete):
        with pytest.raises(NotFound):
            missing(database, "file-1")


def test_a_page_ends_where_its_bodies_are_too_long_for_one_answer(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    longs = [
        msgspec.structs.replace(an_inference(f"inf-{n}", created_at=float(n)), output="x" * 1_000 * n)
        for n in range(1, 6)
    ]
    database.write(lambda connection: inferences.insert_rows(connection, longs))
    assert inferences.fitting(database, limit=3) == 3
    assert inferences.fitting(database, limit=9) == 9
    monkeypatch.setattr("bessemer.store.paging.ANSWER_CHARACTERS", 12_000)
    assert inferences.fitting(database, limit=9) == 2
    assert inferences.fitting(database, limit=1) == 1
    assert inferences.fitting(database, limit=9, after="inf-4") == 9
    monkeypatch.setattr("bessemer.store.paging.ANSWER_CHARACTERS", 10)
    assert inferences.fitting(database, limit=9) == 1
    copy = msgspec.structs.replace(an_inference("inf-copy"), key_id=INTERNAL_KEY)
    other = msgspec.structs.replace(an_inference("inf-other"), key_id=INTERNAL_KEY, input_sha256="f" * 64)
    database.write(lambda connection: inferences.insert_rows(connection, [copy, other]))
    assert [row.id for row in erasure.copies(database, longs)] == ["inf-copy"]


def test_files_are_paged_in_both_orders_and_an_unknown_cursor_is_refused_in_both(database: Database) -> None:
    for number in range(5):
        files.insert(
            database,
            FileRow(
                id=f"file-{number}",
                sha256="0" * 64,
                bytes=1,
                created_at=float(number),
                filename="f",
                purpose="fine-tune",
            ),
        )
    ascending = files.find(database, limit=2, after="file-1", ascending=True)
    assert [row.id for row in ascending] == ["file-2", "file-3"]
    assert [row.id for row in files.find(database, limit=2, after="file-3")] == ["file-2", "file-1"]
    for order in (True, False):
        with pytest.raises(InvalidRequest, match="not an id of this list"):
            files.find(database, after="file-none", ascending=order)


def test_datasets_and_evaluations_come_back(database: Database) -> None:
    dataset = Dataset(
        id="ds-1",
        name="matching",
        sha256="0" * 64,
        created_at=1.0,
        counts={"train": 3},
        provenance={"route": "r"},
        files={"train": "file-1"},
    )
    datasets.insert(database, dataset)
    datasets.insert(database, dataset)
    assert datasets.get(database, "ds-1") == dataset
    assert datasets.find(database, name="matching") == [dataset]
    assert datasets.of_file(database, "file-1") == dataset
    assert datasets.of_file(database, "file_1") is datasets.of_file(database, "r") is None
    evaluation = Evaluation(
        id="eval-1", dataset="ds-1", split=Split.HOLDOUT, metric="f1", created_at=1.0, rows=(), gate=None
    )
    evaluations.insert(database, evaluation)
    assert evaluations.get(database, "eval-1") == evaluation
    assert evaluations.find(database, dataset="ds-1") == [evaluation]
    for missing in (datasets.get, evaluations.get):
        with pytest.raises(NotFound):
            missing(database, "none")


def gated(name: str, candidate: str, at: float) -> Evaluation:
    gate = GateResult(passed=True, rule="not worse", difference=None, margin=0.02, candidate=candidate)
    return Evaluation(id=name, dataset="ds", split=Split.HOLDOUT, metric="f1", created_at=at, rows=(), gate=gate)


def test_the_gates_of_a_version_are_found_behind_any_number_of_others(database: Database) -> None:
    evaluations.insert(database, gated("eval-old", "é_1@0", 1.0))
    evaluations.insert(database, gated("eval-new", "é_1@0", 2.0))
    evaluations.insert(database, gated("eval-wild", "éx1@0", 2.5))
    with database.transaction():
        for number in range(1001):
            evaluations.insert(database, gated(f"eval-{number}", "other@1", 3.0))
    assert [one.id for one in evaluations.gated(database, "é_1@0")] == ["eval-new", "eval-old"]


def test_plans_come_back_and_those_in_files_are_taken_in(database: Database, tmp_path: Path) -> None:
    plans.insert(database, "plan-1", '{"id":"plan-1"}', 1.0)
    plans.insert(database.within("proj_b"), "plan-2", '{"id":"plan-2"}', 2.0)
    (tmp_path / "plans" / "proj_b").mkdir(parents=True)
    (tmp_path / "plans" / "plan-3.json").write_text('{"id":"plan-3"}')
    (tmp_path / "plans" / "proj_b" / "plan-4.json").write_text('{"id":"plan-4"}')
    (tmp_path / "plans" / "plan-torn.json").write_text('{"id":"pl')
    for _ in range(2):
        plans.take_in(database, tmp_path / "plans")
    assert plans.find(database.within("proj_default")) == ['{"id":"plan-3"}', '{"id":"plan-1"}']
    assert plans.find(database.within("proj_b")) == ['{"id":"plan-4"}', '{"id":"plan-2"}']
    assert [path.name for path in tmp_path.rglob("*.json")] == ["plan-torn.json"]
    assert plans.get(database, "plan-4") == '{"id":"plan-4"}'
    with pytest.raises(NotFound):
        plans.get(database.within("proj_default"), "plan-4")
