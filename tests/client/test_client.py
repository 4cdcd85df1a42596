"""The typed client against the real server: one value for each call, sent with and without an event loop."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from tests.cli.foreign import Quiet, serving
from tests.live import Server

from bessemer.client import AsyncClient, Client, Unreachable, as_sent, calls
from bessemer.client.sending import pause_s
from bessemer.core.access import Role
from bessemer.core.errors import (
    BessemerError,
    ConfigError,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    Overloaded,
    StoreError,
    Unauthorized,
)
from bessemer.core.openai import FineTuningJobRequest
from bessemer.core.openai_chat import ChatRequest
from bessemer.core.paging import FeedbackQuery, FilesQuery, InferencesQuery, JobsQuery
from bessemer.core.wire import FeedbackRequest, KeyBody, ReasonBody, RouteBody, ShownInference

KEY = "bsm-x"


@pytest.fixture
def client(server: Server) -> Client:
    return Client(server.url, server.key)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def ask(client: Client, text: str) -> str:
    answer = client.send(calls.chat(ChatRequest(model="assistant", messages=[{"role": "user", "content": text}])))
    assert answer.bessemer is not None
    return answer.bessemer.inference_id


def test_an_answer_is_asked_judged_and_found_again(client: Client) -> None:
    inference = ask(client, "hello")
    given = client.send(calls.give_feedback(FeedbackRequest(metric="verdict", value=True, inference_id=inference)))
    assert given.value is True
    row = client.send(calls.get_inference(inference))
    assert (row.id, row.route, row.calls[0].accepted) == (inference, "assistant", True)
    found = client.send(calls.list_feedback(FeedbackQuery(inference_id=inference)))
    assert [one.id for one in found.data] == [given.id]


async def test_the_same_values_are_sent_with_an_event_loop(server: Server, client: Client) -> None:
    inference = ask(client, "again")
    operation = calls.get_inference(inference)
    async with AsyncClient(server.url, server.key) as other:
        assert await other.send(operation) == client.send(operation)
        with pytest.raises(NotFound):
            await other.send(calls.get_route("nothing here/at all"))


def test_names_travel_as_they_are(client: Client) -> None:
    for name in ("a/b", "a?b", "a b", "ä", "a%2Fb", "x@1:y"):
        with pytest.raises(BessemerError, match="route") as caught:
            client.send(calls.get_route(name))
        assert repr(name) in caught.value.message


async def test_lists_are_walked_page_by_page(server: Server, client: Client) -> None:
    asked = [ask(client, f"page {number}") for number in range(5)]
    operation = calls.list_inferences(InferencesQuery(route="assistant", limit=2))
    found = [row.id for row in client.each(operation)]
    assert found[:5] == asked[::-1]
    assert len(set(found)) == len(found)
    async with AsyncClient(server.url, server.key) as other:
        assert [row.id async for row in other.each(operation)] == found


async def test_a_file_goes_up_and_comes_down_as_it_is(server: Server, client: Client, tmp_path: Path) -> None:
    row = json.dumps({"messages": [{"role": "user", "content": "x" * 1000}], "answer": "y"}) + "\n"
    source = tmp_path / "rows with spaces.jsonl"
    source.write_text(row * 1000)  # more than one piece
    sent = client.send(calls.upload_file(source))
    assert sent.bytes == source.stat().st_size
    async with AsyncClient(server.url, server.key) as other:
        again = await other.send(calls.upload_file(source))
        assert await other.save(calls.file_content(sent.id), tmp_path / "down") == sent.bytes
    assert client.save(calls.file_content(again.id), tmp_path / "again") == sent.bytes
    assert (tmp_path / "down").read_bytes() == (tmp_path / "again").read_bytes() == source.read_bytes()
    assert client.send(calls.list_files(FilesQuery(limit=1))).data[0].id == again.id
    with pytest.raises(OSError, match="Is a directory"):
        client.save(calls.file_content(again.id), tmp_path)
    assert names(tmp_path) == ["again", "down", source.name]
    with pytest.raises(ConfigError, match="nothing"):
        client.send(calls.upload_file(tmp_path / "nothing.jsonl"))


async def test_one_key_makes_one_job_and_waiting_ends_at_a_pause(
    server: Server, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "rows").write_text(
        '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\n'
    )
    file = client.send(calls.upload_file(tmp_path / "rows"))
    body = FineTuningJobRequest(model="small", training_file=file.id, metadata={"a": "1", "b": "2"})
    job = client.send(calls.FINE_TUNING.create(body, "one key"))
    assert client.send(calls.FINE_TUNING.create(body, "one key")).id == job.id
    assert client.send(calls.FINE_TUNING.create(body)).id != job.id
    assert client.send(calls.FINE_TUNING.list(JobsQuery(metadata={"a": "1"}))).data[-1].id == job.id
    client.send(calls.FINE_TUNING.pause(job.id))
    told: list[str] = []
    assert client.wait(calls.FINE_TUNING, job.id, lambda event: told.append(event.message)).status == "paused"
    assert told[0] == f"Created fine-tuning job: {job.id}"
    async with AsyncClient(server.url, server.key) as other:
        assert (await other.wait(calls.FINE_TUNING, job.id)).status == "paused"


def test_errors_are_those_of_their_status_and_code(server: Server, client: Client) -> None:
    viewer = client.send(calls.create_key(KeyBody(name="viewer", role=Role.VIEWER)))
    assert viewer.role is Role.VIEWER
    with pytest.raises(Forbidden):
        Client(server.url, viewer.key).send(calls.list_keys())
    with pytest.raises(Unauthorized):
        Client(server.url, KEY).send(calls.list_keys())
    with pytest.raises(InvalidRequest) as caught:
        client.send(calls.put_route("x", {"surprise": 1}))
    assert (caught.value.param, caught.value.error_code) == ("surprise", "unknown_parameter")
    with pytest.raises((Conflict, NotFound)):
        client.send(calls.rollback_route("never written", ReasonBody(reason="why not")))
    with pytest.raises(InvalidRequest, match="stream_chat"):
        calls.chat({"model": "assistant", "messages": [], "stream": True})


def test_what_is_withheld_is_null_and_says_so(server: Server, client: Client) -> None:
    inference = ask(client, "a secret")
    client.send(calls.give_feedback({"metric": "comment", "value": "another", "inference_id": inference}))
    viewer = Client(server.url, client.send(calls.create_key({"name": "v", "role": "viewer"})).key)
    row = viewer.send(calls.get_inference(inference))
    assert (row.messages, row.output, row.content, row.calls[0].token_logprobs) == (None, None, "withheld", None)
    said = viewer.send(calls.list_feedback({"inference_id": inference})).data[0]
    assert (said.value, said.content) == (None, "withheld")


def test_every_list_is_read(client: Client) -> None:
    client.send(calls.put_route("listed", RouteBody(targets=["upstream"])))
    for operation in (
        calls.list_models(), calls.list_routes(), calls.list_versions(), calls.list_aliases(), calls.list_keys(),
        calls.list_audit_events(), calls.usage(), calls.list_plans(), calls.list_datasets(),
        *(jobs.list() for jobs in calls.KINDS),
    ):  # fmt: skip
        page: Any = client.send(operation)
        assert page.object == "list"
    assert client.send(calls.liveness()) == {"status": "ok"}
    assert b"bessemer_writer_queued" in client.send(calls.metrics())
    assert client.send(calls.describe())["openapi"]


# -- servers that answer as they like ---------------------------------------------------------------------------------


class Playing(Quiet):
    """Answers with what the list holds, one after the other: (status, headers, body), or None to hang up."""

    script: list[tuple[int, dict[str, str], bytes] | None]
    seen: list[tuple[str, str]]

    def do_GET(self) -> None:  # noqa: N802 - http.server calls it so
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.seen.append((self.command, self.path))
        answer = self.script.pop(0)
        if answer is None:
            self.close_connection = True
            return
        status, headers, body = answer
        self.send_response(status)
        for name, value in ({"content-length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET


@contextmanager
def playing(*script: tuple[int, dict[str, str], bytes] | None) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    handler: type[BaseHTTPRequestHandler] = type("Handler", (Playing,), {"script": list(script), "seen": []})
    with serving(handler) as url:
        yield url, handler.seen  # type: ignore[attr-defined]


def refusal(status: int, code: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    body = {"error": {"message": "later", "type": "server_error", "param": None, "code": code}}
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body).encode()


OK = (200, {}, b'{"status": "ok"}')
MADE = (200, {}, json.dumps({"id": "f", "metric": "m", "kind": "boolean", "value": True, "source": "human",
                             "created_at": 1.0, "surprise": {"of": "a newer server"}}).encode())  # fmt: skip
FEEDBACK = calls.give_feedback({"metric": "m", "value": True})
Send = Callable[[str, Any], Any]


def blocking(url: str, operation: Any) -> Any:
    return Client(url, KEY).send(operation)


async def concurrent(url: str, operation: Any) -> Any:
    async with AsyncClient(url, KEY) as client:
        return await client.send(operation)


async def both(script: list[Any], operation: Any) -> list[tuple[Any, int]]:
    """Return what either client makes of a script, an answer or an error, and how often it asked."""
    outcomes: list[tuple[Any, int]] = []
    for send in (blocking, concurrent):
        with playing(*script) as (url, seen):
            try:
                made = send(url, operation)
                outcome = await made if send is concurrent else made
            except BessemerError as error:
                outcome = error
            outcomes.append((outcome, len(seen)))
    return outcomes


@pytest.mark.parametrize(
    ("script", "operation", "asked"),
    [
        ([refusal(503, "overloaded"), OK], calls.liveness(), 2),
        ([refusal(429, "rate_limit_exceeded", retry_after="1"), MADE], FEEDBACK, 2),
        ([None, OK], calls.liveness(), 2),
        ([refusal(503, "store_unavailable"), OK], calls.liveness(), 2),
    ],
    ids=["overloaded", "limited", "cut", "database"],
)
async def test_what_may_be_sent_again_is(script: list[Any], operation: Any, asked: int) -> None:
    for outcome, count in await both(script, operation):
        assert not isinstance(outcome, BaseException), outcome
        assert count == asked


@pytest.mark.parametrize(
    ("script", "operation", "error"),
    [
        ([None], FEEDBACK, Unreachable),
        ([refusal(503, "store_unavailable")], FEEDBACK, StoreError),
        ([refusal(503, "overloaded", retry_after="3600")], calls.liveness(), Overloaded),
        ([(502, {}, b"<html>")], calls.liveness(), BessemerError),
        ([(302, {"location": "/elsewhere"}, b"")], calls.liveness(), Unreachable),
    ],
    ids=["cut", "database", "an hour", "proxy", "moved"],
)
async def test_what_may_not_be_sent_again_is_not(script: list[Any], operation: Any, error: type[BaseException]) -> None:
    for outcome, count in await both(script, operation):
        assert type(outcome) is error
        assert count == 1


@pytest.mark.parametrize(
    ("arrived", "operation", "again"),
    [
        (False, FEEDBACK, True),
        (None, FEEDBACK, False),
        (None, FEEDBACK.with_key(), True),
        (None, calls.liveness(), True),
        (True, calls.liveness(), False),
    ],
)
def test_a_call_that_may_have_arrived_is_repeated_only_where_that_is_safe(
    arrived: bool | None, operation: Any, again: bool
) -> None:
    error = Unreachable("no answer", arrived=arrived)
    assert (pause_s(operation, error, tried=0, retries=2) is not None) is again
    assert pause_s(operation, error, tried=2, retries=2) is None


async def test_what_a_newer_server_adds_is_left_out_of_the_type_and_kept_as_sent() -> None:
    for outcome, _ in await both([MADE], FEEDBACK):
        assert outcome.value is True
    for outcome, _ in await both([MADE], as_sent(FEEDBACK)):
        assert outcome["surprise"] == {"of": "a newer server"}


@pytest.mark.parametrize("body", [b"<html>", b"\xff\xfe", b"[1]", b"3", b"[" * 200_000, b"{}", b'{"data": 3}', b""])
async def test_an_answer_that_is_none_of_bessemers(body: bytes) -> None:
    for operation in (calls.list_models(), FEEDBACK):
        for outcome, count in await both([(200, {}, body)], operation):
            assert isinstance(outcome, Unreachable)
            assert "not as Bessemer does" in outcome.message
            assert count == 1


async def test_a_download_that_is_cut_leaves_no_file(tmp_path: Path) -> None:
    cut = (200, {"content-length": "100"}, b"half")
    with playing(cut) as (url, _), pytest.raises(Unreachable):
        Client(url, KEY, retries=0).save(calls.file_content("f"), tmp_path / "file")
    with playing(cut) as (url, _):
        async with AsyncClient(url, KEY, retries=0) as client:
            with pytest.raises(Unreachable):
                await client.save(calls.file_content("f"), tmp_path / "file")
    assert names(tmp_path) == []


def job(status: str, error: Any = None) -> tuple[int, dict[str, str], bytes]:
    fields = {"id": "eval-1", "kind": "evaluation", "status": status, "created_at": 1, "request": {}, "error": error}
    return 200, {}, json.dumps(fields).encode()


def events(*numbers: int) -> tuple[int, dict[str, str], bytes]:
    rows = [
        {
            "id": f"e{number}",
            "job_id": "eval-1",
            "seq": number,
            "created_at": 1.0,
            "level": "info",
            "message": str(number),
        }
        for number in numbers
    ]
    return 200, {}, json.dumps({"object": "list", "data": rows}).encode()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_job_is_followed_to_its_failure_and_each_event_told_once(asynchronous: bool) -> None:
    worn_out = job("failed", {"message": "why", "code": "worn_out"})
    script = [job("queued"), events(), job("running"), events(2, 1), worn_out, events(4, 3, 2, 1)]
    told: list[str] = []
    with playing(*script) as (url, seen), pytest.raises(BessemerError, match="eval-1 failed: why") as caught:
        if asynchronous:
            async with AsyncClient(url, KEY) as client:
                await client.wait(calls.EVALUATIONS, "eval-1", lambda event: told.append(event.message))
        else:
            Client(url, KEY).wait(calls.EVALUATIONS, "eval-1", lambda event: told.append(event.message))
    assert caught.value.error_code == "worn_out"
    assert told == ["1", "2", "3", "4"]
    assert len(seen) == 6


def test_nobody_at_the_address_and_addresses_that_are_none() -> None:
    with pytest.raises(Unreachable, match="bessemer up"):
        Client("http://127.0.0.1:9", KEY, retries=0).send(calls.liveness())
    for url, key in (("localhost:80", KEY), ("http://x:abc", KEY), ("http://x", "a b")):
        with pytest.raises(ConfigError):
            Client(url, key)


def test_threads_share_a_client(client: Client) -> None:
    found: list[ShownInference] = []
    inference = ask(client, "shared")
    threads = [
        threading.Thread(target=lambda: found.append(client.send(calls.get_inference(inference)))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row.id for row in found] == [inference] * 8
