"""Two projects on one server: what belongs to one does not exist for the other, whatever is asked and by whom."""

import json
import re
from typing import Any

import msgspec
import pytest
from tests.asking import ask, chat, key_of, upload
from tests.http.test_plans import WORKLOAD
from tests.live import Server

from bessemer.core.access import Role, project
from bessemer.core.models import Lineage, ModelVersion
from bessemer.http.routing import Endpoint
from bessemer.http.surface import TABLE
from bessemer.identity.policy import RolePolicy, roles_that_may
from bessemer.registry.versions import make_version
from bessemer.store import plans, versions
from bessemer.store.blob_folder import BlobFolder
from bessemer.store.database import Database
from lab.fake_openai import Script

SECRET = "CUSTOMER 4711"
ROW = {"messages": [{"role": "user", "content": SECRET}, {"role": "assistant", "content": "A"}], "answer": "A"}
LISTS = [line for line in TABLE if line.method == "GET" and line.path.startswith("/v1/") and "{" not in line.path]
ITEMS = [line for line in TABLE if "{" in line.path and not line.path.startswith("/v1/keys")]
ROLES = [Role.MEMBER, Role.OPERATOR, Role.OWNER, Role.AUDITOR, Role.APP]


def name_of(line: Endpoint) -> str:
    return f"{line.method} {line.path}"


def allowed(line: Endpoint) -> tuple[Role, ...]:
    assert line.action is not None
    return roles_that_may(RolePolicy(), line.action, project("hr"))


class Theirs(msgspec.Struct):
    """What project `claims` owns, and keys of project `hr`, which is to see none of it."""

    server: Server
    ids: dict[str, str]
    """By the parameter of paths: `job_id` by the noun in front of it."""
    keys: dict[Role, str]
    claims: str
    """Owner's key of `claims`."""

    def ask(self, method: str, path: str, key: str, body: Any = None) -> tuple[int, Any]:
        status, answer, _ = ask(self.server, method, path, key, None if body is None else json.dumps(body).encode())
        return status, answer

    def made(self, path: str, body: Any) -> Any:
        status, answer = self.ask("POST", path, self.claims, body)
        assert status == 200, answer
        return answer


@pytest.fixture(scope="module")
def theirs(shared: tuple[Server, str]) -> Theirs:
    server, url = shared
    keys = {role: key_of(server, role.value, project="hr") for role in Role}
    theirs = Theirs(server, {}, keys, key_of(server, "owner", project="claims"))
    server.upstream.scripts.waiting.append(Script(pieces=(SECRET,)))
    theirs.ids["inference_id"] = chat(server, theirs.claims, SECRET, bessemer={"episode_id": "case-1"})
    for metric, value in (("demonstration", SECRET), ("verdict", False)):
        about = {"inference_id": theirs.ids["inference_id"], "metric": metric, "value": value}
        theirs.ids["feedback_id"] = theirs.made("/v1/feedback", about)["id"]
    theirs.ids["file_id"] = upload(server, theirs.claims, ROW)
    splits = {"splits": {"holdout": 0.5, "calibration": 0.5}}
    theirs.ids["dataset_id"] = theirs.made("/v1/datasets", {"name": "claims", "route": "assistant"} | splits)["id"]
    theirs.ids["files"] = next(iter(theirs.ask("GET", "/v1/files", theirs.claims)[1]["data"]))["id"]
    tuning = {"model": "small", "training_file": theirs.ids["file_id"], "suffix": "claims-tuned"}
    theirs.ids["fine_tuning"] = theirs.made("/v1/fine_tuning/jobs", tuning)["id"]
    measured = {"dataset": theirs.ids["dataset_id"], "metric": "accuracy", "labels": ["A", "B"]}
    theirs.ids["evaluations"] = theirs.made("/v1/evaluations", measured | {"systems": ["assistant"]})["id"]
    cascade = {"route": "claims-cascade", "small": "small", "large": "upstream", "alpha": 0.05}
    theirs.ids["cascades"] = theirs.made("/v1/cascades", measured | cascade)["id"]
    ladder = {"route": "claims-ladder", "incumbent": "upstream", "alpha": 0.05}
    theirs.ids["ladders"] = theirs.made("/v1/ladders", measured | ladder)["id"]
    line = {"custom_id": SECRET, "method": "POST", "url": "/v1/embeddings", "body": {"model": "small", "input": SECRET}}
    asked = server.openai(theirs.claims).files.create(file=("b.jsonl", json.dumps(line).encode()), purpose="batch").id
    batch = {"input_file_id": asked, "endpoint": "/v1/embeddings", "completion_window": "24h"}
    theirs.ids["batches"] = theirs.made("/v1/batches", batch)["id"]
    theirs.made("/v1/routes", {"name": "claims-route", "targets": ["upstream"]})
    theirs.ids["name"] = "claims-route"
    database = Database.open_url(url)
    adapter = BlobFolder(server.data / "blobs").put(b"weights")
    version = tuned_version(versions.find(database)["proj_default"], adapter)
    versions.insert(database.within("claims"), version)
    theirs.ids["plans"] = theirs.made("/v1/plans/jobs", WORKLOAD | {"name": SECRET})["id"]
    theirs.ids["plan_id"] = "plan-01"
    plan = {"id": "plan-01", "object": "plan", "made_at": SECRET, "recommendation": "", "workload": {"name": "w"}}
    plans.insert(database.within("claims"), "plan-01", json.dumps(plan | {"fleet": {"usd_per_month": 1}}))
    database.close()
    theirs.ids["version_id"] = version.id
    theirs.made(f"/v1/versions/{version.id}/promote", {"alias": "trial"})
    theirs.ids["model"] = version.model
    return theirs


def tuned_version(found: list[ModelVersion], adapter_sha256: str) -> ModelVersion:
    base = next(version for version in found if version.model == "small")
    lineage = Lineage(base=base.id, method="sft", job_id="ftjob-1")
    return make_version("claims-tuned", adapter_sha256=adapter_sha256, lineage=lineage)


def path_of(line: Endpoint, ids: dict[str, str]) -> str:
    noun = line.path.split("/")[2]
    found = re.search(r"\{(\w+)\}", line.path)
    assert found is not None
    value = ids[noun if found[1] == "job_id" else found[1]]
    return line.path.replace(found[0], value)


def body_of(line: Endpoint) -> Any:
    return {"PUT": {"targets": ["nothing"]}, "POST": {}}.get(line.method)


@pytest.mark.parametrize("line", ITEMS, ids=name_of)
def test_a_foreign_thing_is_a_missing_one(theirs: Theirs, line: Endpoint) -> None:
    missing = {name: f"{value[:-2]}zz" for name, value in theirs.ids.items()}
    for role in ROLES:
        answers = []
        for ids in (theirs.ids, missing):
            path = path_of(line, ids)
            status, answer = theirs.ask(line.method, path, theirs.keys[role], body_of(line))
            text = json.dumps(answer)
            for value in ids.values():
                text = text.replace(value, "ID")
            answers.append((status, text))
        assert answers[0] == answers[1], role
        expected = {403} if role not in allowed(line) else {404, 409} if line.path.endswith("/rollback") else {404}
        assert answers[0][0] in expected, (role, answers[0])
    assert theirs.ask("GET", f"/v1/files/{theirs.ids['file_id']}", theirs.claims)[0] == 200


@pytest.mark.parametrize("line", LISTS, ids=name_of)
def test_lists_hold_ones_own_alone(theirs: Theirs, line: Endpoint) -> None:
    own = {value for name, value in theirs.ids.items() if name != "model"}
    for role in allowed(line):
        for query in ("", "?limit=1000"):
            status, answer = theirs.ask("GET", line.path + query, theirs.keys[role])
            if status == 400:
                assert query
                continue
            assert status == 200
            shown = json.dumps(answer)
            assert not [value for value in {*own, SECRET, "claims"} if value in shown]


def test_the_owners_of_things_see_them(theirs: Theirs) -> None:
    for line in ITEMS:
        if line.method == "GET":
            seen = 409 if line.path.endswith("/report") else 200  # the plan above is no more than a name
            assert theirs.ask("GET", path_of(line, theirs.ids), theirs.claims)[0] == seen, name_of(line)
    assert theirs.ask("GET", "/v1/inferences", theirs.claims)[1]["data"][0]["project_id"] == "claims"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/inferences", "inference_id"),
        ("/v1/feedback", "feedback_id"),
        ("/v1/files", "file_id"),
        ("/v1/files?order=asc", "file_id"),
        ("/v1/datasets", "dataset_id"),
        ("/v1/fine_tuning/jobs", "fine_tuning"),
        ("/v1/evaluations", "evaluations"),
        ("/v1/cascades", "cascades"),
        ("/v1/ladders", "ladders"),
        ("/v1/batches", "batches"),
        ("/v1/plans", "plan_id"),
    ],
)
def test_a_foreign_cursor_is_an_unknown_one(theirs: Theirs, path: str, name: str) -> None:
    join = "&" if "?" in path else "?"
    answers = [
        theirs.ask("GET", f"{path}{join}after={cursor}", theirs.keys[Role.OWNER])
        for cursor in (theirs.ids[name], f"{theirs.ids[name][:-2]}zz")
    ]
    texts = [json.dumps(answer).replace("zz", "") for _, answer in answers]
    assert answers[0][0] == answers[1][0]
    assert texts[0].replace(theirs.ids[name], theirs.ids[name][:-2]) == texts[1]


@pytest.mark.parametrize(
    ("path", "body", "name", "field"),
    [
        ("/v1/fine_tuning/jobs", {"model": "small"}, "file_id", "training_file"),
        ("/v1/fine_tuning/jobs", {"training_file": "own"}, "version_id", "model"),
        ("/v1/evaluations", {"systems": ["assistant"], "labels": ["A"]}, "dataset_id", "dataset"),
        ("/v1/routes", {"name": "hr"}, "version_id", "targets"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}, "version_id", "model"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}, "name", "model"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}, "model", "model"),
    ],
)
def test_a_foreign_thing_named_in_a_body_is_a_missing_one(
    theirs: Theirs, path: str, body: dict[str, Any], name: str, field: str
) -> None:
    key = theirs.keys[Role.OWNER]
    if body.get("training_file") == "own":
        body = body | {"training_file": upload(theirs.server, key, ROW)}
    answers = []
    for value in (theirs.ids[name], f"{theirs.ids[name][:-2]}zz"):
        named = [value] if field == "targets" else value
        status, answer = theirs.ask("POST", path, key, body | {field: named})
        answers.append((status, json.dumps(answer).replace(value, "ID")))
    assert answers[0] == answers[1]
    assert answers[0][0] in {400, 404}


def test_a_dataset_is_built_of_ones_own(theirs: Theirs) -> None:
    request = {"name": "stolen", "route": "assistant", "require_feedback": False}
    status, answer = theirs.ask("POST", "/v1/datasets", theirs.keys[Role.OWNER], request)
    assert status == 400
    assert "No inference is left" in answer["error"]["message"]


def test_only_ones_own_is_erased(theirs: Theirs) -> None:
    key = theirs.keys[Role.OWNER]
    for body in (
        {"inference_ids": [theirs.ids["inference_id"]]},
        {"feedback_ids": [theirs.ids["feedback_id"]]},
        {"route": "assistant", "since": 0.0},
    ):
        status, answer = theirs.ask("POST", "/v1/erasures", key, body)
        assert status == 200
        assert (answer["inferences"], answer["feedback"]) == (0, 0)
        assert not any(answer["derived"].values())
    assert theirs.ask("GET", f"/v1/inferences/{theirs.ids['inference_id']}", theirs.claims)[0] == 200


def test_the_metrics_of_all_projects_are_for_the_default_one(theirs: Theirs) -> None:
    assert theirs.ask("GET", "/metrics", theirs.keys[Role.OWNER])[0] == 403
    assert ask(theirs.server, "GET", "/metrics", theirs.server.key)[0] == 200


def test_one_name_is_another_route_in_another_project(theirs: Theirs) -> None:
    key = theirs.keys[Role.OWNER]
    name, before = theirs.ids["name"], theirs.ask("GET", f"/v1/routes/{theirs.ids['name']}", theirs.claims)[1]
    assert theirs.ask("PUT", f"/v1/routes/{name}", key, {"targets": ["small"]})[0] == 200
    assert theirs.ask("GET", f"/v1/routes/{name}", theirs.claims)[1] == before
    assert theirs.ask("GET", f"/v1/routes/{name}", key)[1] != before
    assert theirs.ask("POST", f"/v1/routes/{name}/rollback", key, {})[0] == 200
    assert theirs.ask("GET", f"/v1/routes/{name}", key)[0] == 404
    assert theirs.ask("GET", f"/v1/routes/{name}", theirs.claims)[1] == before
    # A route of the configuration file is everybody's; who writes over it does so for its own project.
    assert theirs.ask("PUT", "/v1/routes/assistant", key, {"targets": ["small"]})[0] == 200
    assert theirs.ask("GET", "/v1/routes/assistant", theirs.claims)[1]["steps"][0]["targets"][0]["model"] == "upstream"
    assert theirs.ask("POST", "/v1/routes/assistant/rollback", key, {})[0] == 200


def test_an_alias_of_a_shared_model_is_each_projects_own(theirs: Theirs) -> None:
    key = theirs.keys[Role.OWNER]
    small = next(row for row in theirs.ask("GET", "/v1/versions?model=small", key)[1]["data"])
    assert theirs.ask("POST", f"/v1/versions/{small['id']}/promote", key, {"alias": "ours"})[0] == 200
    listed = theirs.ask("GET", "/v1/models", theirs.claims)[1]["data"]
    assert "small:ours" not in [row["id"] for row in listed]
    assert theirs.ids["model"] in [row["id"] for row in listed]


def test_keys_are_governed_by_their_projects_owner_and_by_the_default_projects(theirs: Theirs) -> None:
    owner = theirs.keys[Role.OWNER]
    assert theirs.ask("POST", "/v1/keys", owner, {"name": "x", "project": "claims"})[0] == 403
    own = theirs.ask("POST", "/v1/keys", owner, {"name": "own"})[1]
    assert own["project_id"] == "hr"
    keys = theirs.ask("GET", "/v1/keys", owner)[1]["data"]
    assert {key["project_id"] for key in keys} == {"hr"}
    everybody = theirs.ask("GET", "/v1/keys", theirs.server.key)[1]["data"]
    assert {key["project_id"] for key in everybody} == {"hr", "claims", "proj_default"}
    foreign = next(key["id"] for key in everybody if key["project_id"] == "claims")
    answers = [theirs.ask("DELETE", f"/v1/keys/{key_id}", owner) for key_id in (foreign, f"{foreign[:-2]}zz")]
    assert [status for status, _ in answers] == [404, 404]
    assert json.dumps(answers[0]).replace(foreign, "ID") == json.dumps(answers[1]).replace(f"{foreign[:-2]}zz", "ID")
    assert theirs.ask("DELETE", f"/v1/keys/{own['id']}", owner)[0] == 200
    for name in ("Claims", "a b", "", "../x", "x" * 65):
        refused = theirs.ask("POST", "/v1/keys", theirs.server.key, {"name": "x", "project": name})
        assert (refused[0], refused[1]["error"]["param"]) == (400, "project")
