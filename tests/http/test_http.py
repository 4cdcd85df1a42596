"""Bodies, errors by field, cancellation when the client leaves."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from bessemer.core.decoding import decode
from bessemer.core.errors import InvalidRequest
from bessemer.core.openai import FineTuningJobRequest
from bessemer.core.openai_chat import ChatRequest
from bessemer.http.edge import ClientGone, EventStream, while_connected


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"", None, "missing_body"),
        (b"{", None, "invalid_json"),
        (b"[]", None, "invalid_type"),
        (b"[" * 500, None, "invalid_json"),
        (b'{"messages": []}', "model", "missing_required_parameter"),
        (b'{"model": "m", "messages": [], "nope": 1}', "nope", "unknown_parameter"),
        (b'{"model": 1, "messages": []}', "model", "invalid_type"),
        (b'{"model": "m", "messages": [], "bessemer": {"x": 1}}', "bessemer.x", "unknown_parameter"),
        (b'{"model": "m", "messages": [], "stream_options": {"x": 3}}', "stream_options.x", "unknown_parameter"),
        (b'{"model": "m", "messages": [], "metadata": {"a": 3}}', "metadata.*", "invalid_type"),
    ],
)
def test_a_wrong_body_names_its_field(body: bytes, param: str | None, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(ChatRequest, body)
    assert (caught.value.param, caught.value.error_code) == (param, code)


@given(st.binary(max_size=200))
def test_no_body_breaks_the_decoder(body: bytes) -> None:
    try:
        decode(FineTuningJobRequest, body)
    except InvalidRequest as error:
        assert error.message


async def test_work_ends_normally_while_the_client_stays() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await while_connected(asyncio.Event().wait, work()) == 7  # type: ignore[arg-type]


async def test_a_client_that_leaves_cancels_the_work_at_once() -> None:
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async def receive() -> Message:
        await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async with asyncio.timeout(2):
        with pytest.raises(ClientGone):
            await while_connected(receive, work())
    assert cancelled.is_set()


class Events:
    """Two events, then silence; remembers that it was closed."""

    def __init__(self) -> None:
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        yield b"data: 2\n\n"
        await asyncio.sleep(60)

    async def aclose(self) -> None:
        self.closed = True


async def test_a_stream_is_closed_when_the_client_leaves_in_the_middle() -> None:
    events, sent, gone = Events(), [], asyncio.Event()

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message.get("body"))
        if len(sent) == 3:
            gone.set()

    with pytest.raises(ClientGone):
        await EventStream(events)({}, receive, send)
    assert events.closed
    assert sent == [None, b"data: 1\n\n", b"data: 2\n\n"]


async def test_a_stream_is_closed_when_its_head_cannot_be_sent() -> None:
    events = Events()

    async def send(_message: Message) -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await EventStream(events)({}, asyncio.Event().wait, send)  # type: ignore[arg-type]
    assert events.closed


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (rb'{"model": "\ud83d"}', "half of a character"),
        (rb'{"model": "\ude00 \ud83d\ude00"}', "half of a character"),
        (b'\xef\xbb\xbf{"model": "m"}', "BOM"),
        (b'{"model": "\xff"}', "UTF-8"),
    ],
)
def test_a_body_that_is_no_json_is_told_why(body: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=f"(?i){says}"):
        decode(ChatRequest, body)
