"""What is erased is gone from the whole data folder, and what was made of it is named."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.http.test_openai_client import GRADER, ROW, upload
from tests.live import Server, Upstream, start_server, stop_server

from bessemer.cli.main import run
from bessemer.core.ids import new_id
from bessemer.core.inferences import INTERNAL_KEY, JUDGED, Inference
from bessemer.core.settings import Settings
from bessemer.store import inferences
from bessemer.store.database import Database
from lab.fake_openai import Script

PERSON = "PERSON-TO-ERASE-77"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("erasure"), upstream, "--no-worker")
    yield running
    stop_server(running)


@pytest.fixture
def client(server: Server) -> OpenAI:
    return server.openai()


def post(client: OpenAI, path: str, body: Any) -> Any:
    return client.post(path, body=body, cast_to=object)


def asked(client: OpenAI, text: Any, user: str) -> str:
    answer = client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": text}], user=user)
    inference: str = answer.model_extra["bessemer"]["inference_id"]  # type: ignore[index]
    post(client, "/feedback", {"inference_id": inference, "metric": "demonstration", "value": f"said of {text}"})
    client.get("/inferences?limit=1", cast_to=object)  # waits for the database
    return inference


def holds(data: Path, text: str) -> list[str]:
    found = subprocess.run(["grep", "-rla", text, str(data)], check=False, capture_output=True, text=True)
    return found.stdout.splitlines()


def test_a_person_is_erased_and_what_was_made_of_it_is_named(server: Server, client: OpenAI) -> None:
    erased = [asked(client, f"{PERSON} asks {number}", "u-77") for number in range(3)]
    kept = asked(client, "somebody else", "u-78")
    dataset = post(
        client, "/datasets", {"name": "d", "route": "assistant", "splits": {"train": 1.0}, "supervised": True}
    )
    other = post(client, "/datasets", {"name": "o", "route": "assistant", "tags": {"user": "u-78"}})
    job = client.fine_tuning.jobs.create(model="small", training_file=dataset["files"]["train"])
    counted = post(client, "/erasures", {"tags": {"user": "u-77"}, "dry_run": True})
    assert (counted["inferences"], counted["model_calls"], counted["feedback"]) == (3, 3, 3)
    assert client.get(f"/inferences/{erased[0]}", cast_to=object)
    done = post(client, "/erasures", {"tags": {"user": "u-77"}})
    assert done == counted | {"dry_run": False}
    assert done["derived"]["datasets"] == [dataset["id"]]
    assert dataset["files"]["train"] in done["derived"]["files"]
    assert done["derived"]["jobs"] == [job.id]
    assert other["id"] not in done["derived"]["datasets"]
    for inference in erased:
        with pytest.raises(openai.NotFoundError):
            client.get(f"/inferences/{inference}", cast_to=object)
        assert client.get(f"/feedback?inference_id={inference}", cast_to=object)["data"] == []  # type: ignore[index]
    assert client.get(f"/inferences/{kept}", cast_to=object)
    left = [path for path in holds(server.data, PERSON) if "/blobs/" not in path]
    assert left == []
    trail = client.get("/audit?action=subject.erased", cast_to=object)["data"]  # type: ignore[index]
    assert (trail[0]["detail"]["inferences"], PERSON in json.dumps(trail)) == (3, False)


def test_nothing_is_left_once_what_was_derived_is_deleted(server: Server, client: OpenAI) -> None:
    """Of the records nor of what Bessemer itself asked of the same input."""
    person = "ZEBRA 4711"
    first = asked(client, f"{person} asks", "u-88")
    asked(client, "somebody else", "u-89")
    dataset = post(client, "/datasets", {"name": "left", "route": "assistant", "supervised": True})
    same = post(client, "/datasets", {"name": "the same", "route": "assistant", "supervised": True})
    assert dataset["sha256"] == same["sha256"]
    row = Inference(**copied(client, first), origin="evaluation", key_id=INTERNAL_KEY, tags={})
    with closing(Database.open(Settings(data=server.data))) as database:
        database.write(lambda connection: inferences.insert_rows(connection, [row]))
    job = client.fine_tuning.jobs.create(model="small", training_file=dataset["files"]["train"])
    done = post(client, "/erasures", {"tags": {"user": "u-88"}})
    assert done["inferences"] == 2
    assert {dataset["id"], same["id"]} <= set(done["derived"]["datasets"])
    with pytest.raises(openai.ConflictError, match="cancel it"):
        client.delete(f"/datasets/{dataset['id']}", cast_to=object)
    client.fine_tuning.jobs.cancel(job.id)
    client.delete(f"/datasets/{dataset['id']}", cast_to=object)
    assert client.files.content(same["files"]["train"]).text
    for name in done["derived"]["datasets"]:
        if name != dataset["id"]:
            client.delete(f"/datasets/{name}", cast_to=object)
    assert holds(server.data, person) == []
    for path in (f"/datasets/{dataset['id']}", f"/files/{dataset['files']['train']}", f"/inferences/{row.id}"):
        with pytest.raises(openai.NotFoundError):
            client.get(path, cast_to=object)


def test_what_a_judge_was_shown_is_not_written_down(server: Server, client: OpenAI) -> None:
    person = "QUAGGA 4712"
    judge = {
        "type": "score_model",
        "name": "j",
        "model": "upstream",
        "input": [{"role": "user", "content": "Of {{item.who}}: {{sample.output_text}}"}],
        "range": [0, 1],
    }
    for said in (f"nothing that is a number of {person}", "0.5"):
        server.upstream.scripts.waiting.append(Script(pieces=(said,)))
        body = {"grader": judge, "model_sample": f"of {person}", "item": {"who": person}}
        result = post(client, "/fine_tuning/alpha/graders/run", body)
    assert result["reward"] == 0.5
    client.get("/inferences?limit=1", cast_to=object)  # waits for the database
    with closing(Database.open(Settings(data=server.data))) as database:
        rows = [row for row in inferences.find(database, limit=100) if row.origin == JUDGED]
    assert [(row.messages, row.output, row.input_tokens is None) for row in rows] == [((), None, False)] * 2
    assert holds(server.data, person) == []


def copied(client: OpenAI, inference: str) -> dict[str, Any]:
    """Return the fields of an inference for another one that asks the same."""
    row: Any = client.get(f"/inferences/{inference}", cast_to=object)
    left = {"id": new_id("inf"), "calls": (), "messages": tuple(row["messages"]), "split": None, "user": None}
    return {name: value for name, value in (row | left).items() if name not in ("origin", "key_id", "tags")}


def test_what_was_made_of_an_input_is_named_however_it_is_spelled(client: OpenAI) -> None:
    plain = asked(client, "spelled in two ways", "u-1")
    parts = [{"type": "text", "text": "spelled in "}, {"type": "text", "text": "two ways"}]
    asked(client, parts, "u-2")
    dataset = post(client, "/datasets", {"name": "spelled", "route": "assistant", "tags": {"user": "u-2"}})
    done = post(client, "/erasures", {"inference_ids": [plain], "dry_run": True})
    assert dataset["id"] in done["derived"]["datasets"]


def test_the_command_line_counts_and_erases(server: Server, client: OpenAI, capsys: pytest.CaptureFixture[str]) -> None:
    asked(client, "by command", "u-9")
    words = ["--url", server.url, "--key", server.key, "erase", "--tag", "user=u-9"]
    assert run([*words, "--count"]) == 0
    assert "1 inferences, 1 calls, 1 feedback match." in capsys.readouterr().out
    assert run(words) == 0
    assert "1 inferences, 1 calls, 1 feedback erased." in capsys.readouterr().out
    assert run([*words[:-2], "--tag", "u-9"]) == 2


def test_single_records_are_erased(client: OpenAI) -> None:
    inference = asked(client, "one alone", "u-1")
    said = client.get(f"/feedback?inference_id={inference}", cast_to=object)["data"]  # type: ignore[index]
    assert client.delete(f"/feedback/{said[0]['id']}", cast_to=object)["feedback"] == 1  # type: ignore[index]
    assert client.delete(f"/inferences/{inference}", cast_to=object)["inferences"] == 1  # type: ignore[index]
    for path in (f"/feedback/{said[0]['id']}", f"/inferences/{inference}"):
        with pytest.raises(openai.NotFoundError):
            client.delete(path, cast_to=object)


def test_a_time_is_erased_without_what_came_before_and_after(client: OpenAI) -> None:
    before = asked(client, "before", "u-2")
    since = time.time()
    within = asked(client, "within", "u-2")
    until = time.time()
    after = asked(client, "after", "u-2")
    assert post(client, "/erasures", {"since": since, "until": until})["inferences"] == 1
    with pytest.raises(openai.NotFoundError):
        client.get(f"/inferences/{within}", cast_to=object)
    for left in (before, after):
        client.get(f"/inferences/{left}", cast_to=object)


def test_an_erasure_needs_a_condition(client: OpenAI) -> None:
    for body in ({}, {"tags": {}}, {"inference_ids": []}):
        with pytest.raises(openai.BadRequestError, match="Say what to erase"):
            post(client, "/erasures", body)


def test_a_deleted_file_takes_its_content_along_unless_another_has_the_same(server: Server, client: OpenAI) -> None:
    row = {"messages": [{"role": "user", "content": "FILE-TO-ERASE-88"}], "answer": "yes"}
    first, second = upload(client, [row]), upload(client, [row])
    client.files.delete(first)
    assert holds(server.data, "FILE-TO-ERASE-88") != []
    assert b"FILE-TO-ERASE-88" in client.files.content(second).read()
    client.files.delete(second)
    assert holds(server.data, "FILE-TO-ERASE-88") == []


def test_a_file_that_a_job_waits_to_read_is_kept(client: OpenAI) -> None:
    file_id = upload(client, [ROW])
    method: Any = {"type": "reinforcement", "reinforcement": {"grader": GRADER}}
    job = client.fine_tuning.jobs.create(model="small", training_file=file_id, method=method)
    with pytest.raises(openai.ConflictError, match=job.id):
        client.files.delete(file_id)
    client.fine_tuning.jobs.cancel(job.id)
    client.files.delete(file_id)
