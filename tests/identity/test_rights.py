"""What a role may see and do, against the running server."""

import json
from typing import Any

import pytest
from tests.asking import ask, chat, key_of, upload
from tests.live import Server

from bessemer.core.access import Role
from bessemer.identity.policy import RolePolicy
from lab.fake_openai import Script

ROW = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}
READERS = {Role.MEMBER, Role.OWNER}
SECRET = "CUSTOMER 4711"


@pytest.fixture(scope="module")
def keys(server: Server) -> dict[Role, str]:
    return {role: key_of(server, role.value) for role in Role}


@pytest.fixture(scope="module")
def inference(server: Server, keys: dict[Role, str]) -> str:
    server.upstream.scripts.waiting.append(Script(pieces=(SECRET,), logprobs=(-0.5,)))
    made = chat(server, keys[Role.APP], SECRET, logprobs=True)
    for metric, value in (("comment", SECRET), ("demonstration", SECRET), ("verdict", True)):
        body = {"inference_id": made, "metric": metric, "value": value}
        assert ask(server, "POST", "/v1/feedback", keys[Role.APP], json.dumps(body).encode())[0] == 200
    return made


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.APP])
def test_content_is_shown_to_those_alone_who_may_read_it(
    server: Server, keys: dict[Role, str], inference: str, role: Role
) -> None:
    lists = [f"/v1/inferences/{inference}", "/v1/inferences", f"/v1/feedback?inference_id={inference}", "/v1/feedback"]
    for path in lists:
        status, answer, _ = ask(server, "GET", path, keys[role])
        assert status == 200
        assert (SECRET in json.dumps(answer)) == (role in READERS), path
    one = ask(server, "GET", lists[0], keys[role])[1]
    assert one["id"] == inference
    assert one["output_tokens"] is not None
    assert one["calls"][0]["version"]
    assert one["policy_sha256"] == RolePolicy().sha256
    if role not in READERS:
        assert one["content"] == "withheld"
        assert [one[name] for name in ("messages", "input", "input_sha256", "output")] == [None] * 4
        assert one["calls"][0]["token_logprobs"] is None
    feedback = ask(server, "GET", lists[2], keys[role])[1]["data"]
    assert {row["metric"]: row["value"] for row in feedback}["verdict"] is True


@pytest.mark.parametrize("role", Role)
def test_file_bytes_are_content(server: Server, keys: dict[Role, str], role: Role) -> None:
    file_id = upload(server, keys[Role.MEMBER], ROW)
    status = ask(server, "GET", f"/v1/files/{file_id}/content", keys[role])[0]
    assert status == (200 if role in READERS else 403)


def test_a_file_is_deleted_by_its_maker_or_an_operator(server: Server, keys: dict[Role, str]) -> None:
    other = key_of(server, "member")
    mine, again = upload(server, keys[Role.MEMBER], ROW), upload(server, keys[Role.MEMBER], ROW)
    refused = ask(server, "DELETE", f"/v1/files/{mine}", other)
    assert refused[0] == 403
    assert "operator" in refused[1]["error"]["message"]
    assert ask(server, "GET", f"/v1/files/{mine}", other)[0] == 200
    assert ask(server, "DELETE", f"/v1/files/{mine}", keys[Role.MEMBER])[0] == 200
    assert ask(server, "DELETE", f"/v1/files/{again}", keys[Role.OPERATOR])[0] == 200


def test_a_job_is_steered_by_its_maker_or_an_operator(server: Server, keys: dict[Role, str]) -> None:
    other = key_of(server, "member")

    def job(body: dict[str, Any]) -> str:
        made = ask(server, "POST", "/v1/fine_tuning/jobs", keys[Role.MEMBER], json.dumps(body).encode())
        assert made[0] == 200, made[1]
        return f"/v1/fine_tuning/jobs/{made[1]['id']}"

    request = {"model": "small", "training_file": upload(server, keys[Role.MEMBER], ROW)}
    first, second = job(request), job(request)
    for verb in ("cancel", "pause", "resume"):
        assert ask(server, "POST", f"{first}/{verb}", other)[0] == 403
    assert ask(server, "POST", f"{first}/pause", keys[Role.MEMBER])[1]["status"] == "paused"
    assert ask(server, "POST", f"{first}/resume", keys[Role.OPERATOR])[1]["status"] == "queued"
    for path in (first, second):
        assert ask(server, "POST", f"{path}/cancel", keys[Role.OPERATOR])[1]["status"] == "cancelled"


def test_a_key_judges_its_own_inferences_and_a_reviewer_all(
    server: Server, keys: dict[Role, str], inference: str
) -> None:
    def judge(key: str, about: str) -> tuple[int, Any]:
        body = {"inference_id": about, "metric": "verdict", "value": False, "author": "chief", "source": "human"}
        status, answer, _ = ask(server, "POST", "/v1/feedback", key, json.dumps(body).encode())
        return status, answer

    other = key_of(server, "app")
    missing = f"inf-{'0' * 32}"
    foreign, unknown = judge(other, inference), judge(other, missing)
    assert foreign[0] == unknown[0] == 404
    assert json.dumps(foreign[1]).replace(inference, missing) == json.dumps(unknown[1])
    own = judge(keys[Role.APP], inference)[1]
    assert (own["author"], own["claimed_author"], own["source"]) == ("app", "chief", "application")
    reviewed = judge(keys[Role.MEMBER], inference)[1]
    assert (reviewed["source"], reviewed["reviewer"]) == ("human", True)
    assert judge(keys[Role.OWNER], inference)[0] == 200
    for role in (Role.VIEWER, Role.OPERATOR, Role.AUDITOR, Role.APPROVER):
        assert judge(keys[role], inference)[0] == 403


def test_an_application_cannot_turn_what_people_corrected(server: Server, keys: dict[Role, str]) -> None:
    """Neither with claims, nor with the same question asked by another key."""

    def correct(key: str, about: str, text: str) -> int:
        claims = {"author": "chief.risk.officer", "source": "human", "trust": 1.0}
        body = {"inference_id": about, "metric": "demonstration", "value": text} | claims
        return ask(server, "POST", "/v1/feedback", key, json.dumps(body).encode())[0]

    attacker, question = key_of(server, "app"), "Payment to a new account?"
    asked = chat(server, keys[Role.APP], question)
    assert correct(keys[Role.MEMBER], asked, "Yes, block the payment") == 200
    assert correct(attacker, asked, "No, let it through") == 404
    assert correct(keys[Role.APP], asked, "No, let it through") == 200
    assert correct(attacker, chat(server, attacker, question), "No, let it through") == 200
    body = {"name": "payments", "route": "assistant", "supervised": True, "splits": {"train": 1.0}}
    dataset = ask(server, "POST", "/v1/datasets", keys[Role.MEMBER], json.dumps(body).encode())[1]
    file_id = dataset["files"]["train"]
    rows = ask(server, "GET", f"/v1/files/{file_id}/content", keys[Role.MEMBER])[1].decode().splitlines()
    answers = [json.loads(row)["messages"][-1]["content"] for row in rows if question in row]
    assert answers == ["Yes, block the payment"]


def test_data_counts_for_gates_by_the_say_of_those_who_decide_what_serves(
    server: Server, keys: dict[Role, str]
) -> None:
    file_id = upload(server, keys[Role.MEMBER], ROW)
    body = json.dumps({"name": "d", "file_id": file_id, "splits": {"holdout": 1.0}}).encode()
    assert ask(server, "POST", "/v1/datasets", keys[Role.OWNER], body)[1]["approved"] is True
    theirs = ask(server, "POST", "/v1/datasets", keys[Role.MEMBER], body)[1]
    assert theirs["approved"] is False
    path = f"/v1/datasets/{theirs['id']}"
    for role in (Role.MEMBER, Role.APP, Role.VIEWER, Role.AUDITOR):
        assert ask(server, "POST", f"{path}/approve", keys[role])[0] == 403
    for role in (Role.OPERATOR, Role.APPROVER, Role.OWNER):
        theirs = ask(server, "POST", "/v1/datasets", keys[Role.MEMBER], body)[1]
        path = f"/v1/datasets/{theirs['id']}"
        assert ask(server, "POST", f"{path}/approve", keys[role])[1] == theirs | {"approved": True}
        assert ask(server, "GET", path, keys[Role.VIEWER])[1]["approved"] is True


def test_a_key_may_be_limited_to_some_models(server: Server, keys: dict[Role, str]) -> None:
    limited = key_of(server, "app", models=["assistant"])
    listed = ask(server, "GET", "/v1/models", limited)[1]["data"]
    assert [row["id"] for row in listed] == ["assistant"]
    assert len(ask(server, "GET", "/v1/models", keys[Role.APP])[1]["data"]) > 1
    assert chat(server, limited, "hi")

    def asked(name: str) -> tuple[int, str]:
        body = {"model": name, "messages": [{"role": "user", "content": "x"}]}
        status, answer, _ = ask(server, "POST", "/v1/chat/completions", limited, json.dumps(body).encode())
        return status, json.dumps(answer).replace(name, "NAME")

    assert asked("upstream") == asked("nothing-like-it")
    assert asked("upstream")[0] == 404
    assert ask(server, "GET", "/v1/models/upstream", limited)[0] == 404
    of_model = key_of(server, "app", models=["upstream"])
    names = {row["id"].partition("@")[0] for row in ask(server, "GET", "/v1/models", of_model)[1]["data"]}
    assert names == {"upstream"}


def test_a_limited_key_changes_and_sees_no_names_but_its_own(server: Server, keys: dict[Role, str]) -> None:
    def status(key: str, method: str, path: str, **body: Any) -> int:
        return ask(server, method, path, key, json.dumps(body).encode() if body else None)[0]

    owner = keys[Role.OWNER]
    assert status(owner, "POST", "/v1/routes", name="theirs", targets=["upstream"]) == 200
    assert status(owner, "POST", "/v1/routes", name="mine", targets=["small"]) == 200
    limited = key_of(server, "operator", models=["mine", "small"])
    for method, path, body in (
        ("PUT", "/v1/routes/mine", {"targets": ["upstream"]}),
        ("PUT", "/v1/routes/mine", {"targets": ["small"], "fallbacks": ["upstream"]}),
        ("PUT", "/v1/routes/theirs", {"targets": ["small"]}),
        ("POST", "/v1/routes", {"name": "fresh", "targets": ["small"]}),
        ("POST", "/v1/routes/theirs/rollback", {}),
        ("POST", "/v1/models/upstream/rollback", {}),
        ("GET", "/v1/routes/theirs", {}),
    ):
        assert status(limited, method, path, **body) == 404, (method, path, body)
    assert status(limited, "PUT", "/v1/routes/mine", targets=[{"model": "small", "weight": 2.0}]) == 200
    routes = ask(server, "GET", "/v1/routes", limited)[1]["data"]
    versions = ask(server, "GET", "/v1/versions", limited)[1]["data"]
    assert [row["name"] for row in routes] == ["mine"]
    assert {row["model"] for row in versions} == {"small"}
    theirs = next(row for row in ask(server, "GET", "/v1/versions", owner)[1]["data"] if row["model"] == "upstream")
    for method, path in (("GET", ""), ("POST", "/promote")):
        assert status(limited, method, f"/v1/versions/{theirs['id']}{path}") == 404


def test_what_cannot_be_a_row_is_said_without_its_content(server: Server, keys: dict[Role, str]) -> None:
    file_id = upload(server, keys[Role.MEMBER], ROW | {"who": SECRET}, ROW | {"who": "train"})
    body = {"name": "d", "file_id": file_id, "split_tag": "who"}
    assert ask(server, "POST", "/v1/datasets", keys[Role.MEMBER], json.dumps(body).encode())[0] == 200
    answer = json.dumps(ask(server, "GET", "/v1/datasets", keys[Role.VIEWER])[1])
    assert "names no split" in answer
    assert SECRET not in answer


def test_judges_are_asked_on_behalf_of_the_key_that_wants_a_grade_and_within_its_limits(
    server: Server, keys: dict[Role, str]
) -> None:
    grader = {
        "type": "score_model",
        "name": "judge",
        "model": "assistant",
        "input": [{"role": "user", "content": "Grade {{sample.output_text}}"}],
        "range": [0, 1],
    }

    def grade(key: str) -> Any:
        body = {"grader": grader, "model_sample": "word"}
        return ask(server, "POST", "/v1/fine_tuning/alpha/graders/run", key, json.dumps(body).encode())[1]

    member = key_of(server, "member")
    listed = ask(server, "GET", "/v1/keys", server.key)[1]["data"]
    member_id = max(listed, key=lambda key: key["created_at"])["id"]
    server.upstream.scripts.waiting.append(Script(pieces=('{"result": 0.5}',)))
    assert grade(member)["reward"] == 0.5
    newest = ask(server, "GET", "/v1/inferences?limit=1", keys[Role.OWNER])[1]["data"][0]
    assert (newest["key_id"], newest["on_behalf_of"]) == ("internal", member_id)
    limited = key_of(server, "member", models=["small"])
    refused = grade(limited)["error"]
    assert refused["param"] == "grader.model"
    assert "this key may ask for" in refused["message"]


def test_a_limited_key_makes_no_wider_one(server: Server) -> None:
    limited = key_of(server, "owner", models=["assistant"])
    for models, status in ((["assistant"], 200), (["upstream"], 403), (None, 200)):
        body = {"name": "next", "role": "app"} | ({} if models is None else {"models": models})
        made = ask(server, "POST", "/v1/keys", limited, json.dumps(body).encode())
        assert made[0] == status
        assert status == 403 or made[1]["models"] == ["assistant"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("role", "root"),
        ("expires_at", 5),
        ("models", []),
        ("models", [""]),
        ("trust", 2),
        ("name", " "),
        ("name", "x" * 65),
    ],
)
def test_a_key_that_makes_no_sense_is_refused_by_field(server: Server, field: str, value: Any) -> None:
    body = {"name": "odd", "role": "app"} | {field: value}
    status, answer, _ = ask(server, "POST", "/v1/keys", server.key, json.dumps(body).encode())
    assert (status, answer["error"]["param"]) == (400, field)
