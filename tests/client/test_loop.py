"""The loop as calls against the real server: each alone, interrupted at any moment, and run again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.live import Server

from bessemer.client import Client, calls
from bessemer.client.loop import ApplicationAnswer, Loop, LoopFailed, LoopProgress, Question
from bessemer.client.memory import Lines
from bessemer.core.datasets import Dataset, Split
from bessemer.core.errors import InvalidRequest
from bessemer.core.evaluations import Evaluation, GateResult
from bessemer.core.paging import FeedbackQuery, InferencesQuery, JobsQuery
from lab.fake_openai import Script

SUPERVISED = {"type": "supervised", "supervised": {}}


@pytest.fixture
def client(server: Server) -> Client:
    return Client(server.url, server.key)


def questions(name: str, count: int) -> list[Question]:
    return [Question(id=f"{name}-{number}", input={"a": name, "b": str(number)}) for number in range(count)]


def interrupting(after: int, step: str) -> Callable[[LoopProgress], None]:
    """Return what is told of progress and is Ctrl-C when a step has told so much."""
    told = 0

    def tell(progress: LoopProgress) -> None:
        nonlocal told
        told += progress.step == step
        if told == after:
            raise KeyboardInterrupt

    return tell


def recorded(client: Client, tag: str) -> list[str]:
    rows = client.each(calls.list_inferences(InferencesQuery(route="compare", limit=500)))
    return [row.tags["question"] for row in rows if row.tags.get("question", "").startswith(tag)]


@pytest.fixture
def route(client: Client) -> str:
    body: Any = {"targets": [{"model": "upstream", "prompt": "compare"}]}
    return client.send(calls.put_route("compare", body)).name


def verdict(_answer: ApplicationAnswer) -> list[dict[str, Any]]:
    return [{"metric": "verdict", "value": True}, {"metric": "comment", "value": "fine"}]


@pytest.mark.parametrize("after", [1, 2])
def test_what_was_interrupted_goes_on_where_it_stopped(client: Client, route: str, tmp_path: Path, after: int) -> None:
    name, folder = f"cut{after}", tmp_path / "turn"
    asked = questions(name, 40)
    with pytest.raises(KeyboardInterrupt):
        Loop(client, route, folder=folder, tell=interrupting(after, "traffic")).ask(asked, concurrency=4)
    with pytest.raises(KeyboardInterrupt):
        loop = Loop(client, route, folder=folder, tell=interrupting(after, "feedback"))
        loop.judge(loop.ask(asked), verdict, concurrency=4)
    told: list[str] = []
    loop = Loop(client, route, folder=folder, tell=lambda progress: told.append(str(progress)))
    answers = loop.ask(asked)
    assert loop.judge(answers, verdict) == 80
    dataset = loop.collect("compare", name=name)
    assert told[0] == "feedback: started", "traffic was asked before"
    assert [answer.question for answer in answers] == [question.id for question in asked]
    assert {answer.text for answer in answers} == {"ok"}
    assert sorted(recorded(client, name)) == sorted(question.id for question in asked)
    given = client.each(calls.list_feedback(FeedbackQuery(limit=500)))
    ours = {answer.inference_id for answer in answers}
    assert sum(row.inference_id in ours for row in given) == 80
    again = Loop(client, route, folder=folder)
    assert (again.ask(asked), again.collect("compare", name=name)) == (answers, dataset)
    assert list(again.seconds) == ["traffic", "feedback", "dataset"]


def test_a_loop_without_a_folder_remembers_while_it_lives(client: Client, route: str) -> None:
    loop, asked = Loop(client, route), questions("alone", 3)
    assert loop.ask(asked) == loop.ask(asked)
    Loop(client, route).ask(asked)
    assert len(recorded(client, "alone")) == 6


def test_requests_that_fail_are_asked_again_by_the_next_try(
    server: Server, client: Client, route: str, tmp_path: Path
) -> None:
    loop, asked = Loop(client, route, folder=tmp_path), questions("lost", 4)
    server.upstream.scripts.waiting += [Script(), Script(status=400), Script(), Script()]
    with pytest.raises(LoopFailed, match="traffic: 1 of 4 requests to 'compare' failed"):
        loop.ask(asked, concurrency=1)
    before = len(server.upstream.fake.bodies)
    assert [answer.error for answer in loop.ask(asked)] == [None] * 4
    assert len(server.upstream.fake.bodies) == before + 1


def training_rows(client: Client, folder: Path) -> Dataset:
    (folder / "rows").write_text(
        '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\n'
    )
    file = client.send(calls.upload_file(folder / "rows"))
    return Dataset(id="d", name="d", sha256="", created_at=0.0, counts={}, provenance={}, files={"train": file.id})


def test_a_job_is_found_again_until_it_has_failed(client: Client, tmp_path: Path) -> None:
    dataset, marked = training_rows(client, tmp_path), {"of": "this test"}

    def jobs() -> list[str]:
        return [job.id for job in client.send(calls.FINE_TUNING.list(JobsQuery(metadata=marked))).data]

    def tune(**more: Any) -> None:
        loop = Loop(client, "assistant", folder=tmp_path / "turn", **more)
        loop.tune(dataset, "small", SUPERVISED, metadata=marked)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            tune(tell=interrupting(2, "tuning"))  # the first thing that the job tells
    assert len(jobs()) == 1
    client.send(calls.FINE_TUNING.pause(jobs()[0]))
    for _ in range(2):
        with pytest.raises(LoopFailed, match=f"tuning: job {jobs()[0]} is paused; resume it"):
            tune()
    client.send(calls.FINE_TUNING.cancel(jobs()[0]))
    with pytest.raises(LoopFailed, match=f"tuning: job {jobs()[0]} is cancelled"):
        tune()
    with pytest.raises(KeyboardInterrupt):
        tune(tell=interrupting(2, "tuning"))
    assert len(jobs()) == 2


def test_only_what_passed_its_gate_is_promoted(client: Client) -> None:
    bare = Evaluation(id="e", dataset="d", split=Split.HOLDOUT, metric="f1", created_at=0.0, rows=())
    failed = GateResult(passed=False, rule="It is worse.", difference=None, margin=0.0, candidate="m@1")
    for gate, says in ((None, "no gate was asked"), (failed, "It is worse")):
        with pytest.raises(LoopFailed, match=says):
            Loop(client, "assistant").promote(msgspec.structs.replace(bare, gate=gate))


def test_a_refusal_names_the_step_and_says_why(client: Client) -> None:
    with pytest.raises(LoopFailed, match="dataset: No inference is left") as caught:
        Loop(client, "nothing-is-recorded-here").collect()
    assert isinstance(caught.value.__cause__, InvalidRequest)


def test_a_file_of_lines_drops_a_half_written_one(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "lines", str)
    lines.append("one")
    lines.append("two\n")
    with (tmp_path / "lines").open("ab") as file:
        file.write(b'"thr')
    again = Lines(tmp_path / "lines", str)
    again.append("four")
    assert Lines(tmp_path / "lines", str).rows == ["one", "two\n", "four"]
