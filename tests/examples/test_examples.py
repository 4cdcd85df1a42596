"""The examples do what they say, against a server whose upstream knows the tickets and errs on some."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.foreign import Quiet, serving
from tests.gateway.tiny import tiny_model
from tests.live import OFFLINE, Server, Upstream, start_server, stop_server

pytestmark = pytest.mark.long

SMALL = """
[models.smollm2-135m]
provider = "local"
path = "{path}"
price = "aws-c7a-large"
context_tokens = 512
"""
EXAMPLES = Path(__file__).parents[2] / "examples"


class Urgency(Quiet):
    """A large model that says whether a ticket is urgent, and errs on every ninth."""

    def do_POST(self) -> None:  # noqa: N802 - http.server calls it so
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = asked["messages"][-1]["content"]
        number = re.search(r"order (\d+)", text, re.IGNORECASE)
        assert number is not None
        wrong = int(number[1]) % 9 == 0
        said = "Yes" if ("charged twice" in text) is not wrong else "No"
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21}
        answer = {"id": "x", "object": "chat.completion", "created": 1, "model": asked["model"], "choices": [choice]}
        body = json.dumps(answer | {"usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    """A server with a worker on the examples' configuration."""
    with serving(Urgency) as url:
        folder = tmp_path_factory.mktemp("examples")
        toml = re.sub(r"http://127\.0\.0\.1:8001", url, (EXAMPLES / "bessemer.toml").read_text())
        toml = toml.replace("{", "{{").replace("}", "}}")  # it is a template there
        server = start_server(folder, upstream, toml=toml + SMALL.format(path=tiny_model(folder / "tiny")))
        yield server
        stop_server(server)


def output_of(example: str, server: Server) -> str:
    variables = {"BESSEMER_URL": server.url, "BESSEMER_API_KEY": server.key}
    variables |= {"LOOP_FOLDER": str(server.data / "loop")}
    command = [sys.executable, "-W", "error", str(EXAMPLES / example)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | OFFLINE | variables, check=False
    )
    assert done.returncode == 0, done.stderr + server.log.read_text()[-2000:]
    return done.stdout


def test_the_loop_ends_in_the_rung_that_beats_the_large_model_and_is_done_once(running: Server) -> None:
    said = output_of("loop.py", running)
    assert re.search(
        r"^Best single rung: tickets-\w+@[0-9a-f]{12}\. Proposed route 'tickets': tickets-", said, re.MULTILINE
    )
    assert "ladder: smollm2-135m cannot pay: the rungs hand nothing over" in said
    for step in ("traffic", "feedback", "dataset", "ladder"):
        assert re.search(rf"^{step}: done in [\d.]+ s$", said, re.MULTILINE), said
    assert output_of("loop.py", running) == said.splitlines(keepends=True)[-1]


def test_many_requests_at_once(running: Server) -> None:
    assert re.match(
        r"50 answers, the first: (Yes|No)\n50 recorded, \d+ ms each\n$", output_of("async_client.py", running)
    )


def test_a_grader_in_python(running: Server) -> None:
    first, second, third = output_of("grader.py", running).splitlines()
    assert first == "'1,240.50': 1.0"
    assert second == "'1240': 0.0"
    assert third.startswith("'I cannot tell': 0.0 (")
