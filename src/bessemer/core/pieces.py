"""JSON with long texts, read and written piece by piece: a codec's call holds the interpreter, and with it everybody
else, for as long as its longest text takes. Between pieces other threads have their turn.
"""

import codecs
import operator
import secrets
from collections.abc import Callable, Collection
from typing import Any, Final

import msgspec

from bessemer.core.errors import InvalidRequest

PIECE: Final = 1 << 16
"""Bytes or characters that are handled in one go: about a millisecond."""
_MARK: Final = secrets.token_hex(16)
"""Begins the text that stands for one which is set aside; nobody else can write it."""
_encode = msgspec.json.Encoder().encode
_decode_text = msgspec.json.Decoder(str).decode


def is_large(*values: Any) -> bool:
    """Return whether JSON values hold more than 64 Ki characters and values together; counts no further."""
    size = -len(values)
    left: list[Collection[Any]] = [values]
    while left:
        items = left.pop()
        size += len(items)
        if size > PIECE:
            return True
        for item in items:
            if isinstance(item, str):
                size += len(item)
            elif isinstance(item, dict):
                left.append(item.values())
            elif isinstance(item, list | tuple):
                left.append(item)
    return size > PIECE


# -- writing ----------------------------------------------------------------------------------------------------------


def in_pieces(value: Any) -> Any:
    """Return a value that any of msgspec's JSON encoders writes as it would write this one, its long texts already
    written. Itself where there are none."""
    if isinstance(value, str):
        return value if len(value) <= PIECE else _written(value)
    if isinstance(value, dict):
        written = {key: new for key, item in value.items() if (new := in_pieces(item)) is not item}
        return value | written if written else value
    if isinstance(value, list | tuple):
        items = [in_pieces(item) for item in value]
        return value if all(map(operator.is_, items, value)) else items
    if isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        changed = {name: new for name, old in fields.items() if (new := in_pieces(old)) is not old}
        return msgspec.structs.replace(value, **changed) if changed else value
    return value


def _written(text: str) -> msgspec.Raw:
    pieces = [_encode(text[start : start + PIECE])[1:-1] for start in range(0, len(text), PIECE)]
    return msgspec.Raw(b'"%b"' % b"".join(pieces))


def text_of(data: bytes) -> str:
    """Return UTF-8 as text. Raises UnicodeDecodeError."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    pieces = [decoder.decode(data[start : start + PIECE]) for start in range(0, len(data), PIECE)]
    return "".join(pieces) + decoder.decode(b"", final=True)


# -- reading ----------------------------------------------------------------------------------------------------------


def decode(data: bytes, kind: Any, whole: Callable[[bytes], Any]) -> Any:
    """Return JSON as `kind`, which `whole` decodes in one go where no text is long.

    Raises msgspec.DecodeError, ValidationError and UnicodeDecodeError as `whole` does, InvalidRequest for the name of a
    field that is a long text.
    """
    texts = _long_texts(data)
    if not texts:
        return whole(data)
    rest, end = [], 0
    for index, (start, stop) in enumerate(texts):
        rest += [data[end:start], f'"{_MARK}{index}"'.encode()]
        end = stop
    value = msgspec.json.decode(b"".join([*rest, data[end:]]))
    return msgspec.convert(_put_back(value, data, texts), kind)


def _long_texts(data: bytes) -> list[tuple[int, int]]:
    """Return where the texts stand, quotes included, that fill at least one block."""
    found: list[tuple[int, int]] = []
    opened: int | None = None
    long, start = False, 0
    while start < len(data):
        stop = min(start + PIECE, len(data))
        block = data[start:stop]
        if (len(block) - len(block.rstrip(b"\\"))) % 2 and stop < len(data):  # an escape ends with its next byte
            stop += 1
            block = data[start:stop]
        bare = block.replace(rb"\\", b"  ").replace(rb"\"", b"  ")  # as long: what is a quote now opens or closes
        quotes = bare.count(b'"')
        if not quotes:
            long = long or opened is not None
        else:
            if opened is not None and long:
                found.append((opened, start + bare.find(b'"') + 1))
            within = (opened is not None) ^ bool(quotes % 2)
            opened, long = start + bare.rfind(b'"') if within else None, False
        start = stop
    return found


def _put_back(value: Any, data: bytes, texts: list[tuple[int, int]]) -> Any:
    if isinstance(value, str):
        return _read(data, *texts[int(value[len(_MARK) :])]) if value.startswith(_MARK) else value
    if isinstance(value, list):
        return [_put_back(item, data, texts) for item in value]
    if isinstance(value, dict):
        if long := next((key for key in value if key.startswith(_MARK)), None):
            start, _ = texts[int(long[len(_MARK) :])]
            name = data[start + 1 : start + PIECE].decode(errors="replace")
            raise InvalidRequest(f"The name of a field has more than {PIECE} bytes.", param=name)
        return {key: _put_back(item, data, texts) for key, item in value.items()}
    return value


def _read(data: bytes, start: int, stop: int) -> str:
    """Return the text of a literal whose quotes stand at `start` and before `stop`."""
    pieces, at, end = [], start + 1, stop - 1
    while at < end:
        cut = end if end - at <= PIECE else at + _cut(data[at : at + PIECE + 1])
        try:
            pieces.append(_decode_text(b'"%b"' % data[at:cut]))
        except msgspec.DecodeError as error:
            raise msgspec.DecodeError(str(error).partition(" (byte")[0]) from None
        at = cut
    return "".join(pieces)


def _cut(block: bytes) -> int:
    """Return where a piece may end, before the last byte of the block at most: between characters, as they are
    spelled. The block begins between characters, too."""
    cut = len(block) - 1
    bare = block[:cut].replace(rb"\\", b"  ")
    escape = bare.rfind(b"\\", cut - 6)
    if escape < 0:
        while cut > 1 and 0x80 <= block[cut] < 0xC0:  # inside a character of UTF-8
            cut -= 1
        return cut
    half = bare[escape - 6 : escape]  # where the escape is the second half of a character, this is its first
    pair = half[:2] == b"\\u" and half[2:3] in b"dD" and half[3:4] in b"89abAB"
    return escape - 6 if pair else escape
