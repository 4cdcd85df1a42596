"""The shape of JSON is bounded before it is decoded."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.bounds import MAX_DEPTH, MAX_VALUES, check_shape

HARD = st.text(alphabet='[]{}",\\a')
VALUES = st.recursive(HARD, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HARD, inner, max_size=4))


def nested(value: Any, depth: int) -> bytes:
    return b'{"a":' * depth + json.dumps(value).encode() + b"}" * depth


def depth_of(value: Any) -> int:
    if not isinstance(value, list | dict):
        return 0
    return 1 + max(map(depth_of, value.values() if isinstance(value, dict) else value), default=0)


@given(VALUES)
def test_what_stands_in_texts_does_not_count(value: Any) -> None:
    room = MAX_DEPTH - depth_of(value)
    noise = '["[{\\' * 200
    check_shape(nested(value, room))
    check_shape(b'{"noise": ' + json.dumps(noise).encode() + b', "b":' + nested(value, room - 1) + b"}")
    with pytest.raises(msgspec.DecodeError, match="128 levels"):
        check_shape(b'{"noise": ' + json.dumps(noise).encode() + b', "b":' + nested(value, room) + b"}")


@pytest.mark.parametrize("deep", [b"[" * 20_000, b'{"a":' * 20_000, b"[" * 200 + b"]" * 200, b'[{"":' * 100])
def test_depth_is_refused_however_it_is_written(deep: bytes) -> None:
    with pytest.raises(msgspec.DecodeError, match="levels"):
        check_shape(deep)


@pytest.mark.parametrize("many", [b"[],", b"1,", b'"",', b'{"a":1},'])
def test_too_many_values_are_refused(many: bytes) -> None:
    with pytest.raises(msgspec.DecodeError, match="values"):
        check_shape(b"[" + many * (MAX_VALUES + 1) + b"1]")
    check_shape(json.dumps({"text": ", [" * 300_000}).encode())


@pytest.mark.parametrize("escaped", ["\\", '"', '\\"', '"\\'])
@pytest.mark.parametrize("shift", range(4))
def test_texts_that_are_longer_than_a_block_are_told_from_what_is_around_them(escaped: str, shift: int) -> None:
    text = "a" * shift + escaped * 50_000 + "[{" * 200
    check_shape(json.dumps([text, {"b": [text]}]).encode())
    with pytest.raises(msgspec.DecodeError, match="levels"):
        check_shape(json.dumps([text]).encode()[:-1] + b"," + b"[" * MAX_DEPTH)
