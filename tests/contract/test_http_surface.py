"""Contracts of the whole HTTP surface: one error shape, one authorization matrix, request ids everywhere."""

import http.client
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from tests.asking import ask
from tests.live import Server

from bessemer.core.access import Action, ActionGroup, Role, project
from bessemer.core.types import DEFAULT_PROJECT
from bessemer.http.routing import Endpoint, Item
from bessemer.http.surface import PUBLIC, TABLE
from bessemer.identity.policy import PERMITS, RolePolicy, roles_that_may

WITH_KEY = [line for line in TABLE if line.action is not None]


def name_of(line: Endpoint) -> str:
    return f"{line.method} {line.path}"


def allowed(line: Endpoint) -> tuple[Role, ...]:
    assert line.action is not None
    return roles_that_may(RolePolicy(), line.action, project(DEFAULT_PROJECT))


def concrete(line: Endpoint) -> str:
    return re.sub(r"{\w+}", "unknown-thing", line.path)


def check_error(status: int, body: Any, headers: dict[str, str], expected: set[int]) -> None:
    assert status in expected, body
    assert body.keys() - {"type"} == {"error"}
    assert body.get("type", "error") == "error"  # Anthropic's
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert isinstance(body["error"]["message"], str)
    assert body["error"]["message"]
    assert isinstance(body["error"]["type"], str)
    assert headers["x-request-id"]


@pytest.fixture(scope="module")
def keys(server: Server) -> dict[Role, str]:
    made = {
        role: ask(server, "POST", "/v1/keys", server.key, json.dumps({"name": role.value, "role": role.value}).encode())
        for role in Role
    }
    return {role: answer[1]["key"] for role, answer in made.items()}


@pytest.mark.parametrize("line", WITH_KEY, ids=name_of)
def test_nothing_answers_without_a_key(server: Server, line: Endpoint) -> None:
    check_error(*ask(server, line.method, concrete(line), None), expected={401})
    check_error(*ask(server, line.method, concrete(line), "bsm-wrong"), expected={401})


@pytest.mark.parametrize("line", WITH_KEY, ids=name_of)
def test_each_role_may_do_what_the_table_says(server: Server, keys: dict[Role, str], line: Endpoint) -> None:
    for role, key in keys.items():
        status, body, headers = ask(server, line.method, concrete(line), key, b"" if line.method != "GET" else None)
        if role not in allowed(line):
            check_error(status, body, headers, {403})
        else:
            assert status != 403, (role, body)


@pytest.mark.parametrize("line", [line for line in WITH_KEY if line.method in {"POST", "PUT"}], ids=name_of)
@pytest.mark.parametrize(
    "body", [b"{", b"[1]", b'{"surprise": 1}', b"\xff\xfe"], ids=["half", "list", "unknown", "binary"]
)
def test_a_senseless_body_is_refused_in_one_shape(server: Server, line: Endpoint, body: bytes) -> None:
    takes_no_body = line.path.endswith(("/cancel", "/pause", "/resume", "/approve"))
    check_error(*ask(server, line.method, concrete(line), server.key, body), expected={404} if takes_no_body else {400})


@pytest.mark.parametrize("line", [line for line in WITH_KEY if "{" in line.path], ids=name_of)
def test_an_unknown_thing_is_not_found(server: Server, line: Endpoint) -> None:
    body = {"PUT": b'{"targets": ["nothing"]}', "POST": b"{}"}.get(line.method)
    nothing_to_undo = {409} if line.path.endswith("/rollback") else set()
    check_error(*ask(server, line.method, concrete(line), server.key, body), expected={404} | nothing_to_undo)


@pytest.mark.parametrize("line", [line for line in TABLE if line.method == "GET" and "{" not in line.path], ids=name_of)
def test_lists_have_one_envelope_and_refuse_unknown_parameters(server: Server, line: Endpoint) -> None:
    status, body, headers = ask(server, "GET", line.path, server.key)
    assert status == 200
    assert headers["x-request-id"]
    if line.path.startswith("/v1/"):
        assert set(body) == {"object", "data", "first_id", "last_id", "has_more"}
        assert body["object"] == "list"
        assert isinstance(body["has_more"], bool)
    if not isinstance(line.answer, str):
        msgspec.convert(body, line.answer)


@pytest.mark.parametrize("line", WITH_KEY, ids=name_of)
def test_an_unknown_or_wrong_query_parameter_is_refused_everywhere(server: Server, line: Endpoint) -> None:
    path = concrete(line)
    for parameter in ("surprise", "surprise[x]", "limit[x]", "metadata", "metadata["):
        status, body, headers = ask(server, line.method, f"{path}?{parameter}=1", server.key)
        check_error(status, body, headers, {400})
        assert body["error"]["param"] == parameter
    if "limit" in line.query.__struct_fields__:
        for query in ("limit=many", "limit=1&limit=2") + (() if "{" in path else ("limit=0",)):
            check_error(*ask(server, line.method, f"{path}?{query}", server.key), expected={400, 404})


def test_metadata_is_a_query_of_several_parameters(server: Server) -> None:
    status, body, _ = ask(server, "GET", "/v1/fine_tuning/jobs?metadata[a]=1&metadata[b]=2&limit=2", server.key)
    assert (status, body["data"]) == (200, [])


def test_unknown_paths_and_methods_are_shaped(server: Server) -> None:
    for path in ("/", "/v1", "/v1/", "/v1/nothing", "/v1/models/", "/v1/chat/completions/"):
        check_error(*ask(server, "GET", path, server.key), expected={404})
        check_error(*ask(server, "GET", path, None), expected={401})
    check_error(*ask(server, "DELETE", "/v1/models", server.key), expected={405})
    check_error(*ask(server, "GET", "/v1/chat/completions", server.key), expected={405})


def test_health_needs_no_key_and_metrics_one_even_from_here(server: Server) -> None:
    assert {line.path for line in TABLE if line.action is None} == PUBLIC
    for path in PUBLIC:
        assert ask(server, "GET", path, None)[0] == 200
    assert ask(server, "GET", "/metrics", None)[0] == 401
    status, text, _ = ask(server, "GET", "/metrics", server.key)
    assert status == 200
    assert b"http_server_request_duration_seconds" in text
    assert b"bessemer_writer_queued" in text
    assert b"bessemer_engine_running" in text


def test_an_unknown_path_hints_at_the_base_url(server: Server) -> None:
    for path in ("/v2/chat/completions", "/v1/v1/chat/completions", "/v1//chat/completions", "/"):
        assert "http://HOST:PORT/v1" in ask(server, "POST", path, server.key)[1]["error"]["message"]
    assert "HOST" not in ask(server, "POST", "/v1/nothing", server.key)[1]["error"]["message"]


PLACES = {
    "a message": ("/v1/chat/completions", b'{"model":"assistant","messages":[{"role":"user","content":%s}]}'),
    "messages": ("/v1/chat/completions", b'{"model":"assistant","messages":%s}'),
    "a format": ("/v1/chat/completions", b'{"model":"assistant","messages":[],"response_format":{"a":%s}}'),
    "an input": ("/v1/chat/completions", b'{"model":"assistant","messages":[],"bessemer":{"input":{"a":%s}}}'),
    "an item": ("/v1/fine_tuning/alpha/graders/run", b'{"grader":{},"model_sample":"a","item":{"a":%s}}'),
    "a grader": ("/v1/fine_tuning/alpha/graders/validate", b'{"grader":{"a":%s}}'),
    "a job's grader": (
        "/v1/fine_tuning/jobs",
        b'{"model":"m","training_file":"f","method":{"type":"reinforcement","reinforcement":{"grader":{"a":%s}}}}',
    ),
    "a route": ("/v1/routes", b'{"name":"r","targets":%s}'),
    "a plan": ("/v1/plans", b'{"a":%s}'),
}


@pytest.mark.parametrize(("path", "body"), PLACES.values(), ids=PLACES)
def test_deep_json_is_refused_as_such(server: Server, path: str, body: bytes) -> None:
    for depth in (200, 500, 900, 1000, 2000, 20_000):
        status, answer, headers = ask(server, "POST", path, server.key, body % (b"[" * depth + b"]" * depth))
        check_error(status, answer, headers, {400})
        assert "levels" in answer["error"]["message"]


def test_a_deep_row_is_refused_by_its_number(server: Server) -> None:
    row = b'{"messages":[{"role":"user","content":"x"}],"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}\n"
    form = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % part
        for part in ((b"purpose", b"", b"fine-tune"), (b"file", b'; filename="a.jsonl"', row))
    )
    status, answer, headers = ask(
        server, "POST", "/v1/files", server.key, form + b"--x--\r\n", "multipart/form-data; boundary=x"
    )
    check_error(status, answer, headers, {400})
    assert "row 1: not valid JSON (it is nested" in answer["error"]["message"]


def test_a_large_body_is_refused_before_it_is_read(server: Server) -> None:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("authorization", f"Bearer {server.key}")
    connection.putheader("content-length", str(17 * 1024 * 1024))
    connection.endheaders()
    response = connection.getresponse()
    check_error(response.status, json.loads(response.read()), dict(response.headers), {413})
    connection.close()


def test_the_reference_lists_every_endpoint_with_its_actions() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "api.md").read_text()
    documented = re.findall(r"^\| `([A-Z]+ /\S*)` \| ([\w.-]+) \|", page, flags=re.MULTILINE)
    assert documented == [(name_of(line), line.action or "-") for line in TABLE]


def test_the_reference_lists_every_role_with_its_permits() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "api.md").read_text()
    documented = dict(re.findall(r"^\| `(\w+)` \| ([\w., ]+) \|", page, flags=re.MULTILINE))
    assert {role: {*documented[role].split(", ")} for role in Role} == {role: set(PERMITS[role]) for role in Role}


def test_the_reference_lists_every_action_in_its_groups() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "api.md").read_text()
    documented = re.findall(r"^\| `(?!bessemer)(\w+\.\w+)` \| ([\w, ]+) \|", page, flags=re.MULTILINE)
    assert dict(documented) == {action: ", ".join(sorted(action.groups)) for action in Action}


def test_the_reference_lists_every_audit_event() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "api.md").read_text()
    documented = set(re.findall(r"`(\w+\.\w+)`", page.split("Actions: ")[1].split(". Without an event")[0]))
    assert documented == {event for line in TABLE for event in line.events} | {
        "job.finished",
        "version.created",
        "route.fell_back",
    }


def test_every_endpoint_names_the_resource_that_its_path_names() -> None:
    for line in TABLE:
        if "{" in line.path:
            assert isinstance(line.on, Item), name_of(line)
            assert "{" + line.on.parameter + "}" in line.path
        else:
            assert not isinstance(line.on, Item), name_of(line)


def test_every_action_is_asked_and_nothing_but_the_policy_knows_roles() -> None:
    folder = Path(__file__).parents[2] / "src" / "bessemer"
    texts = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.py")}
    asking = "".join(text for name, text in texts.items() if name != "core/access.py")
    assert [action for action in Action if f"Action.{action.name}" not in asking] == []
    naming = {name for name, text in texts.items() if re.search(r"\bRole\.[A-Z]", text)}
    given = {"core/wire.py", "cli/keys.py", "gateway/pipeline.py", "http/routing.py", "identity/keys.py"}
    assert naming == given | {"identity/policy.py", "store/keys.py"}, "others make keys and principals, or count owners"


def test_roles_are_what_they_are_called() -> None:
    """The table of roles, by hand: a change of one is a change of who may do what."""
    assert {role.value: sorted(permits) for role, permits in PERMITS.items()} == {
        "viewer": ["view"],
        "app": ["feedback.write", "invoke"],
        "member": ["content", "contribute", "invoke", "view"],
        "operator": ["operate", "view"],
        "approver": ["approve", "view"],
        "auditor": ["audit", "view"],
        "owner": sorted(ActionGroup),
    }


WHO_MAY = {
    "app member owner": """
        POST /v1/chat/completions
        POST /v1/embeddings
        POST /v1/responses
        POST /v1/messages
        POST /v1/feedback
    """,
    "viewer member operator approver auditor owner": """
        GET /metrics
        GET /v1/feedback
        GET /v1/routes/{name}/monitor
        GET /v1/files
        GET /v1/files/{file_id}
        GET /v1/fine_tuning/jobs/{job_id}/checkpoints
        GET /v1/datasets
        GET /v1/datasets/{dataset_id}
        GET /v1/inferences
        GET /v1/inferences/{inference_id}
        GET /v1/usage
        GET /v1/routes
        GET /v1/routes/{name}
        GET /v1/versions
        GET /v1/versions/{version_id}
        GET /v1/aliases
        GET /v1/plans
        GET /v1/plans/{plan_id}
        GET /v1/plans/{plan_id}/report
        GET /v1/fine_tuning/jobs
        GET /v1/fine_tuning/jobs/{job_id}
        GET /v1/fine_tuning/jobs/{job_id}/events
        GET /v1/evaluations
        GET /v1/evaluations/{job_id}
        GET /v1/evaluations/{job_id}/events
        GET /v1/cascades
        GET /v1/cascades/{job_id}
        GET /v1/cascades/{job_id}/events
        GET /v1/batches
        GET /v1/batches/{job_id}
        GET /v1/batches/{job_id}/events
        GET /v1/ladders
        GET /v1/ladders/{job_id}
        GET /v1/ladders/{job_id}/events
        GET /v1/plans/jobs
        GET /v1/plans/jobs/{job_id}
        GET /v1/plans/jobs/{job_id}/events
    """,
    "viewer app member operator approver auditor owner": """
        GET /v1/models
        GET /v1/models/{model}
        GET /openapi.json
    """,
    "operator owner": """
        POST /v1/models/{model}/rollback
        POST /v1/routes
        PUT /v1/routes/{name}
        POST /v1/routes/{name}/rollback
        POST /v1/versions/{version_id}/promote
        POST /v1/cascades
        POST /v1/cascades/{job_id}/cancel
        POST /v1/cascades/{job_id}/pause
        POST /v1/cascades/{job_id}/resume
        POST /v1/ladders
        POST /v1/ladders/{job_id}/cancel
        POST /v1/ladders/{job_id}/pause
        POST /v1/ladders/{job_id}/resume
    """,
    "owner": """
        DELETE /v1/feedback/{feedback_id}
        DELETE /v1/datasets/{dataset_id}
        DELETE /v1/inferences/{inference_id}
        POST /v1/erasures
        GET /v1/keys
        POST /v1/keys
        DELETE /v1/keys/{key_id}
    """,
    "member owner": """
        POST /v1/feedback/wanted
        POST /v1/files
        GET /v1/files/{file_id}/content
        POST /v1/fine_tuning/alpha/graders/validate
        POST /v1/fine_tuning/alpha/graders/run
        POST /v1/datasets
        GET /v1/versions/{version_id}/adapter
        POST /v1/plans
        POST /v1/fine_tuning/jobs
        POST /v1/evaluations
        POST /v1/batches
        POST /v1/plans/jobs
    """,
    "member operator owner": """
        DELETE /v1/files/{file_id}
        POST /v1/fine_tuning/jobs/{job_id}/cancel
        POST /v1/fine_tuning/jobs/{job_id}/pause
        POST /v1/fine_tuning/jobs/{job_id}/resume
        POST /v1/evaluations/{job_id}/cancel
        POST /v1/batches/{job_id}/cancel
        POST /v1/evaluations/{job_id}/pause
        POST /v1/batches/{job_id}/pause
        POST /v1/evaluations/{job_id}/resume
        POST /v1/batches/{job_id}/resume
        POST /v1/plans/jobs/{job_id}/cancel
        POST /v1/plans/jobs/{job_id}/pause
        POST /v1/plans/jobs/{job_id}/resume
    """,
    "operator approver owner": """
        POST /v1/datasets/{dataset_id}/approve
    """,
    "auditor owner": """
        GET /v1/audit
    """,
}
"""By hand: a change of it is a change of who may do what."""


def test_who_may_call_what() -> None:
    told = {name: set(roles.split()) for roles, lines in WHO_MAY.items() for name in map(str.strip, lines.splitlines())}
    told.pop("")
    assert {name_of(line): {role.value for role in allowed(line)} for line in WITH_KEY} == told


@pytest.mark.parametrize(("old", "new"), [("inference", "app"), ("admin", "owner"), ("member", "member")])
def test_role_names_of_earlier_releases_are_taken(server: Server, old: str, new: str) -> None:
    made = ask(server, "POST", "/v1/keys", server.key, json.dumps({"name": "old", "role": old}).encode())
    assert made[1]["role"] == new


def test_handlers_see_the_database_and_the_catalog_as_their_caller_does() -> None:
    """What is not limited to a project is reached through `services`; a handler that needs it would be listed here."""
    folder = Path(__file__).parents[2] / "src" / "bessemer" / "http" / "api"
    reaches = re.compile(r"services\.(database|catalog|flywheel|graders)\b")
    assert [path.name for path in sorted(folder.glob("*.py")) if reaches.search(path.read_text())] == []
