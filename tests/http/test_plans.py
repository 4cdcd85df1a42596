"""Plans over HTTP: made by a job, waited for or not, kept, listed; what cannot be is refused in the one shape."""

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from planner.tests.markup import Elements
from tests.live import Server, Upstream, start_server, stop_server

from bessemer.client import Client, calls

WORKLOAD = {
    "name": "api",
    "traffic": {"requests_per_month": 200_000, "prompt_tokens": {"mean": 500}, "output_tokens": {"mean": 100}},
    "models": [{"name": "llama-3.1-8b"}],
    "fleet": {"accelerators": ["h100_sxm"]},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    """A server with its worker."""
    running = start_server(tmp_path_factory.mktemp("plans"), upstream)
    yield running
    stop_server(running)


def connected(server: Server, method: str, path: str, body: Any = None) -> http.client.HTTPConnection:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
    content = None if body is None else json.dumps(body).encode()
    connection.request(method, path, content, {"authorization": f"Bearer {server.key}"})
    return connection


def ask(server: Server, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = connected(server, method, path, body)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def until(server: Server, job: str, *statuses: str) -> Any:
    ends = time.monotonic() + 120
    while (row := ask(server, "GET", f"/v1/plans/jobs/{job}")[1])["status"] not in statuses:
        assert time.monotonic() < ends, server.log.read_text()[-3000:]
        time.sleep(0.1)
    return row


def test_a_plan_is_made_kept_and_listed(server: Server) -> None:
    status, plan = ask(server, "POST", "/v1/plans", WORKLOAD)
    assert status == 200, plan
    assert plan["id"].startswith("plan-")
    assert plan["object"] == "plan"
    assert plan["fleet"]["usd_per_month"] > 0
    assert ask(server, "GET", f"/v1/plans/{plan['id']}") == (200, plan)
    status, page = ask(server, "GET", "/v1/plans?limit=1")
    assert (status, page["object"], page["first_id"]) == (200, "list", plan["id"])
    assert page["data"][0]["name"] == "api"
    assert page["data"][0]["usd_per_month"] == plan["fleet"]["usd_per_month"]
    assert ask(server, "GET", f"/v1/plans?after={plan['id']}")[1]["data"] == []
    told = ask(server, "GET", "/v1/audit?action=plan.created")[1]["data"]
    assert [(event["subject"], event["detail"]) for event in told] == [(plan["id"], {"workload": "api"})]


def page_of(server: Server, plan: str, key: str | None = None) -> tuple[int, str, dict[str, str]]:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
    sent = {"authorization": f"Bearer {server.key if key is None else key}"}
    connection.request("GET", f"/v1/plans/{plan}/report", None, sent)
    response = connection.getresponse()
    found = response.status, response.read().decode(), dict(response.getheaders())
    connection.close()
    return found


def test_a_plan_is_a_page_for_who_may_see_it(server: Server, tmp_path: Path) -> None:
    odd = "<script>alert(1)</script>"
    plan = ask(server, "POST", "/v1/plans", WORKLOAD | {"name": odd})[1]
    status, page, headers = page_of(server, plan["id"])
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} <= {*policy}
    assert headers["x-content-type-options"] == "nosniff"
    told = Elements(page)
    assert odd in told.text
    assert plan["recommendation"] in told.text
    assert not {tags for tags in told.tags if "script" in tags}
    role = ask(server, "POST", "/v1/keys", {"name": "app", "role": "app"})[1]["key"]
    assert page_of(server, plan["id"], role)[0] == 403
    assert page_of(server, plan["id"], "bsm-wrong")[0] == 401
    assert page_of(server, "plan-none")[0] == 404
    saved = tmp_path / "plan.html"
    assert Client(server.url, server.key).save(calls.plan_report(plan["id"]), saved) == len(page.encode())
    assert saved.read_text() == page


def test_a_plan_is_a_job_for_whoever_does_not_wait(server: Server) -> None:
    status, job = ask(server, "POST", "/v1/plans/jobs", WORKLOAD | {"name": "later"})
    assert (status, job["object"], job["kind"]) == (200, "bessemer.job", "plan")
    assert job["request"]["name"] == "later"
    done = until(server, job["id"], "succeeded", "failed")
    plan = ask(server, "GET", f"/v1/plans/{job['id']}")[1]
    assert done["result"] == {
        "id": job["id"],
        "name": "later",
        "recommendation": plan["recommendation"],
        "usd_per_month": plan["fleet"]["usd_per_month"],
    }
    events = ask(server, "GET", f"/v1/plans/jobs/{job['id']}/events")[1]["data"]
    assert [event["message"] for event in events] == [plan["recommendation"], "Planning later"]
    assert job["id"] in {row["id"] for row in ask(server, "GET", "/v1/plans/jobs")[1]["data"]}


def test_who_leaves_cancels_what_he_waited_for(server: Server) -> None:
    connection = connected(server, "POST", "/v1/plans", WORKLOAD | {"name": "left"})
    ends = time.monotonic() + 60
    while not (rows := [row for row in jobs_of(server) if row["request"]["name"] == "left"]):
        assert time.monotonic() < ends
    connection.close()
    assert until(server, rows[0]["id"], "cancelled", "failed", "succeeded")["status"] == "cancelled"
    assert ask(server, "GET", f"/v1/plans/{rows[0]['id']}")[0] == 404


def jobs_of(server: Server) -> list[Any]:
    rows: list[Any] = ask(server, "GET", "/v1/plans/jobs")[1]["data"]
    return rows


def test_what_cannot_be_planned_is_refused_in_the_one_shape(server: Server) -> None:
    impossible = WORKLOAD | {"limits": {"tpot_s": 1e-6}}
    status, body = ask(server, "POST", "/v1/plans", impossible)
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "infeasible", "limits")
    assert jobs_of(server)[0]["error"]["code"] == "infeasible"
    unknown = WORKLOAD | {"surprise": 1}
    status, body = ask(server, "POST", "/v1/plans", unknown)
    assert (status, body["error"]["param"]) == (400, "surprise")
    wrong = WORKLOAD | {"models": [{"name": "llama-3.1-8b", "share": 0.5}]}
    status, body = ask(server, "POST", "/v1/plans", wrong)
    assert (status, body["error"]["param"]) == (400, "models")
    for name in ("plan-none", "..%2Fadmin", "plan-..%2Fx"):
        assert ask(server, "GET", f"/v1/plans/{name}")[0] == 404
