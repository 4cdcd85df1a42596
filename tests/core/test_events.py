"""Server-sent events cut anywhere."""

import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.errors import ProviderError
from bessemer.core.events import server_sent_data

RAW = b": hello\r\ndata: one\r\n\r\nevent: x\ndata:two\ndata: lines\n\nid: 7\n\ndata: \xc3\xa9\n\ndata: cut off"


async def pieces(raw: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    edges = [0, *sorted(cuts), len(raw)]
    for start, stop in itertools.pairwise(edges):
        yield raw[start:stop]


@given(st.lists(st.integers(0, len(RAW)), max_size=12))
async def test_events_do_not_depend_on_where_the_bytes_are_cut(cuts):
    found = [data async for data in server_sent_data(pieces(RAW, cuts))]
    assert found == [b"one", b"two\nlines", "é".encode()]


async def test_an_endless_event_is_refused():
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"data: " + b"x" * 1_000_000

    with pytest.raises(ProviderError):
        async for _ in server_sent_data(endless()):
            pass
