"""Server-sent events cut anywhere."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.errors import ProviderError
from bessemer.core.events import EventParser

RAW = b": hello\r\ndata: one\r\n\r\nevent: x\ndata:two\ndata: lines\n\nid: 7\n\ndata: \xc3\xa9\n\ndata: cut off"


@given(st.lists(st.integers(0, len(RAW)), max_size=12))
def test_events_do_not_depend_on_where_the_bytes_are_cut(cuts):
    parser = EventParser()
    edges = [0, *sorted(cuts), len(RAW)]
    found = [data for start, stop in itertools.pairwise(edges) for data in parser.feed(RAW[start:stop])]
    assert found == [b"one", b"two\nlines", "é".encode()]


def test_an_endless_event_is_refused():
    parser = EventParser()
    with pytest.raises(ProviderError):
        while True:
            parser.feed(b"data: " + b"x" * 1_000_000)
