"""JSON with long texts is read and written piece by piece, to the same values and the same bytes."""

import random

import msgspec
import pytest

from bessemer.core import pieces
from bessemer.core.content import canonical_json
from bessemer.core.decoding import decode
from bessemer.core.errors import InvalidRequest
from bessemer.core.openai_chat import ChatRequest
from bessemer.core.types import JSON

UNITS = [
    "a", "word ", "é", "汉", "🙂", "\\n", '\\"', "\\\\", "\\/", "\\u00e9", "\\uD83D\\uDE42", "\\ud83d\\ude42", "{[,",
]  # fmt: skip
SIZES = [0, 1, 63, 64, 65, 4000]


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """Any."""

    a: str
    b: list[JSON] = []
    c: int = 0


def read(data: bytes) -> Body:
    body: Body = pieces.decode(data, Body, msgspec.json.Decoder(Body).decode)
    return body


@pytest.mark.parametrize("seed", range(60))
def test_what_is_read_in_pieces_is_what_is_read_whole(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pieces, so that every way of cutting a text comes up."""
    draw = random.Random(seed)
    monkeypatch.setattr(pieces, "PIECE", 64)
    texts = ["".join(draw.choices(UNITS, k=draw.choice(SIZES))) for _ in range(4)]
    inner = f'{{"x":"{texts[0]}","y":["{texts[1]}",1.5,null,"\\""]}}'
    data = f'{{"b":[{inner},{{}}],"c" : 7 ,"a":"{texts[2]}"}}'.encode()
    assert read(data) == msgspec.json.decode(data, type=Body)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("shift", range(12))
def test_a_text_of_one_spelling_may_begin_anywhere(unit: str, shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 64)
    data = ('{"a":"' + "x" * shift + unit * 200 + '"}').encode()
    assert read(data) == msgspec.json.decode(data, type=Body)


@pytest.mark.parametrize("unit", ["a", "é", "汉", "🙂", "\n", '"', "\\", "\u2028", "\x00", "\x7f"])
def test_what_is_written_in_pieces_is_what_is_written_whole(unit: str) -> None:
    value = {"b": [unit * 150_000, {"z": 1, "a": (unit * 70_000, None)}], "a": unit}
    assert canonical_json(value) == msgspec.json.Encoder(order="deterministic").encode(value)
    written = msgspec.json.encode(value)
    assert msgspec.json.encode(pieces.in_pieces(value)) == written
    assert pieces.text_of(written) == written.decode()
    body = Body(a=unit * 150_000)
    assert msgspec.json.encode(pieces.in_pieces(body)) == msgspec.json.encode(body)


def test_a_small_value_is_left_as_it_is() -> None:
    value = {"a": ["b", {"c": 1}], "d": "e" * 1000}
    assert pieces.in_pieces(value) is value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"model":"m","messages":[{"role":"user","content":"%s\\x"}]}' % ("a" * 300_000), "invalid escape"),
        ('{"model":"m","messages":[{"role":"user","content":"%s\\ud800"}]}' % ("a" * 300_000), "half of a character"),
        ('{"model":"m","messages":[{"role":"user","content":"%s"' % ("a" * 300_000), "truncated"),
        ('{"model":"m","messages":[{"role":"user","content":"%s\n"}]}' % ("a" * 300_000), "invalid character"),
        ('{"model":"m","messages":[],"%s":1}' % ("a" * 300_000), "name of a field"),
        ('{"model":"%s","messages":[]}' % ("a" * 300_000), "256"),
        ('{"model":"m","messages":"%s"}' % ("a" * 300_000), "array"),
    ],
)
def test_what_is_wrong_with_a_long_text_is_told(text: str, told: str) -> None:
    with pytest.raises(InvalidRequest, match=f"(?i){told}"):
        decode(ChatRequest, text.encode())


def test_bytes_that_are_no_utf8_are_told() -> None:
    data = b'{"model":"m","messages":[{"role":"user","content":"%s\xff"}]}' % (b"a" * 300_000)
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        decode(ChatRequest, data)
