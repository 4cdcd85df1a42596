"""A fail-closed OpenAI server on loopback, for tests and benchmarks: scripted answers, unexpected requests are refused.

It is no part of what is installed: nothing that Bessemer ships can answer with it.

Each request takes the next script. When there is none left, or the request is not one that OpenAI would take, the
answer is an error that names the reason, and the reason is kept in `refused`.
"""

import asyncio
import base64
import hashlib
import struct
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import msgspec
from aiohttp import web

from bessemer.core.types import JSON, Frozen

_encode = msgspec.json.Encoder().encode


class Script(Frozen, frozen=True):
    """What one request gets."""

    pieces: tuple[str, ...] = ("ok",)
    """The answer, in as many stream events as there are pieces."""
    says: tuple[JSON, ...] = ()
    """What the answer says beside its pieces, as the deltas of stream events; joined for a whole answer."""
    usage_details: JSON = msgspec.field(default_factory=dict)
    """More fields of the usage."""
    logprobs: tuple[float, ...] = ()
    """Per piece, sent when the request asks for logprobs."""
    finish_reason: str = "stop"
    prompt_tokens: int = 10
    cached_tokens: int | None = None
    """Of the prompt's; None: not told."""
    status: int = 200
    """Another status answers with an error body."""
    code: str = "scripted"
    """Of the error body."""
    retry_after: str | None = None
    """The header, of an error."""
    first_token_s: float = 0.0
    between_s: float = 0.0
    break_after: int | None = None
    """Close the connection after this many pieces."""
    error_after: int | None = None
    """Send an error event after this many pieces."""
    model: str | None = None
    """The upstream model that the request must name."""


class _Unexpected(Exception):
    """A request that no test or benchmark should send."""


class FakeOpenAI:
    """The server. Use it as an async context manager; `base_url` ends in /v1."""

    def __init__(self, scripts: Iterable[Script], *, api_key: str | None = None) -> None:
        self._scripts = iter(scripts)
        self._api_key = api_key
        self._runner: web.AppRunner | None = None
        self.base_url = ""
        self.bodies: list[bytes] = []
        """Raw bodies, in order of arrival."""
        self.headers: list[dict[str, str]] = []
        self.connections: set[str] = set()
        """The distinct connections that requests came over."""
        self.refused: list[str] = []
        """Why requests were refused; empty when all were expected."""
        self.disconnected = asyncio.Event()
        """Set when a client went away in the middle of an answer."""

    async def __aenter__(self) -> "FakeOpenAI":
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _checked(self, request: web.Request, raw: bytes) -> dict[str, Any]:
        if request.method != "POST" or request.path not in {"/v1/chat/completions", "/v1/embeddings"}:
            raise _Unexpected(f"unexpected {request.method} {request.path}")
        if self._api_key is not None and request.headers.get("Authorization") != f"Bearer {self._api_key}":
            raise _Unexpected("wrong or missing API key")
        try:
            body = msgspec.json.decode(raw, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise _Unexpected(f"the body is not JSON: {error}") from error
        if request.path == "/v1/embeddings":
            if not body.get("input"):
                raise _Unexpected("the body has no input")
        elif not isinstance(body.get("messages"), list) or not body["messages"]:
            raise _Unexpected("the body has no messages")
        return body

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.bodies.append(raw)
        self.headers.append(dict(request.headers))
        self.connections.add(str(request.transport and request.transport.get_extra_info("peername")))
        try:
            body = self._checked(request, raw)
            script = next(self._scripts, None)
            if script is None:
                raise _Unexpected("no script is left for this request")
            if script.model not in (None, body.get("model")):
                raise _Unexpected(f"the script expects the model {script.model!r}, not {body.get('model')!r}")
        except _Unexpected as error:
            self.refused.append(str(error))
            return _error(400, f"fake: {error}")
        await asyncio.sleep(script.first_token_s)
        if script.status != 200:
            failure = _error(script.status, "scripted failure", script.code)
            if script.retry_after is not None:
                failure.headers["Retry-After"] = script.retry_after
            return failure
        if request.path == "/v1/embeddings":
            return _embedded(body, script)
        try:
            return await (self._stream(request, body, script) if body.get("stream") else _complete(body, script))
        except (asyncio.CancelledError, ConnectionResetError):
            self.disconnected.set()
            raise

    async def _stream(self, request: web.Request, body: dict[str, Any], script: Script) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for index, piece in enumerate(script.pieces):
            if index == script.break_after and request.transport is not None:
                request.transport.close()
                return response
            if index == script.error_after:
                await response.write(b'data: {"error": {"message": "scripted failure"}}\n\n')
                return response
            delta = {"role": "assistant", "content": piece} if index == 0 else {"content": piece}
            logprobs = _logprobs(body, script, index, index + 1)
            await response.write(_event(body, [_choice("delta", delta, None, logprobs)]))
            await asyncio.sleep(script.between_s)
        for delta in script.says:
            await response.write(_event(body, [_choice("delta", delta, None, None)]))
            await asyncio.sleep(script.between_s)
        await response.write(_event(body, [_choice("delta", {}, script.finish_reason, None)]))
        if (body.get("stream_options") or {}).get("include_usage"):
            await response.write(_event(body, [], _usage(script)))
        await response.write(b"data: [DONE]\n\n")
        return response


async def _complete(body: dict[str, Any], script: Script) -> web.Response:
    if script.error_after is not None:
        return web.json_response({"error": {"message": "scripted failure"}})
    message = {"role": "assistant", "content": "".join(script.pieces) or None, **_joined(script.says)}
    logprobs = _logprobs(body, script, 0, len(script.pieces))
    answer = {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 0,
        "model": body.get("model"),
        "choices": [_choice("message", message, script.finish_reason, logprobs)],
        "usage": _usage(script),
    }
    return web.Response(body=_encode(answer), content_type="application/json")


def vector_of(text: Any) -> list[float]:
    """Return the vector that the server says a text, or its tokens, has."""
    digest = hashlib.sha256(_encode(text)).digest()
    return [byte / 256 for byte in digest[:8]]


def _embedded(body: dict[str, Any], script: Script) -> web.Response:
    given = body["input"]
    inputs = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    vectors: list[Any] = [vector_of(text) for text in inputs]
    if body.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{len(one)}f", *one)).decode() for one in vectors]
    data = [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(vectors)]
    usage = {"prompt_tokens": script.prompt_tokens, "total_tokens": script.prompt_tokens}
    answer = {"object": "list", "data": data[::-1], "model": body.get("model"), "usage": usage}
    return web.Response(body=_encode(answer), content_type="application/json")


def _joined(deltas: Iterable[JSON]) -> JSON:
    """Return one message that says what the deltas say: the pieces of each tool call are joined."""
    message: JSON = {}
    calls: dict[int, JSON] = {}
    for delta in deltas:
        for name, value in delta.items():
            if name != "tool_calls":
                message[name] = message[name] + value if isinstance(message.get(name), str) else value
        for piece in delta.get("tool_calls", ()):
            index = piece.get("index", len(calls))
            kind = piece.get("type") or calls[index]["type"]
            call = calls.setdefault(index, {"id": piece.get("id"), "type": kind, kind: {}})
            for name, text in piece[kind].items():
                call[kind][name] = call[kind].get(name, "") + text
    return message | ({"tool_calls": list(calls.values())} if calls else {})


def _choice(kind: str, message: JSON, finish_reason: str | None, logprobs: Any) -> dict[str, Any]:
    return {"index": 0, kind: message, "finish_reason": finish_reason, "logprobs": logprobs}


def _logprobs(body: dict[str, Any], script: Script, start: int, stop: int) -> dict[str, Any] | None:
    if not body.get("logprobs") or not script.logprobs:
        return None
    return {
        "content": [
            {"token": script.pieces[index], "logprob": script.logprobs[index], "bytes": None, "top_logprobs": []}
            for index in range(start, stop)
        ]
    }


def _usage(script: Script) -> dict[str, Any]:
    count = len(script.pieces)
    details = {} if script.cached_tokens is None else {"prompt_tokens_details": {"cached_tokens": script.cached_tokens}}
    return {
        "prompt_tokens": script.prompt_tokens,
        "completion_tokens": count,
        "total_tokens": script.prompt_tokens + count,
        **details,
        **script.usage_details,
    }


def _event(body: dict[str, Any], choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
    chunk = {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": body.get("model"),
        "choices": choices,
        "usage": usage,
    }
    return b"data: " + _encode(chunk) + b"\n\n"


def _error(status: int, message: str, code: str = "unexpected_request") -> web.Response:
    return web.json_response({"error": {"message": message, "type": "fake", "code": code}}, status=status)
