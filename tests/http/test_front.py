"""The front door over a tiny router: ids, limits, keys, error shape. No socket, no services."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bessemer.core.access import Principal, Role
from bessemer.core.errors import InvalidRequest, RateLimited, Unauthorized
from bessemer.http.edge import Call, JSONResponse
from bessemer.http.front import Front
from bessemer.http.routing import Endpoint, build_router

ADMIN = Principal(key_id="key-1", name="admin", role=Role.OWNER)


async def authenticate(header: str | None, _address: str) -> Principal:
    if header != "Bearer good":
        raise Unauthorized("no")
    return ADMIN


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/boom":
        raise RuntimeError("secret detail")
    if scope["path"] == "/late":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise InvalidRequest("too late")
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await JSONResponse({"size": size})(scope, receive, send)


def front(seen: list[tuple[str, int]] | None = None, application: ASGIApp = application) -> Front:
    return Front(
        application,
        authenticate,
        lambda endpoint, status, _seconds: (seen if seen is not None else []).append((endpoint, status)),
        lambda _caller, _project, _endpoint, _error: None,
        max_body_bytes=100,
        max_file_bytes=1000,
        max_concurrent=2,
        public=frozenset({"/healthz"}),
        dialects={},
    )


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: Any


async def ask(
    path: str,
    *,
    headers: dict[str, str] | None = None,
    more: Sequence[tuple[str, str]] = (),
    chunks: tuple[bytes, ...] = (b"",),
    client: str = "10.0.0.9",
    method: str = "POST",
    app: Front | None = None,
) -> Answer:
    given = {"authorization": "Bearer good"} | (headers or {})
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in (*given.items(), *more)],
        "client": (client, 1234),
    }
    incoming = [
        {"type": "http.request", "body": chunk, "more_body": index + 1 < len(chunks)}
        for index, chunk in enumerate(chunks)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await (app or front())(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    headers_out = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers_out, msgspec.json.decode(body))


async def test_every_answer_has_a_request_id_and_keeps_a_plain_one() -> None:
    assert (await ask("/x")).headers["x-request-id"].startswith("req-")
    assert (await ask("/x", headers={"x-request-id": "abc-1"})).headers["x-request-id"] == "abc-1"
    for text in ("bad id\n", "Eve", "a" * 200):
        assert (await ask("/x", headers={"x-request-id": text})).headers["x-request-id"].startswith("req-")


async def test_a_body_is_refused_above_the_limit_declared_or_not() -> None:
    declared = await ask("/x", headers={"content-length": "101"})
    streamed = await ask("/x", chunks=(b"a" * 60, b"a" * 60))
    assert [declared.status, streamed.status] == [413, 413]
    assert streamed.body["error"]["code"] == "payload_too_large"
    assert (await ask("/x", chunks=(b"a" * 60, b"a" * 40))).body == {"size": 100}


async def test_only_a_file_upload_gets_the_larger_limit() -> None:
    form = {"content-type": "multipart/form-data; boundary=x", "content-length": "500"}
    assert (await ask("/v1/files", headers=form)).status == 200
    assert (await ask("/v1/chat/completions", headers=form)).status == 413


async def test_nothing_answers_without_a_key_but_the_public_paths() -> None:
    bad = {"authorization": "Bearer bad"}
    assert (await ask("/healthz", headers=bad)).status == 200
    for path in ("/x", "/metrics", "/nowhere"):
        refused = await ask(path, headers=bad)
        assert refused.status == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert set(refused.body["error"]) == {"message", "type", "param", "code"}


async def test_two_authorization_headers_are_refused() -> None:
    answer = await ask("/x", more=[("authorization", "Bearer bad")])
    assert (answer.status, answer.body["error"]["param"]) == (400, "Authorization")


async def test_an_encoded_body_is_refused_by_its_encoding() -> None:
    for encoding, status in (("gzip", 415), ("br", 415), ("identity", 200)):
        answer = await ask("/x", headers={"content-encoding": encoding})
        assert answer.status == status
        assert status == 200 or encoding in answer.body["error"]["message"]


async def test_a_limit_names_its_own_setting() -> None:
    form = {"content-type": "multipart/form-data; boundary=x", "content-length": "5000"}
    assert "max_file_bytes" in (await ask("/v1/files", headers=form)).body["error"]["message"]
    assert "max_body_bytes" in (await ask("/x", headers={"content-length": "5000"})).body["error"]["message"]


async def test_a_wait_is_told_in_the_header() -> None:
    async def busy(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise RateLimited("busy", retry_after=37)

    assert (await ask("/x", app=front(application=busy))).headers["retry-after"] == "37"


async def test_an_unexpected_error_is_shaped_and_says_nothing_of_the_inside() -> None:
    seen: list[tuple[str, int]] = []
    answer = await ask("/boom", app=front(seen))
    assert answer.status == 500
    assert "secret" not in answer.body["error"]["message"]
    assert answer.headers["x-request-id"] in answer.body["error"]["message"]
    assert seen == [("unmatched", 500)]


async def test_an_error_after_the_first_byte_cuts_the_connection() -> None:
    with pytest.raises(InvalidRequest):
        await ask("/late")


async def test_web_sockets_are_closed() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await front()({"type": "websocket", "path": "/"}, asyncio.Event().wait, send)  # type: ignore[arg-type]
    assert sent[0]["type"] == "websocket.close"


async def test_an_unknown_path_is_told_what_is_wrong_with_a_clients_url() -> None:
    async def name(call: Call) -> ASGIApp:
        return JSONResponse({"model": call.path("model")})

    @asynccontextmanager
    async def lifespan(_app: Router) -> AsyncIterator[None]:
        yield

    table = (Endpoint("GET", "/v1/models/{model}", name, None, dict),)
    app = front(application=build_router(table, None, lifespan))  # type: ignore[arg-type]
    assert (await ask("/v1/models/a/b", method="GET", app=app)).body == {"model": "a/b"}
    for path, says in (
        ("/models/a", "ends with /v1"),
        ("/v1/v1/models/a", "one /v1"),
        ("/v1//models/a", "one /v1"),
        ("/v1/models/", "no slash at its end: /v1/models"),
        ("/v1/models/a/", "no slash at its end: /v1/models/a"),
    ):
        answer = await ask(path, method="GET", app=app)
        assert (answer.status, answer.body["error"]["code"]) == (404, "unknown_url"), path
        assert says in answer.body["error"]["message"], path


async def test_a_wrong_method_is_told_every_method_of_its_path() -> None:
    async def handler(_call: Call) -> JSONResponse:
        return JSONResponse({})

    table = [
        Endpoint("POST", "/v1/things", handler, (), dict),
        Endpoint("DELETE", "/v1/things/{thing_id}", handler, (), dict),
        Endpoint("GET", "/v1/things", handler, (), dict),
        Endpoint("GET", "/v1/things/{name}", handler, (), dict),
    ]
    services: Any = None

    @asynccontextmanager
    async def lifespan(_router: Router) -> AsyncIterator[None]:
        yield

    app = front(application=build_router(table, services, lifespan))
    for path, methods in (("/v1/things", "GET, HEAD, POST"), ("/v1/things/one", "DELETE, GET, HEAD")):
        answer = await ask(path, method="PUT", app=app)
        assert (answer.status, answer.headers["allow"]) == (405, methods)
        assert answer.body["error"]["message"] == f"PUT is not allowed for {path}; allowed: {methods}."


async def test_more_requests_at_once_than_allowed_are_told_to_wait() -> None:
    release = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/healthz":
            await release.wait()
        await JSONResponse({})(scope, receive, send)

    app = front(application=slow)
    under_way = [asyncio.ensure_future(ask("/x", app=app)) for _ in range(2)]
    await asyncio.sleep(0)
    refused = await ask("/x", app=app)
    assert (refused.status, refused.body["error"]["code"]) == (503, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert (await ask("/healthz", app=app)).status == 200
    release.set()
    assert [(await one).status for one in under_way] == [200, 200]
    assert (await ask("/x", app=app)).status == 200
