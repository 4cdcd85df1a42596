"""Lists in pages: all rows, each once, in the list's order, whether they lie in the database or in memory."""

from typing import Any

import pytest
from tests.asking import ask, key_of
from tests.live import Server


@pytest.fixture(scope="module", autouse=True)
def rows(server: Server) -> None:
    client = server.openai()
    for name in ("one", "two", "three"):
        key_of(server, "app", name=name)
        client.put(f"/routes/page-{name}", body={"targets": ["upstream"]}, cast_to=object)
        version = client.get("/versions?model=upstream", cast_to=object)["data"][0]["id"]  # type: ignore[index]
        client.post(f"/versions/{version}/promote", body={"alias": f"page-{name}"}, cast_to=object)


def listed(server: Server, path: str) -> Any:
    status, answer, _ = ask(server, "GET", path, server.key)
    assert status == 200, answer
    return answer


@pytest.mark.parametrize("path", ["/v1/keys", "/v1/versions", "/v1/aliases", "/v1/routes"])
def test_pages_hold_each_row_once_in_order(server: Server, path: str) -> None:
    whole = listed(server, f"{path}?limit=1000")
    assert not whole["has_more"]
    assert len(whole["data"]) >= 2
    page = listed(server, f"{path}?limit=1")
    found = page["data"]
    while page["has_more"]:
        page = listed(server, f"{path}?limit=1&after={page['last_id']}")
        found += page["data"]
    for row in (*found, *whole["data"]):
        row.pop("last_used_at", None)
    assert found == whole["data"]


@pytest.mark.parametrize("path", ["/v1/keys", "/v1/versions", "/v1/aliases", "/v1/routes"])
def test_an_unknown_cursor_is_refused(server: Server, path: str) -> None:
    status, answer, _ = ask(server, "GET", f"{path}?after=nothing", server.key)
    assert (status, answer["error"]["param"]) == (400, "after")


def test_keys_and_versions_come_newest_first(server: Server) -> None:
    for path in ("/v1/keys", "/v1/versions"):
        times = [row["created_at"] for row in listed(server, path)["data"]]
        assert times == sorted(times, reverse=True)
