"""Connections to upstreams: kept, replaced, bounded; answers that end in every way that HTTP knows."""

import asyncio
import gzip
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from bessemer.core.errors import ProviderError
from bessemer.gateway.providers.upstream_http import UpstreamBroke, UpstreamClient, UpstreamLost, UpstreamResponse

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def serving(handle: Handler) -> AsyncIterator[str]:
    """Serve connections, each with its number, from 1; give the URL."""
    numbers = itertools.count(1)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer, next(numbers))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/x"
    finally:
        server.close()


async def request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head + await reader.readexactly(length)


async def body(response: UpstreamResponse) -> bytes:
    found = b""
    while piece := await response.readany():
        found += piece
    return found


def answering(*answers: bytes) -> Handler:
    """On each connection give these answers, in turn, then close it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        for answer in answers:
            await request(reader)
            writer.write(answer)
            await writer.drain()

    return handle


async def post(client: UpstreamClient, url: str, sent: bytes = b"{}", **headers: str) -> UpstreamResponse:
    return await client.post(url, sent, headers, 5.0)


async def test_a_connection_is_used_again_and_what_is_sent_is_what_was_given() -> None:
    seen: list[tuple[int, bytes]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while True:
            seen.append((number, await request(reader)))
            writer.write(OK)

    async with serving(handle) as url:
        client = UpstreamClient(5)
        for _ in range(3):
            assert await body(await post(client, url, b'{"a":1}', Authorization="Bearer k")) == b"ok"
        client.close()
    assert [number for number, _ in seen] == [1, 1, 1]
    host = url.split("/")[2]
    expected = (
        f"POST /v1/x HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nAuthorization: Bearer k\r\nContent-Length: 7\r\n\r\n"
    )
    assert seen[0][1] == expected.encode() + b'{"a":1}'


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (OK, b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", b"ok"),
        (b"HTTP/1.0 200 OK\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(b"ok", mtime=0),
            b"ok",
        ),
    ],
)
async def test_answers_end_in_every_way(answer: bytes, text: bytes) -> None:
    async with serving(answering(answer)) as url:
        client = UpstreamClient(5)
        response = await post(client, url)
        assert await body(response) == text
        response.close()
        client.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_an_answer_that_breaks_off_is_told_apart_from_one_that_ends(answer: bytes) -> None:
    async with serving(answering(answer)) as url:
        client = UpstreamClient(5)
        with pytest.raises(UpstreamBroke):
            await body(await post(client, url))
        client.close()


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000])
async def test_what_is_not_http_is_no_answer(answer: bytes) -> None:
    async with serving(answering(answer)) as url:
        client = UpstreamClient(5)
        with pytest.raises((UpstreamBroke, UpstreamLost)):
            await post(client, url)
        client.close()


async def test_a_kept_connection_that_the_server_closed_is_replaced() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await request(reader)
        writer.write(OK)
        await writer.drain()
        if number == 1:
            await reader.readexactly(1)  # the next request arrives here, and is dropped

    async with serving(handle) as url:
        client = UpstreamClient(5)
        for _ in range(2):
            assert await body(await post(client, url)) == b"ok"
        client.close()


async def test_a_new_connection_that_ends_is_not_asked_twice() -> None:
    asked = []

    async def handle(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter, number: int) -> None:
        asked.append(number)
        await request(reader)

    async with serving(handle) as url:
        client = UpstreamClient(5)
        with pytest.raises(UpstreamLost):
            await post(client, url)
        client.close()
    assert asked == [1]


async def test_an_answer_before_the_end_of_a_long_request_is_read_and_its_connection_is_not_used_again() -> None:
    numbers = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        numbers.append(number)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        await asyncio.sleep(0.2)

    async with serving(handle) as url:
        client = UpstreamClient(5)
        answers = await asyncio.gather(*(post(client, url, bytes(8 * 1024 * 1024)) for _ in range(3)))
        assert [(one.status, await body(one)) for one in answers] == [(413, b"no")] * 3
        assert (await post(client, url)).status == 413
        client.close()
    assert numbers == [1, 2, 3, 4]


async def test_connections_to_one_origin_are_bounded_and_nobody_waits_for_ever() -> None:
    running, most = 0, 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        nonlocal running, most
        while True:
            await request(reader)
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1
            writer.write(OK)

    async with serving(handle) as url:
        client = UpstreamClient(3)

        async def one(place: int) -> None:
            asked = asyncio.ensure_future(post(client, url))
            if place % 5 == 0:  # some leave, also while they wait for their turn
                await asyncio.sleep(0.005 * (place % 3))
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
            else:
                assert await body(await asked) == b"ok"

        async with asyncio.timeout(10):
            await asyncio.gather(*(one(place) for place in range(60)))
        client.close()
    assert most <= 3


async def test_a_slow_reader_holds_up_the_server_and_not_the_memory() -> None:
    sent = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        nonlocal sent
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
        for _ in range(64):
            writer.write(bytes(1 << 20))
            await writer.drain()
            sent += 1

    async with serving(handle) as url:
        client = UpstreamClient(1)
        response = await post(client, url)
        await asyncio.sleep(0.5)
        assert sent < 32, "the sockets' buffers, not ours"
        assert len(await body(response)) == 64 << 20
        client.close()


async def test_nobody_there_and_a_header_that_cannot_be() -> None:
    client = UpstreamClient(1)
    with pytest.raises(UpstreamLost):
        await post(client, "http://127.0.0.1:1/v1")
    with pytest.raises(ProviderError, match="line end"):
        await post(client, "http://127.0.0.1:1/v1", X="a\r\nHost: evil")
    client.close()


async def test_closing_an_answer_that_has_not_ended_closes_its_connection() -> None:
    gone = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        await writer.drain()
        if not await reader.read(1):
            gone.set()

    async with serving(handle) as url:
        client = UpstreamClient(1)
        response = await post(client, url)
        assert await response.readany() == b"ok"
        response.close()
        await asyncio.wait_for(gone.wait(), 2)
        client.close()
