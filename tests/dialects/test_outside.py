"""What is added from outside the package works as what is inside: a dialect, a provider, a stage of each place."""

import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.dialects.outside.echo import ECHO
from tests.live import OFFLINE, Server, Upstream, start_server, stop_server

from bessemer.core.errors import ConfigError
from bessemer.gateway.providers import PROVIDERS, settings_of
from bessemer.registry.config import parse_config
from lab.fake_openai import Script

OUTSIDE = Path(__file__).with_name("outside")
FILES = ("plain.py", "echo.py", "stages.py")
CONFIG = """
[models.upstream]
provider = "openai"
base_url = "{base_url}"
price = "list"

[models.loud]
provider = "echo"
greeting = "hello"
shout = true
price = "list"

[models.calm]
provider = "echo"
greeting = "hello"
price = "list"

[prices.list]
source = "a test"
date = "2026-01-01"
input_per_million = 1.0
output_per_million = 2.0
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    """`bessemer up`, and the package on the path as an installer would leave it."""
    folder = tmp_path_factory.mktemp("outside")
    site = folder / "site"
    about = site / "outside-1.0.dist-info"
    about.mkdir(parents=True)
    for name in FILES:
        (site / name).write_text((OUTSIDE / name).read_text())
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[bessemer.dialects]\nplain = plain:Plain\n[bessemer.providers]\necho = echo:ECHO\n"
        "[bessemer.stages]\nmine = stages:STAGES\n"
    )
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    server = start_server(folder, upstream, "--no-worker", env={**OFFLINE, "PYTHONPATH": paths}, toml=CONFIG)
    yield server
    stop_server(server)


def post(server: Server, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Return status and answer; an answer that is no JSON as text."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    sent = {"x-plain-key": server.key} if headers is None else headers
    connection.request("POST", path, json.dumps(body).encode(), sent)
    response = connection.getresponse()
    content = response.read().decode()
    connection.close()
    return response.status, json.loads(content) if content.startswith("{") else content


def rows(server: Server) -> list[dict[str, Any]]:
    """Return what is recorded, newest first."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.request("GET", "/v1/inferences", headers={"authorization": f"Bearer {server.key}"})
    found: list[dict[str, Any]] = json.loads(connection.getresponse().read())["data"]
    connection.close()
    return found


def test_a_dialect_and_a_provider_answer_whole_and_streamed(running: Server) -> None:
    status, answer = post(running, "/plain", {"of": "calm", "say": ["good", "day"]})
    assert (status, answer["said"], answer["words"]) == (200, "hello good day ", 3)
    [row] = rows(running)[:1]
    assert (row["output"], row["calls"][0]["provider"], row["version"]) == ("hello good day ", "echo", answer["by"])
    assert row["messages"] == [{"role": "user", "content": "good"}, {"role": "user", "content": "day"}]
    assert row["cost_usd"] == pytest.approx((2 + 2 * 3) / 1e6)
    status, events = post(running, "/plain", {"of": "loud", "say": ["day"], "live": True})
    assert events == "event: begin\ndata: loud\n\ndata: HELLO \n\ndata: DAY \n\nevent: end\ndata: stop\n\n"


def test_a_dialect_and_a_provider_meet_those_of_the_package(running: Server, upstream: Upstream) -> None:
    body = {"model": "calm", "messages": [{"role": "user", "content": "you"}]}
    status, answer = post(running, "/v1/chat/completions", body, {"authorization": f"Bearer {running.key}"})
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "hello you ")
    upstream.scripts.waiting.append(Script(pieces=("fine",)))
    status, answer = post(running, "/plain", {"of": "upstream", "say": ["how?"]})
    assert (status, answer["said"]) == (200, "fine")
    assert json.loads(upstream.fake.bodies[-1]) == {
        "model": "upstream",
        "messages": [{"role": "user", "content": "how?"}],
    }


def test_what_is_not_interpreted_reaches_the_same_dialect_and_no_other(running: Server) -> None:
    asked = {"say": ["look"], "picture": "a cat", "mood": "glad"}
    status, answer = post(running, "/plain", {"of": "calm", **asked})
    assert (status, answer["said"]) == (200, "hello look (a picture) mood=glad ")
    assert rows(running)[0]["messages"][1] == {"role": "user", "content": [{"type": "picture", "of": "a cat"}]}
    for changes, about in (({}, "mood"), ({"mood": None}, "messages")):
        status, answer = post(running, "/plain", {"of": "upstream", **asked, **changes})
        assert (status, answer["about"]) == (400, about)
    with_tools = {"say": ["x"], "tools": ["look"]}
    status, answer = post(running, "/plain", {"of": "calm", **with_tools})
    assert (status, answer["about"]) == (400, "tools")
    assert post(running, "/plain", {"of": "upstream", **with_tools})[0] == 200
    told = json.loads(running.upstream.fake.bodies[-1])["tools"]
    assert told == [{"type": "function", "function": {"name": "look"}}], "in the words of the upstream's dialect"


@pytest.mark.parametrize(
    ("body", "headers", "status", "about"),
    [
        ({"of": "calm", "say": ["x"]}, {}, 401, "Authorization"),
        ({"of": "calm", "say": ["x"]}, {"x-plain-key": "wrong"}, 401, "Authorization"),
        ({"of": "nobody", "say": ["x"]}, None, 404, "model"),
        ({"of": "calm", "say": ["x"], "colour": 1}, None, 400, "colour"),
        ({"of": "calm", "say": ["my password"]}, None, 400, "say"),
    ],
    ids=["no key", "wrong key", "no model", "no field", "guarded"],
)
def test_errors_have_the_dialects_shape(running: Server, body, headers, status, about) -> None:
    answered, answer = post(running, "/plain", body, headers)
    assert (answered, set(answer), answer["about"]) == (status, {"sorry", "about"}, about)


def test_a_stage_of_each_place_does_its_work(running: Server) -> None:
    status, answer = post(running, "/plain", {"of": "louder", "say": ["a secret"]})
    assert (status, answer["said"]) == (200, "HELLO A SECRET ")
    status, first = post(running, "/plain", {"of": "calm", "say": ["a secret"]})
    status, again = post(running, "/plain", {"of": "calm", "say": ["a secret"]})
    assert first == again
    assert first["said"] == "hello a *** "
    newer, older = rows(running)[:2]
    assert (newer["output"], older["output"]) == ("hello a *** ", "hello a *** ")
    assert newer["cost_usd"] == 0 < older["cost_usd"]
    for _ in range(100):
        status, answer = post(running, "/plain", {"of": "calm", "say": ["again"]})
    assert (status, answer["sorry"]) == (429, "You have asked enough.")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('provider = "echo"\n', r"\[models\.m\].*'echo' needs greeting"),
        ('provider = "echo"\ngreeting = "x"\nvolume = 3\n', r"\[models\.m\].*volume.*Known keys: provider.*shout"),
        ('provider = "echo"\ngreeting = 3\n', r"\[models\.m\].*\$\.greeting"),
        ('provider = "ohce"\n', r"\[models\.m\].*'ohce'.*echo, encoder, local, openai, recorded"),
    ],
)
def test_a_providers_own_settings_are_checked_by_name(table: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_config(f"[models.m]\n{table}", tmp_path, settings_of((*PROVIDERS, ECHO)))


@pytest.mark.parametrize("name", FILES)
def test_the_documentation_shows_what_is_tested_here(name: str) -> None:
    page = Path(__file__).parents[2].joinpath("docs", "extending.md").read_text()
    assert f"```python\n{(OUTSIDE / name).read_text()}```\n" in page
