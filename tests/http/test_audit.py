"""The audit trail: every change writes its event in its own transaction, every denial is told, both can be read."""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.http.test_openai_client import GRADER, ROW, upload
from tests.http.test_plans import WORKLOAD
from tests.live import Server, Upstream, start_server, stop_server

from bessemer.dialects import DIALECTS
from bessemer.http.surface import TABLE

Step = Callable[[dict[str, str]], Any]
FACTS = {
    *(f"POST {dialect.path}" for dialect in DIALECTS),
    "POST /v1/feedback",
    "POST /v1/fine_tuning/alpha/graders/validate",
    "POST /v1/fine_tuning/alpha/graders/run",
}
"""They append what was asked, answered or learned, or change nothing."""
ELSEWHERE = {"POST /v1/plans"}
"""It waits for a worker, and there is none here: see test_plans.py."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("audit"), upstream, "--no-worker")
    yield running
    stop_server(running)


@pytest.fixture
def client(server: Server) -> OpenAI:
    return server.openai()


def events(client: OpenAI, **query: Any) -> list[dict[str, Any]]:
    text = "&".join(f"{name}={value}" for name, value in {"limit": 1000, **query}.items())
    found: list[dict[str, Any]] = client.get(f"/audit?{text}", cast_to=object)["data"]  # type: ignore[index]
    return found


def contents(data: Path) -> dict[str, list[tuple[Any, ...]]]:
    with sqlite3.connect(data / "bessemer.db") as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: sorted(database.execute(f"SELECT * FROM {name}"), key=repr) for name in names}
    database.close()
    return found


def statement(data: Path, text: str) -> None:
    with sqlite3.connect(data / "bessemer.db") as database:
        database.execute(text)
    database.close()


BATCH = {"endpoint": "/v1/embeddings", "completion_window": "24h"}


def steps(client: OpenAI) -> list[tuple[str, str, Step]]:
    """Return each changing endpoint, the action it writes and a call of it, in an order that works."""

    def post(path: str, body: dict[str, Any] | None = None) -> Any:
        return client.post(path, body=body or {}, cast_to=object)

    def uploaded(state: dict[str, str]) -> None:
        state["file"] = upload(client, [ROW])

    def keyed(state: dict[str, str]) -> None:
        state["key"] = post("/keys", {"name": "another", "role": "member"})["id"]

    def tuned(state: dict[str, str]) -> None:
        method: Any = {"type": "reinforcement", "reinforcement": {"grader": GRADER}}
        state["job"] = client.fine_tuning.jobs.create(model="small", training_file=state["file"], method=method).id

    def built(state: dict[str, str]) -> None:
        state["dataset"] = post("/datasets", {"name": "all", "route": "assistant"})["id"]

    def evaluated(state: dict[str, str]) -> None:
        body = {"dataset": state["dataset"], "systems": ["assistant"], "metric": "accuracy", "labels": ["yes", "no"]}
        state["evaluation"] = post("/evaluations", body)["id"]

    def cascaded(state: dict[str, str]) -> None:
        body = {"route": "r", "small": "small", "large": "upstream", "metric": "accuracy", "labels": ["yes", "no"]}
        state["cascade"] = post("/cascades", body | {"dataset": state["dataset"]})["id"]

    def climbed(state: dict[str, str]) -> None:
        body = {"route": "r", "incumbent": "upstream", "dataset": state["dataset"], "labels": ["yes", "no"]}
        state["ladder"] = post("/ladders", body)["id"]

    def batched(state: dict[str, str]) -> None:
        state["batch"] = post("/batches", BATCH | {"input_file_id": state["asked"]})["id"]

    def planned(state: dict[str, str]) -> None:
        state["plan"] = post("/plans/jobs", WORKLOAD)["id"]

    def controlled(path: str, name: str) -> list[tuple[str, str, Step]]:
        return [
            (f"POST /v1/{path}/{{job_id}}/{verb}", f"job.{past}", lambda s, v=verb: post(f"/{path}/{s[name]}/{v}"))
            for verb, past in (("pause", "paused"), ("resume", "resumed"), ("cancel", "cancelled"))
        ]

    def promoted(state: dict[str, str]) -> None:
        version = client.get("/versions?model=upstream", cast_to=object)["data"][0]["id"]  # type: ignore[index]
        post(f"/versions/{version}/promote", {"alias": "challenger"})

    def forgotten(state: dict[str, str]) -> None:
        client.delete(f"/feedback/{state['feedback']}", cast_to=object)

    def erased_one(state: dict[str, str]) -> None:
        client.delete(f"/inferences/{state['inference']}", cast_to=object)

    jobs = client.fine_tuning.jobs
    route = {"targets": ["upstream"]}
    return [
        ("POST /v1/keys", "api_key.created", keyed),
        ("DELETE /v1/keys/{key_id}", "api_key.deleted", lambda s: client.delete(f"/keys/{s['key']}", cast_to=object)),
        ("POST /v1/files", "file.created", uploaded),
        ("POST /v1/fine_tuning/jobs", "job.created", tuned),
        ("POST /v1/fine_tuning/jobs/{job_id}/pause", "job.paused", lambda s: jobs.pause(s["job"])),
        ("POST /v1/fine_tuning/jobs/{job_id}/resume", "job.resumed", lambda s: jobs.resume(s["job"])),
        ("POST /v1/fine_tuning/jobs/{job_id}/cancel", "job.cancelled", lambda s: jobs.cancel(s["job"])),
        ("DELETE /v1/files/{file_id}", "file.deleted", lambda s: client.files.delete(s["file"])),
        ("POST /v1/datasets", "dataset.created", built),
        (
            "POST /v1/datasets/{dataset_id}/approve",
            "dataset.approved",
            lambda s: post(f"/datasets/{s['dataset']}/approve"),
        ),
        ("POST /v1/evaluations", "evaluation.created", evaluated),
        *controlled("evaluations", "evaluation"),
        ("POST /v1/cascades", "cascade.created", cascaded),
        *controlled("cascades", "cascade"),
        ("POST /v1/ladders", "ladder.created", climbed),
        *controlled("ladders", "ladder"),
        (
            "DELETE /v1/datasets/{dataset_id}",
            "dataset.deleted",
            lambda s: client.delete(f"/datasets/{s['dataset']}", cast_to=object),
        ),
        ("POST /v1/plans/jobs", "plan.created", planned),
        *controlled("plans/jobs", "plan"),
        *(("POST /v1/batches", "batch.created", batched), *controlled("batches", "batch")),
        ("POST /v1/routes", "route.created", lambda _: post("/routes", {"name": "new", **route})),
        ("PUT /v1/routes/{name}", "route.updated", lambda _: client.put("/routes/new", body=route, cast_to=object)),
        ("POST /v1/routes/{name}/rollback", "route.rolled_back", lambda _: post("/routes/new/rollback")),
        ("POST /v1/versions/{version_id}/promote", "version.promoted", promoted),
        (
            "POST /v1/models/{model}/rollback",
            "version.rolled_back",
            lambda _: post("/models/upstream/rollback", {"alias": "challenger"}),
        ),
        ("POST /v1/feedback/wanted", "feedback.wanted", lambda _: post("/feedback/wanted", {"route": "assistant"})),
        ("DELETE /v1/feedback/{feedback_id}", "subject.erased", forgotten),
        ("DELETE /v1/inferences/{inference_id}", "subject.erased", erased_one),
        ("POST /v1/erasures", "subject.erased", lambda _: post("/erasures", {"route": "assistant"})),
    ]


def test_every_change_and_its_event_are_one_transaction(server: Server, client: OpenAI) -> None:
    table = steps(client)
    changing = {f"{line.method} {line.path}": line.events for line in TABLE if line.method != "GET"}
    assert {name for name, events in changing.items() if not events} == FACTS
    assert {name for name, _, _ in table} == set(changing) - FACTS - ELSEWHERE
    assert all(action in changing[name] for name, action, _ in table)
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "upstream", "input": "a"}}
    state = {"asked": client.files.create(file=("b.jsonl", json.dumps(line).encode()), purpose="batch").id}
    for text in ("hi", "ho"):
        answer = client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": text}])
        state["inference"] = answer.model_extra["bessemer"]["inference_id"]  # type: ignore[index]
    feedback = {"inference_id": state["inference"], "value": "ok", "metric": "demonstration"}
    state["feedback"] = client.post("/feedback", body=feedback, cast_to=object)["id"]  # type: ignore[index]
    client.get("/inferences", cast_to=object)  # waits for what is still on its way to the database
    for name, action, step in table:
        before = contents(server.data)
        statement(
            server.data,
            "CREATE TRIGGER refused BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'refused'); END",
        )
        with pytest.raises(openai.InternalServerError):
            step(dict(state))
        statement(server.data, "DROP TRIGGER refused")
        assert contents(server.data) == before, name
        known = {event["id"] for event in events(client)}
        step(state)
        new = [event for event in events(client) if event["id"] not in known]
        assert [(event["action"], event["outcome"]) for event in new] == [(action, "allowed")], name
        assert new[0]["actor"].startswith("key-")


def test_what_memory_knows_is_never_ahead_of_an_undone_change(server: Server, client: OpenAI) -> None:
    statement(
        server.data, "CREATE TRIGGER refused BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'refused'); END"
    )
    with pytest.raises(openai.InternalServerError):
        client.post("/routes", body={"name": "ghost", "targets": ["upstream"]}, cast_to=object)
    statement(server.data, "DROP TRIGGER refused")
    with pytest.raises(openai.NotFoundError):
        client.get("/routes/ghost", cast_to=object)


def test_denials_are_told_and_a_flood_is_counted(server: Server, client: OpenAI) -> None:
    made: Any = client.post("/keys", body={"name": "app", "role": "inference"}, cast_to=object)
    weak = server.openai(made["key"])
    for _ in range(40):
        with pytest.raises(openai.PermissionDeniedError):
            weak.files.list()
    told = events(client, action="authorization.denied", actor=made["id"])
    assert {(event["subject"], event["outcome"]) for event in told} == {("GET /v1/files", "denied")}
    named = [event["detail"] for event in told if "suppressed" not in event["detail"]]
    assert named
    assert all((one["permission"], one["rules"]) == ("object.view", []) for one in named), "for want of a permit"
    assert 3 <= len(told) <= 8, "the others are counted when the minute is over"
    with pytest.raises(openai.AuthenticationError):
        server.openai("bsm-wrong-key-of-nobody").models.list()
    failed = events(client, action="authentication.failed")
    assert failed
    assert failed[0]["actor"] == "address 127.0.0.1"
    assert "bsm-wrong" not in json.dumps(failed)


def test_a_denial_names_the_rule_it_stands_on(server: Server, client: OpenAI) -> None:
    made: Any = client.post("/keys", body={"name": "app", "role": "owner", "models": ["assistant"]}, cast_to=object)
    narrow = server.openai(made["key"])
    with pytest.raises(openai.PermissionDeniedError):
        narrow.post("/keys", body={"name": "wide", "role": "app", "models": ["other"]}, cast_to=object)
    (told,) = events(client, action="authorization.denied", actor=made["id"])
    assert (told["detail"]["permission"], told["detail"]["rules"]) == ("key.write", ["guard/key-ceiling"])


def test_the_trail_can_be_filtered_and_paged(client: OpenAI) -> None:
    for name in ("one", "two", "three"):
        client.post("/keys", body={"name": name, "role": "member"}, cast_to=object)
    created = events(client, action="api_key.created")
    assert len(created) >= 3
    assert {event["action"] for event in created} == {"api_key.created"}
    page: Any = client.get("/audit?limit=2&action=api_key.created", cast_to=object)
    assert page["has_more"]
    rest = events(client, action="api_key.created", after=page["last_id"])
    assert [*page["data"], *rest] == created
    later = events(client, since=created[1]["created_at"], action="api_key.created")
    assert later == created[:2]
    assert events(client, actor="key-unknown") == []


def test_members_may_not_read_the_trail(server: Server, client: OpenAI) -> None:
    made: Any = client.post("/keys", body={"name": "member", "role": "member"}, cast_to=object)
    with pytest.raises(openai.PermissionDeniedError):
        server.openai(made["key"]).get("/audit", cast_to=object)


def test_no_event_holds_a_key(client: OpenAI) -> None:
    assert not re.search(r"bsm-[A-Za-z0-9_-]{20,}", json.dumps(events(client)))
