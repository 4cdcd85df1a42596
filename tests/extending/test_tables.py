"""A grader, an endpoint and a page of somebody else's package, installed beside the server and used over HTTP."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from planner.tests.markup import Elements
from tests.live import OFFLINE, Server, Upstream, start_server, stop_server, upstream

from bessemer.client import Client, Operation, calls
from bessemer.core.access import Action
from bessemer.core.errors import BessemerError, ConfigError, Forbidden
from bessemer.core.types import DEFAULT_PROJECT, JSON
from bessemer.dialects import DIALECTS
from bessemer.evals import graders
from bessemer.http.kinds import KINDS
from bessemer.http.routing import Endpoint
from bessemer.http.surface import table

__all__ = ["upstream"]
HERE = Path(__file__).parent
ENTRY_POINTS = """
[bessemer.graders]
within = within:WITHIN
[bessemer.endpoints]
whoami = whoami:WHOAMI
spend = spend_page:SPEND
"""
WITHIN = {"type": "within", "name": "near", "reference": "{{item.total}}", "tolerance": 0.5}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    """`bessemer up`, and the package on the path as an installer would leave it."""
    folder = tmp_path_factory.mktemp("tables")
    about = folder / "site" / "tables-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tables\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    for name in ("within.py", "whoami.py", "spend_page"):
        (folder / "site" / name).symlink_to(HERE / name)
    paths = [str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    running = start_server(folder, upstream, "--no-worker", env={**OFFLINE, "PYTHONPATH": os.pathsep.join(paths)})
    yield running
    stop_server(running)


@pytest.fixture
def client(server: Server) -> Client:
    return Client(server.url, server.key)


def graded(client: Client, said: str, item: JSON, grader: JSON = WITHIN) -> tuple[float, list[str]]:
    """Return the reward, and what went wrong."""
    answer = client.send(calls.run_grader({"grader": grader, "model_sample": said, "item": item}))
    return answer["reward"], [name for name, set_ in answer["metadata"]["errors"].items() if set_ is True]


def test_a_grader_from_outside_is_checked_run_and_a_part_of_others(client: Client) -> None:
    client.send(calls.validate_grader({"grader": WITHIN}))
    assert graded(client, "10.4", {"total": 10}) == (1.0, [])
    assert graded(client, "10.6", {"total": 10}) == (0.0, [])
    assert graded(client, "ten", {"total": 10}) == (0.0, [])
    assert graded(client, "10", {"total": "ten"}) == (0.0, ["invalid_variable_error"])
    assert graded(client, "10", {}) == (0.0, ["invalid_variable_error"])
    whole = {"type": "multi", "name": "both", "graders": {"near": WITHIN}, "calculate_output": "0.5 * near"}
    assert graded(client, "10", {"total": 10}, whole) == (0.5, [])
    for changes, says in (
        ({"surprise": 1}, "surprise"),
        ({"tolerance": "wide"}, "tolerance"),
        ({"reference": "{{sample.nothing}}"}, r"grader\.reference refers to 'sample\.nothing'"),
        ({"type": "beyond"}, "use one of string_check, .*, attributes, within"),
    ):
        with pytest.raises(BessemerError, match=says):
            client.send(calls.validate_grader({"grader": WITHIN | changes}))


def test_an_endpoint_from_outside_answers_who_may_and_is_described(server: Server, client: Client) -> None:
    asked: Operation[JSON] = Operation("GET", "/v1/whoami", JSON)
    viewer = client.send(calls.create_key({"name": "eyes", "role": "viewer"}))
    assert Client(server.url, viewer.key).send(asked) == {
        "key_id": viewer.id,
        "name": "eyes",
        "project": DEFAULT_PROJECT,
    }
    described = client.send(calls.describe())
    operation = described["paths"]["/v1/whoami"]["get"]
    assert operation["x-action"] == "api.view"
    assert operation["summary"] == "The key that asks, its name and its project."
    assert "WhoAmI" in described["components"]["schemas"]
    assert "within" in described["components"]["schemas"]["Grader"]["discriminator"]["mapping"]
    with pytest.raises(BessemerError, match="surprise"):
        client.send(Operation("GET", "/v1/whoami", JSON, query={"surprise": 1}))


def test_a_page_from_outside_is_served_under_the_policy_of_pages(server: Server, client: Client) -> None:
    client.send(calls.chat({"model": "assistant", "messages": [{"role": "user", "content": "x"}]}))
    assert client.send(calls.usage()).data, "what was answered is written by then"
    page: Operation[bytes] = Operation("GET", "/v1/spend", bytes)
    assert "upstream@" in Elements(client.send(page).decode()).text
    app = client.send(calls.create_key({"name": "app", "role": "app"}))
    with pytest.raises(Forbidden):
        Client(server.url, app.key).send(page)


@pytest.fixture
def whoami(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module("whoami").WHOAMI


def test_two_lines_of_a_table_are_told_apart(whoami: Endpoint) -> None:
    with pytest.raises(ConfigError, match="Two endpoints are GET /v1/whoami"):
        table(DIALECTS, KINDS, (whoami, whoami))
    taken = Endpoint("GET", "/v1/models", whoami.handler, Action.API_VIEW, JSON)
    with pytest.raises(ConfigError, match="Two endpoints are GET /v1/models"):
        table(DIALECTS, KINDS, (taken,))
    with pytest.raises(ConfigError, match="GET /v1/open names no action"):
        table(DIALECTS, KINDS, (Endpoint("GET", "/v1/open", whoami.handler, None, JSON),))
    with pytest.raises(ValueError, match="'multi'"):
        graders.register(graders.kinds()[4])


@pytest.mark.parametrize("name", ["within.py", "whoami.py"])
def test_the_documentation_shows_what_is_tested_here(name: str) -> None:
    page = HERE.parents[1].joinpath("docs", "extending.md").read_text()
    assert f"```python\n{(HERE / name).read_text()}```\n" in page
