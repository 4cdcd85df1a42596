"""Bounds on what clients send. On the shape of JSON before it is decoded: depth, because decoders and encoders recurse,
and values, because each costs many times its bytes, and decoding them holds up every other thread. On names and tags.
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final

import msgspec

from bessemer.core.errors import InvalidRequest

MAX_DEPTH: Final = 128
"""Levels of lists and objects within each other."""
MAX_VALUES: Final = 100_000
"""Lists, objects and commas; decoding this many takes some 10 ms."""
MAX_NAME: Final = 512
"""Characters of a name that somebody else gave: a model, a user, an author."""
MAX_TAGS: Final = 64
"""Pairs; OpenAI's metadata has at most 16."""
MAX_TAG_CHARACTERS: Final = 64_000
"""Of all pairs together: they are kept with each record, looked through and shown."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_BLOCK: Final = 1 << 16
"""Bytes that are looked at in one go: between blocks other threads have their turn."""


def check_name(name: str | None, param: str) -> None:
    """Raise InvalidRequest for a name that is too long."""
    if name is not None and len(name) > MAX_NAME:
        raise InvalidRequest(f"{param} has {len(name)} characters; send at most {MAX_NAME}.", param=param)


def check_tags(tags: Mapping[str, str], param: str) -> None:
    """Raise InvalidRequest for tags that are too many or too long."""
    if len(tags) > MAX_TAGS or sum(map(len, (*tags, *tags.values()))) > MAX_TAG_CHARACTERS:
        raise InvalidRequest(
            f"{param} may hold {MAX_TAGS} pairs, of {MAX_TAG_CHARACTERS} characters in all; send less.", param=param
        )


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
