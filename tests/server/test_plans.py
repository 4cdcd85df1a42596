"""Plans over HTTP: made by a process of its own, kept, listed; what cannot be is refused in the one shape."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from tests.server.live import Server

WORKLOAD = {
    "name": "api",
    "traffic": {"requests_per_month": 200_000, "prompt_tokens": {"mean": 500}, "output_tokens": {"mean": 100}},
    "models": [{"name": "llama-3.1-8b"}],
    "fleet": {"accelerators": ["h100_sxm"]},
}


def ask(server: Server, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
    content = None if body is None else json.dumps(body).encode()
    connection.request(method, path, content, {"authorization": f"Bearer {server.key}"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def test_a_plan_is_made_kept_and_listed(server: Server) -> None:
    status, plan = ask(server, "POST", "/v1/plans", WORKLOAD)
    assert status == 200, plan
    assert plan["id"].startswith("plan-")
    assert plan["fleet"]["usd_per_month"] > 0
    assert ask(server, "GET", f"/v1/plans/{plan['id']}") == (200, plan)
    status, page = ask(server, "GET", "/v1/plans?limit=1")
    assert (status, page["object"], page["first_id"]) == (200, "list", plan["id"])
    assert page["data"][0]["name"] == "api"
    assert page["data"][0]["usd_per_month"] == plan["fleet"]["usd_per_month"]
    assert ask(server, "GET", f"/v1/plans?after={plan['id']}")[1]["data"] == []


def test_what_cannot_be_planned_is_refused_in_the_one_shape(server: Server) -> None:
    impossible = WORKLOAD | {"limits": {"tpot_s": 1e-6}}
    status, body = ask(server, "POST", "/v1/plans", impossible)
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "infeasible", "limits")
    unknown = WORKLOAD | {"surprise": 1}
    status, body = ask(server, "POST", "/v1/plans", unknown)
    assert (status, body["error"]["param"]) == (400, "surprise")
    wrong = WORKLOAD | {"models": [{"name": "llama-3.1-8b", "share": 0.5}]}
    status, body = ask(server, "POST", "/v1/plans", wrong)
    assert (status, body["error"]["param"]) == (400, "models")
    for name in ("plan-none", "..%2Fadmin", "plan-..%2Fx"):
        assert ask(server, "GET", f"/v1/plans/{name}")[0] == 404
