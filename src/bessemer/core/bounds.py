"""Bounds on the shape of JSON, checked before it is decoded: depth, because decoders and encoders recurse, and values,
because each costs many times its bytes. And on texts that are no content: whatever a client names, in any body or
query, is of one of the types here.
"""

from itertools import accumulate
from typing import Annotated

import msgspec

MAX_DEPTH = 128
"""Levels of lists and objects within each other."""
MAX_VALUES = 500_000
"""Lists, objects and commas; decoding this many takes some 50 ms."""
Name = Annotated[str, msgspec.Meta(max_length=256)]
"""An id or a name of anything."""
Note = Annotated[str, msgspec.Meta(max_length=4096)]
"""What a person writes beside a thing: a reason, a description."""
Label = Annotated[str, msgspec.Meta(max_length=2000)]
"""An answer that a metric knows."""
Value = Annotated[str, msgspec.Meta(max_length=512)]
"""Of a tag."""
Tags = Annotated[dict[Annotated[str, msgspec.Meta(max_length=64)], Value], msgspec.Meta(max_length=16)]
"""Names and values of a request, a job or feedback: OpenAI's limits of `metadata`."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_BLOCK = 1 << 16
"""Brackets that are counted in one go: between blocks other threads have their turn."""


def check_shape(data: bytes) -> None:
    """Raise msgspec.DecodeError when JSON is nested deeper, or holds more values, than the bounds allow.

    Time is linear in the bytes, some milliseconds a megabyte. Brackets and commas within texts do not count.
    """
    openings = data.count(b"[") + data.count(b"{")
    if openings + data.count(b",") > MAX_VALUES or (openings > MAX_DEPTH and _depth(data) > MAX_DEPTH):
        bare = _without_texts(data)
        if bare.count(b"[") + bare.count(b"{") + bare.count(b",") > MAX_VALUES:
            raise _too_many()
        if _depth(bare) > MAX_DEPTH:
            raise msgspec.DecodeError(f"it is nested more than {MAX_DEPTH} levels deep")


def _without_texts(data: bytes) -> bytes:
    # Without escapes, every other piece between quotes is a text.
    plain = data.replace(rb"\\", b"").replace(rb"\"", b"")
    if plain.count(b'"') > 4 * MAX_VALUES:  # each value has at most a name and a text
        raise _too_many()
    return b"".join(plain.split(b'"')[::2])


def _depth(data: bytes) -> int:
    brackets = data.translate(None, _NO_BRACKETS)
    reached, deepest = 0, 0
    for start in range(0, len(brackets), _BLOCK):
        levels = list(accumulate(map(_STEP.__getitem__, brackets[start : start + _BLOCK]), initial=reached))
        reached = levels[-1]
        deepest = max(deepest, max(levels))  # noqa: PLW3301 - unpacking 65,536 arguments is slow
    return deepest


def _too_many() -> msgspec.DecodeError:
    return msgspec.DecodeError(f"it holds more than {MAX_VALUES} values")
