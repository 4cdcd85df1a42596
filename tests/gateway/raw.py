"""An upstream that answers with exactly these bytes, one answer a connection: for what no well-behaved server sends."""

import asyncio
import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any


class RawUpstream:
    """Each request gets the next of `answers` (the last one again and again): pieces to send, or seconds to wait."""

    def __init__(self, answers: Sequence[Sequence[bytes | float]]) -> None:
        self._answers = list(answers)
        self._server: asyncio.Server | None = None
        self.base_url = ""
        self.heads: list[bytes] = []

    async def __aenter__(self) -> "RawUpstream":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            for part in self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]:
                if isinstance(part, float):
                    await asyncio.sleep(part)
                else:
                    writer.write(part)
                    await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def head(status: str = "200 OK", kind: str = "application/json", *more: str) -> bytes:
    """Return the head of an answer whose body ends with the connection."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


SSE = head(kind="text/event-stream")


def whole(message: Any, **more: Any) -> list[bytes | float]:
    """Return a chat.completion with this message."""
    choice = {"index": 0, "message": message, "finish_reason": "stop"} | more.pop("choice", {})
    return [head(), json.dumps({"choices": [choice]} | more).encode()]


def event(delta: Any, finish: str | None = None, end: bytes = b"\n\n") -> bytes:
    """Return one event of a streamed answer."""
    value = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return b"data: " + json.dumps(value).encode() + end


DONE = b"data: [DONE]\n\n"
