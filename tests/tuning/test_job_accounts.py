"""A job says what it did: its start, its progress, its cost, and how it ended. On a tiny random model."""

import asyncio
import dataclasses
import gc
import json
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from tests.gateway.tiny import tiny_model

from bessemer.core.errors import BessemerError, NotFound, TuningError
from bessemer.core.settings import Settings
from bessemer.core.types import JSON, JobStatus, as_json
from bessemer.evals.grader import GraderServices, JudgeCall, JudgeReply
from bessemer.gateway.providers import SETTINGS
from bessemer.jobs.kinds import StopRequested
from bessemer.registry.catalog import Catalog
from bessemer.registry.config import parse_config
from bessemer.store import files, job_rows
from bessemer.store.blob_folder import BlobFolder
from bessemer.store.database import Database
from bessemer.store.files import FileRow
from bessemer.store.job_rows import Control, JobRow
from bessemer.tuning.comparison import compare
from bessemer.tuning.progress import plan_looks
from bessemer.tuning.run import TuningRun, TuningServices

CONFIG = """
[models.tiny]
provider = "local"
path = "{path}"
price = "hour"
context_tokens = 512

[prices.hour]
source = "a test"
date = "2026-01-01"
per_hour = 36.0

[prompts.same]
user = "{{{{input.text}}}}"
choices = ["Yes", "No"]

[prompts.three]
user = "{{{{input.text}}}}"
choices = ["red", "green", "blue"]
"""


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


async def no_judge(call: JudgeCall) -> JudgeReply:
    raise NotFound(f"No model {call.model!r}.", code="model_not_found")


@pytest.fixture
def services(tmp_path: Path, model_path: Path) -> Iterator[TuningServices]:
    database = Database.open(Settings(data=tmp_path))
    yield TuningServices(
        database=database,
        blobs=BlobFolder(tmp_path / "blobs"),
        catalog=Catalog(parse_config(CONFIG.format(path=model_path), tmp_path, SETTINGS), database),
        graders=GraderServices(judge=no_judge),
        jobs_dir=tmp_path / "jobs",
        threads=1,
        organization="test",
        code_commit=None,
    )
    database.close()


def demonstrations(count: int, answer: str | None = None) -> list[JSON]:
    said = [answer or "ab"[i % 2] * 3 for i in range(count)]
    return [
        {"messages": [{"role": "user", "content": f"{'xy'[i % 2]} {i}"}, {"role": "assistant", "content": text}]}
        for i, text in enumerate(said)
    ]


def questions(count: int, **fields: str) -> list[JSON]:
    return [
        {"messages": [{"role": "user", "content": f"{'xy'[i % 2]} {i}"}], "label": ["Yes", "No"][i % 2], **fields}
        for i in range(count)
    ]


def string_check(reference: str) -> JSON:
    body = {"input": "{{sample.output_text}}", "reference": reference, "operation": "eq"}
    return {"type": "string_check", "name": "label", **body}


def upload(services: TuningServices, rows: list[JSON]) -> str:
    content = "\n".join(map(json.dumps, rows)).encode()
    sha256 = services.blobs.put(content)
    row = FileRow(
        id=f"file-{sha256[:12]}", sha256=sha256, bytes=len(content), created_at=1.0, filename="r", purpose="fine-tune"
    )
    files.insert(services.database, row)
    return row.id


def opened(
    services: TuningServices,
    train: list[JSON],
    validation: list[JSON],
    grader: JSON | None = None,
    metadata: dict[str, str] | None = None,
    **hyperparameters: float,
) -> TuningRun:
    kind = "supervised" if grader is None else "reinforcement"
    body = {"hyperparameters": hyperparameters} | ({} if grader is None else {"grader": grader})
    request = {
        "model": "tiny",
        "training_file": upload(services, train),
        "validation_file": upload(services, validation) if validation else None,
        "seed": 0,
        "method": {"type": kind, kind: body},
        "metadata": metadata or {},
    }
    row = JobRow(
        id="ftjob-1",
        kind="fine_tuning",
        request=request,
        status=JobStatus.RUNNING,
        created_at=1.0,
        started_at=time.time(),
    )
    job_rows.insert(services.database, row)
    return TuningRun.open(services, row.id)


def finished(run: TuningRun) -> JSON:
    run.announce()
    while not run.train_chunk():
        pass
    return as_json(run.register())


def events(services: TuningServices) -> list[job_rows.JobEvent]:
    return job_rows.events(services.database, "ftjob-1", limit=None, ascending=True)


def test_a_supervised_job_tells_its_start_its_progress_and_its_cost(services: TuningServices) -> None:
    result = finished(
        opened(services, demonstrations(24), demonstrations(8), n_epochs=4, batch_size=4, learning_rate_multiplier=5)
    )
    told = events(services)
    (start,) = (event for event in told if event.message.startswith("Start:"))
    steps = [event for event in told if event.type == "metrics"]
    assert start.data is not None
    assert start.data["valid_loss"] > steps[-1].data["valid_loss"]
    assert start.seq < steps[0].seq
    for event in steps:
        assert "loss" in event.message
        assert "% done" in event.message
        assert "$" in event.message
    assert steps[-1].data["share_done"] == 1.0
    assert steps[-1].data["seconds_left"] == 0.0
    assert steps[-1].data["cost_usd"] == pytest.approx(result["compute_seconds"] / 100, rel=0.5)
    assert result["start_score"] < result["best_score"]
    assert result["comparison"]["low"] > 0
    assert not result["warnings"]
    checkpoints = job_rows.checkpoints(services.database, "ftjob-1")
    assert all(isinstance(checkpoint.metrics["valid_loss"], float) for checkpoint in checkpoints)
    table = services.blobs.read(files.get(services.database, result["result_files"][0]).sha256).decode().splitlines()
    names, first = table[0].split(","), table[1].split(",")
    assert first[0] == "0"
    assert float(first[names.index("valid_loss")]) == pytest.approx(start.data["valid_loss"])


def test_the_headline_of_reinforcement_is_the_reward(services: TuningServices) -> None:
    run = opened(
        services, questions(16), questions(8), string_check("{{item.label}}"), {"bessemer.prompt": "same"}, n_epochs=2
    )
    finished(run)
    steps = [event for event in events(services) if event.type == "metrics"]
    assert all(": reward " in event.message for event in steps if "reward_mean" in event.data)
    assert "validation reward" in steps[-1].message


def test_a_job_whose_rewards_are_all_zero_makes_no_version(services: TuningServices) -> None:
    options = {"bessemer.max_seconds": "2", "bessemer.prompt": "same"}
    run = opened(services, questions(16), questions(4), string_check("never"), options, n_epochs=50)
    before = len(services.catalog.versions())
    with pytest.raises(TuningError, match="earned nothing throughout") as raised:
        finished(run)
    assert raised.value.error_code == "learned_nothing"
    assert len(services.catalog.versions()) == before


def test_a_run_that_is_not_shown_to_be_better_than_its_start_says_so(services: TuningServices) -> None:
    """Two validation rows show nothing, whatever was learned."""
    run = opened(services, demonstrations(24), demonstrations(2), n_epochs=4, batch_size=4)
    (warning,) = finished(run)["warnings"]
    assert "not excluded" in warning
    assert [event.level for event in events(services) if event.message == warning] == ["warn"]


def test_a_run_that_got_worse_gives_back_its_start(services: TuningServices) -> None:
    """What training calls right, the validation rows call wrong."""
    train = [{**row, "label": "No"} for row in questions(16)]
    contrary = [{**row, "label": "Yes"} for row in questions(8)]
    run = opened(services, train, contrary, string_check("{{item.label}}"), {"bessemer.prompt": "same"}, n_epochs=1)
    result = finished(run)
    assert result["best_step"] == 0
    assert "answers as the start does" in result["warnings"][0]


def test_wrong_verdicts_alone_teach_among_three_labels(services: TuningServices) -> None:
    """Two thirds of the rewards are unknown throughout; the job learns not to say what was called wrong."""
    grader = {"type": "feedback", "name": "verdicts", "labels": ["red", "green", "blue"]}
    data = [{**row, "answer": "red", "verdict": False} for row in questions(24)]
    run = opened(services, data, data[:8], grader, {"bessemer.prompt": "three"}, n_epochs=6, learning_rate_multiplier=9)
    result = finished(run)
    steps = [event.data for event in events(services) if event.type == "metrics"]
    assert max(step["unscorable"] for step in steps) == pytest.approx(2 / 3)
    assert steps[-1]["train_loss"] < steps[0]["train_loss"]
    last = run._tuner.best
    assert last is not None
    assert all(max(range(3), key=of_row.__getitem__) != 0 for of_row in last.logprobs)
    assert last.reward_bounds == (0.0, 1.0)
    assert last.score == pytest.approx(0.5), "a guess among the two that nobody judged"
    assert result["version"]


JUDGE = {
    "type": "score_model",
    "name": "judge",
    "model": "nobody",
    "input": [{"role": "user", "content": "{{sample.output_text}}"}],
}


@pytest.mark.parametrize(
    ("grader", "code", "says"),
    [
        (string_check("{{item.lable}}"), "invalid_variable_error", "item.lable"),
        (JUDGE, "model_not_found", "No model 'nobody'"),
    ],
)
def test_a_job_fails_with_its_graders_cause(services: TuningServices, grader: JSON, code: str, says: str) -> None:
    run = opened(services, questions(8), questions(4), grader)
    with pytest.raises(BessemerError, match=says) as raised:
        finished(run)
    assert raised.value.error_code == code
    run.close()


def test_a_run_that_is_closed_holds_no_memory(services: TuningServices) -> None:
    run = opened(services, questions(4), [], string_check("Yes"), {"bessemer.prompt": "same"})
    run.train_chunk()
    tuner, model = weakref.ref(run._tuner), weakref.ref(run._tuner.backend.trainer.network)
    run.close()
    del run
    gc.collect()
    assert (tuner(), model()) == (None, None)


def wish(services: TuningServices, control: Control | None) -> None:
    job_rows.change(services.database, "ftjob-1", lambda row: msgspec.structs.replace(row, control=control))


SLOW = {"type": "score_model", "name": "judge", "model": "slow", "input": JUDGE["input"]}


@pytest.mark.parametrize("where", ["sampling", "training", "grading"])
def test_a_long_step_can_be_broken_off_and_the_run_goes_on_from_what_was_saved(
    services: TuningServices, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr("bessemer.tuning.wishes._PATIENCE_S", 0.0)
    monkeypatch.setattr("bessemer.tuning.wishes._EVERY_S", 0.05)
    asked = threading.Event()

    async def slow_judge(call: JudgeCall) -> JudgeReply:
        asked.set()
        await asyncio.sleep(60)
        raise AssertionError

    services = dataclasses.replace(services, graders=GraderServices(judge=slow_judge))
    if where == "training":
        run = opened(services, demonstrations(64), [], n_epochs=1, batch_size=64)
    else:
        run = opened(services, questions(4), [], SLOW if where == "grading" else string_check("a"), n_epochs=1)
    before = run._tuner.backend.trainer.adapter.flat.clone()
    if where == "grading":

        def pause() -> None:
            asked.wait(10)
            wish(services, Control.PAUSE)

        threading.Thread(target=pause).start()
    else:
        wish(services, Control.PAUSE)
    began = time.monotonic()
    with pytest.raises(StopRequested):
        run.train_chunk()
    assert time.monotonic() - began < 30
    run.close()
    wish(services, None)
    if where == "grading":
        return
    again = TuningRun.open(services, "ftjob-1")
    assert torch.equal(again._tuner.backend.trainer.adapter.flat, before)
    assert again._tuner.step_number == 0
    again.train_chunk()
    assert again._tuner.step_number > 0


async def endless_judge(call: JudgeCall) -> JudgeReply:
    await asyncio.sleep(120)
    raise AssertionError


def test_a_time_limit_binds_while_a_grader_is_probed_and_while_it_grades(services: TuningServices) -> None:
    services = dataclasses.replace(services, graders=GraderServices(judge=endless_judge))
    run = opened(services, questions(4), questions(2), SLOW, {"bessemer.max_seconds": "3"}, n_epochs=1)
    began = time.monotonic()
    run.announce()
    assert [event.message for event in events(services) if event.level == "warn"] == [
        "The grader is too slow to be probed before training: it was not."
    ]
    with pytest.raises(TuningError) as raised:
        run.train_chunk()
    assert raised.value.error_code == "out_of_time"
    assert time.monotonic() - began < 60
    run.close()


def test_a_job_can_be_cancelled_while_its_grader_is_probed(
    services: TuningServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bessemer.tuning.watch._EVERY_S", 0.05)
    services = dataclasses.replace(services, graders=GraderServices(judge=endless_judge))
    run = opened(services, questions(4), [], SLOW)
    wish(services, Control.CANCEL)
    with pytest.raises(StopRequested):
        run.announce()
    run.close()


def test_a_time_limit_binds_what_is_told(services: TuningServices) -> None:
    """Fifty epochs would take minutes; the job ends within its limit, and says so all along."""
    limit = 2.0
    run = opened(
        services, demonstrations(400), demonstrations(300), metadata={"bessemer.max_seconds": str(limit)}, n_epochs=50
    )
    began = time.time()
    finished(run)
    steps = [event for event in events(services) if event.type == "metrics"]
    for event in steps:
        assert event.data["seconds_left"] <= limit * 3
    half = steps[len(steps) // 2]
    assert half.data["total_steps"] < 2.5 * len(steps)
    assert 0.2 < half.data["share_done"] < 0.8
    row = job_rows.get(services.database, "ftjob-1")
    assert row.progress is not None
    assert row.progress["estimated_finish"] <= began + 4 * limit
    (start,) = (event for event in events(services) if event.message.startswith("Start:"))
    assert start.data["rows"] <= 300


@pytest.mark.parametrize(
    ("rows", "evaluations", "affordable", "expected"),
    [
        (300, 4, 1e9, (300, 4)),
        (300, 4, 1500, (300, 4)),
        (300, 4, 1499, (300, 3)),
        (300, 4, 900, (300, 2)),
        (300, 4, 300, (100, 2)),
        (300, 4, 0, (8, 2)),
        (5, 4, 0, (5, 2)),
        (300, 1, 300, (150, 1)),
    ],
)
def test_a_tenth_of_the_time_is_evaluation(
    rows: int, evaluations: int, affordable: float, expected: tuple[int, int]
) -> None:
    assert plan_looks(rows, evaluations, affordable) == expected


def test_comparisons_claim_nothing_from_a_handful_of_rows() -> None:
    start, better = [(0.0, 1.0)] * 50, [(1.0, 1.0)] * 50
    assert compare(start, better, 1).better
    assert not compare(start[:5], better[:5], 1).better
    assert not compare(start, start, 1).better
    assert compare([None], [None], 1) is None
    mixed = [(float(i % 2), 1.0) for i in range(50)]
    assert not compare(mixed, mixed[1:] + mixed[:1], 4).better
    assert msgspec.json.encode(compare(start, better, 4))
