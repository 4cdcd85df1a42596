"""Bounds on the shape of JSON, checked before it is decoded: depth, because decoders and encoders recurse, and values,
because each costs many times its bytes, and decoding holds up every other thread. And on texts that are no content:
whatever a client names, in any body or query, is of one of the types here.
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import Annotated, Final

import msgspec

MAX_DEPTH: Final = 128
"""Levels of lists and objects within each other."""
MAX_VALUES: Final = 100_000
"""Lists, objects and commas; decoding this many takes some 10 ms."""
Name = Annotated[str, msgspec.Meta(max_length=256)]
"""An id or a name of anything."""
NewName = Annotated[str, msgspec.Meta(max_length=256, pattern=r"^[^\x00]*$")]
"""A name that is given here: without NUL, which PostgreSQL's texts cannot hold."""
Note = Annotated[str, msgspec.Meta(max_length=4096)]
"""What a person writes beside a thing: a reason, a description."""
Label = Annotated[str, msgspec.Meta(max_length=2000)]
"""An answer that a metric knows."""
Value = Annotated[str, msgspec.Meta(max_length=512)]
"""Of a tag."""
Tags = Annotated[dict[Annotated[str, msgspec.Meta(max_length=64)], Value], msgspec.Meta(max_length=16)]
"""Names and values of a request, a job or feedback: OpenAI's limits of `metadata`."""
UnixTime = Annotated[float, msgspec.Meta(ge=0, le=253_402_300_800)]
"""Unix seconds, up to the year 10000: no infinity, and no NaN, which is before and after nothing."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_BLOCK: Final = 1 << 16
"""Bytes that are looked at in one go: between blocks other threads have their turn."""


def check_shape(data: bytes) -> None:
    """Raise msgspec.DecodeError when JSON is nested deeper, or holds more values, than the bounds allow.

    Time is linear in the bytes, about a millisecond a megabyte, some more where brackets and commas stand in texts:
    these do not count.
    """
    openings = commas = 0
    for start in range(0, len(data), _BLOCK):
        end = start + _BLOCK
        openings += data.count(b"[", start, end) + data.count(b"{", start, end)
        commas += data.count(b",", start, end)
    if openings + commas > MAX_VALUES or openings > MAX_DEPTH:
        _check_values(data)


def _check_values(data: bytes) -> None:
    reached = values = 0
    for bare in _without_texts(data):
        brackets = bare.translate(None, _NO_BRACKETS)
        levels = list(accumulate(map(_STEP.__getitem__, brackets), initial=reached))
        reached = levels[-1]
        if max(levels) > MAX_DEPTH:
            raise msgspec.DecodeError(f"it is nested more than {MAX_DEPTH} levels deep")
        values += bare.count(b"[") + bare.count(b"{") + bare.count(b",")
        if values > MAX_VALUES:
            raise msgspec.DecodeError(f"it holds more than {MAX_VALUES} values")


def _without_texts(data: bytes) -> Iterator[bytes]:
    """Yield the bytes outside of texts, block by block."""
    within, start = 0, 0
    while start < len(data):
        block = data[start : start + _BLOCK]
        if (len(block) - len(block.rstrip(b"\\"))) % 2:  # an escape ends with its next byte
            block = data[start : start + _BLOCK + 1]
        start += len(block)
        # Without escapes, every other piece between quotes is a text.
        pieces = block.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
        yield b"".join(pieces[within::2])
        within ^= (len(pieces) - 1) % 2
