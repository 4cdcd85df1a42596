"""The demo's incumbent: a simulated expert behind a real HTTP interface.

It is no model. It knows the right answer to the demo's own questions, gives the wrong one to a stated share of them,
and refuses everything else. Which ones is decided by a hash of the question and the seed: the same question always gets
the same answer. The gateway meets it as it meets any OpenAI-compatible server: on loopback, whole or streamed, with its
usage counted.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import msgspec
from aiohttp import web

from bessemer.cli.demo.offers import NO, YES, Pair
from bessemer.core.content import content_hash
from bessemer.core.types import JSON

ORDINARY_ERRORS = 0.03
"""Share of matches and of unrelated offers that the expert gets wrong."""
TWIN_ERRORS = 0.06
"""The same of near twins, which differ in one aspect: harder for everybody."""
_FOUR_BYTES = 2**32
_encode = msgspec.json.Encoder().encode
TokenCounter = Callable[[str], int]
"""Tokens of a text."""


def verdict(pair: Pair, seed: int) -> str:
    """Return what the expert says of a pair, `Yes` or `No`."""
    drawn = int(content_hash(["expert", seed, pair.input])[:8], 16) / _FOUR_BYTES
    if drawn >= (TWIN_ERRORS if pair.hard else ORDINARY_ERRORS):
        return pair.answer
    return NO if pair.answer == YES else YES


class Expert:
    """The server. Use it as an async context manager; `base_url` ends in /v1."""

    def __init__(self, answers: Mapping[str, str], count: TokenCounter, port: int = 0) -> None:
        """Answer user messages that are keys of `answers`, on `port` or, where that is taken, any free one.

        Usage is that of the messages' texts and of the answer; what a vendor adds to each message is left out.
        """
        self._answers, self._count = answers, count
        self.port = port
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> "Expert":
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        except OSError:
            await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        messages = body["messages"]
        text = self._answers.get(messages[-1]["content"])
        if text is None:
            known = "The simulated expert knows the demo's own questions alone."
            return web.json_response({"error": {"message": known, "type": "invalid_request_error"}}, status=400)
        told, said = sum(self._count(message["content"]) for message in messages), self._count(text)
        usage = {"prompt_tokens": told, "completion_tokens": said, "total_tokens": told + said}
        common = {"id": f"simulated-{content_hash(messages)[:12]}", "created": 0, "model": body["model"]}
        if body.get("stream"):
            return await _streamed(request, common, text, usage)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return web.json_response({**common, "object": "chat.completion", "choices": [choice], "usage": usage})


@contextmanager
def in_background(expert: Expert) -> Iterator[Expert]:
    """Let it answer on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="expert", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(expert.__aenter__(), loop).result()
        yield expert
        asyncio.run_coroutine_threadsafe(expert.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _streamed(request: web.Request, common: JSON, text: str, usage: Mapping[str, int]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    choice: JSON = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    await response.write(_event(common, choices=[choice]))
    await response.write(_event(common, choices=[{**choice, "delta": {}, "finish_reason": "stop"}]))
    await response.write(_event(common, choices=[], usage=usage))
    await response.write(b"data: [DONE]\n\n")
    return response


def _event(common: JSON, **fields: Any) -> bytes:
    return b"data: " + _encode({**common, "object": "chat.completion.chunk", **fields}) + b"\n\n"
