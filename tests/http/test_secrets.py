"""Whatever fails: no key, prompt or environment variable is in a log, an answer, or a record that others read."""

import io
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from starlette.routing import Router
from starlette.types import Message
from tests.asking import ask as send_to
from tests.gateway.conftest import PRINCIPAL, ask, make_world
from tests.gateway.raw import RawUpstream, head
from tests.live import Server

from bessemer.core.access import Principal, Role
from bessemer.core.errors import BessemerError
from bessemer.core.scrub import hide
from bessemer.core.types import JobStatus
from bessemer.evals import graders
from bessemer.evals.grader import GraderServices
from bessemer.flywheel.jobs import EVALUATION
from bessemer.http.edge import Call
from bessemer.http.front import Front
from bessemer.http.routing import Endpoint, build_router
from bessemer.http.surface import TABLE
from bessemer.identity.policy import RolePolicy
from bessemer.jobs.kinds import Job
from bessemer.jobs.lifecycle import fail
from bessemer.store import job_rows
from bessemer.store.database import Database
from bessemer.store.job_rows import JobRow
from bessemer.telemetry.logs import configure

__all__ = ["make_world"]

KEY = "bsm-canary-KEY-123456"
PROMPT = "canary of a prompt"
UPSTREAM_KEY = "canary.of.an.upstream.key"
VARIABLE = "canary of the environment"
CANARIES = (KEY, PROMPT, UPSTREAM_KEY, VARIABLE)


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(params=[io.StringIO, Terminal], ids=["lines", "terminal"])
def logged(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """All that any logger of the process writes."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream: io.StringIO = request.param()
    configure("debug", stream)
    hide(UPSTREAM_KEY)
    monkeypatch.setenv("CANARY", VARIABLE)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def clean(*texts: object) -> None:
    for text in texts:
        for canary in CANARIES:
            assert canary not in str(text)


async def failing(call: Call) -> Any:
    """A handler with everything in its hands when it fails."""
    body, headers, environment = await call.request.body(), dict(call.request.headers), dict(os.environ)
    try:
        json.loads(body + b"{")
    except ValueError as error:
        raise RuntimeError(f"{body!r} {headers} {environment}") from error


@pytest.mark.parametrize("line", TABLE, ids=lambda line: f"{line.method} {line.path}")
async def test_a_handler_that_fails_tells_nothing(line: Endpoint, logged: io.StringIO) -> None:
    @asynccontextmanager
    async def lifespan(_router: Router) -> AsyncIterator[None]:
        yield

    async def authenticate(_header: str | None, _address: str) -> Principal:
        return Principal(key_id="key-1", name="owner", role=Role.OWNER)

    services: Any = SimpleNamespace(policy=RolePolicy())
    front = Front(
        build_router([with_failing_handler(line)], services, lifespan),
        authenticate,
        lambda *_: None,
        lambda *_: None,
        max_body_bytes=10_000,
        max_file_bytes=10_000,
        max_concurrent=10,
        public=frozenset(),
        dialects={},
    )
    body = json.dumps({"messages": [{"role": "user", "content": PROMPT}], "key": UPSTREAM_KEY}).encode()
    scope = {
        "type": "http",
        "method": line.method,
        "path": line.path.replace("{", "").replace("}", ""),
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {KEY}".encode()), (b"x-note", PROMPT.encode())],
        "client": ("10.0.0.9", 1),
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await front(scope, receive, send)
    assert sent[0]["status"] == 500
    assert "RuntimeError" in logged.getvalue()
    clean(logged.getvalue(), sent)


@pytest.mark.parametrize("path", ["/v1/routes/{}", "/v1/models/{}", "/v1/files/{}/content", "/{}", "/v1/{}/x"])
def test_what_a_client_writes_in_path_query_or_request_id_is_not_logged(server: Server, path: str) -> None:
    word, seen = "Ada-Lovelace", server.log.stat().st_size
    url = f"{path.format(word)}?note={word}"
    status, _, headers = send_to(server, "GET", url, server.key, headers={"x-request-id": word})
    assert status in {400, 404}
    ends = time.monotonic() + 10
    while headers["x-request-id"] not in (lines := server.log.read_text()[seen:]):
        assert time.monotonic() < ends, lines
        time.sleep(0.02)
    assert word not in lines


def with_failing_handler(line: Endpoint) -> Endpoint:
    return Endpoint(line.method, line.path, failing, line.action, line.answer)


@pytest.mark.parametrize("status", ["200 OK", "400 Bad", "401 No", "429 Slow", "500 Oops"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_provider_that_fails_tells_callers_and_logs_nothing(
    make_world: Any, logged: io.StringIO, status: str, streamed: bool
) -> None:
    said = f"{PROMPT} {KEY} Authorization: Bearer {UPSTREAM_KEY} {VARIABLE} at 10.0.0.7"
    for body in (json.dumps({"error": {"message": said, "code": said, "param": said}}), f"<html>{said}</html>"):
        async with RawUpstream([[head(status), body.encode()]]) as upstream:
            toml = f'[models.raw]\nprovider = "openai"\nbase_url = "{upstream.base_url}"\napi_key_env = "UP"\n'
            world = await make_world(toml=toml, environ={"UP": UPSTREAM_KEY})
            with pytest.raises(BessemerError) as failure:
                if streamed:
                    await world.gateway.stream(ask("raw", PROMPT, stream=True), PRINCIPAL)
                else:
                    await world.gateway.chat(ask("raw", PROMPT), PRINCIPAL)
            assert UPSTREAM_KEY.encode() in upstream.heads[0]
            row = world.recorded()[-1]
            clean(failure.value.body(), row.error, row.calls[0].error, logged.getvalue())
            for secret in (KEY, UPSTREAM_KEY):
                assert secret not in str(row.calls[0].error_detail)


async def test_a_grader_that_fails_is_not_logged(logged: io.StringIO) -> None:
    async def judge(_call: Any) -> Any:
        raise ValueError(f"{PROMPT} {KEY} {dict(os.environ)}")

    for grader in (
        {"type": "python", "name": "p", "source": "def grade(sample, item):\n    raise ValueError(str(sample))\n"},
        {"type": "score_model", "name": "j", "model": "m", "input": [{"role": "user", "content": "x"}]},
    ):
        with graders.build(grader, GraderServices(judge=judge, unfenced=True)) as built:
            result = await built.grade(PROMPT, {"key": KEY})
        assert result.reward is None
    clean(logged.getvalue(), result.wire())


def test_a_job_that_fails_keeps_type_and_place(sqlite_database: Database, logged: io.StringIO) -> None:
    row = JobRow(id="eval-1", kind="evaluation", request={}, status=JobStatus.RUNNING, created_at=1.0, key_id="key-1")
    job_rows.insert(sqlite_database, row)
    try:
        raise KeyError(f"{PROMPT} {KEY} {UPSTREAM_KEY} {VARIABLE}")
    except KeyError as error:
        fail(Job(EVALUATION, row, sqlite_database, Path()), error)
    failed = job_rows.get(sqlite_database, "eval-1")
    events = job_rows.events(sqlite_database, "eval-1", limit=10)
    assert failed.error is not None
    assert failed.error["message"].startswith("KeyError at test_secrets.py:")
    clean(failed.error, events, logged.getvalue())
