"""Text is released in whole characters and never as a part of a stop text."""

from hypothesis import given
from hypothesis import strategies as st
from tests.engine.tiny_model import prompt_of, tiny_engine

from bessemer.engine.request import GenerateRequest
from bessemer.engine.text import TextStream

ALPHABET = "abé漢"


def pieces(text: str, sizes: list[int]) -> list[bytes]:
    data, parts, at = text.encode(), [], 0
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    return [*parts, data[at:]]


@given(
    st.text(ALPHABET, max_size=30),
    st.lists(st.text(ALPHABET, min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 4), max_size=20),
)
def test_released_text_is_the_text_before_the_first_stop(text: str, stops: list[str], sizes: list[int]) -> None:
    stream = TextStream(stops)
    released = ""
    for piece in pieces(text, sizes):
        released += stream.push(piece)
        assert not any(stop in released for stop in stops)
    released += stream.finish()
    assert released == stream.text
    if not any(stop in text for stop in stops):
        assert (released, stream.stopped) == (text, False)
    else:
        assert stream.stopped
        assert text.startswith(released)
        rest = text[len(released) :]
        assert any(rest.startswith(stop) for stop in stops)


@given(st.text(ALPHABET, max_size=30), st.lists(st.text(ALPHABET, min_size=1, max_size=4), min_size=1, max_size=3))
def test_a_stop_text_is_never_begun(text: str, stops: list[str]) -> None:
    """What is out at any time can not turn out to be the beginning of a stop text that follows."""
    stream = TextStream(stops)
    out = ""
    for char in text:
        out += stream.push(char.encode())
        if stream.stopped:
            break
    first = min((at for at in (text.find(stop) for stop in stops) if at >= 0), default=None)
    if first is None:
        assert text.startswith(out)
    else:
        # The earliest stop to be completed ends the text; nothing of it was released.
        completed = min(text.find(stop) + len(stop) for stop in stops if stop in text)
        assert any(text[:completed].endswith(stop) and out == text[: completed - len(stop)] for stop in stops)


def test_an_unfinished_character_is_replaced_at_the_end() -> None:
    stream = TextStream(())
    assert stream.push("é".encode()[:1]) == ""
    assert stream.finish() == "�"


def test_the_engine_stops_at_a_text_that_spans_tokens() -> None:
    engine = tiny_engine()
    request = GenerateRequest(prompt=prompt_of("Say something."), max_tokens=60, seed=4, temperature=0.7)
    free = engine.generate_many([request])[0]
    stop = next(free.text[i : i + 2] for i in range(5, 40) if "�" not in free.text[i : i + 2])
    generation = engine.generate_many(
        [GenerateRequest(prompt=request.prompt, max_tokens=60, seed=4, temperature=0.7, stop=(stop,))]
    )[0]
    assert generation.finish_reason == "stop"
    assert generation.text == free.text[: free.text.index(stop)]
    assert generation.tokens == free.tokens[: len(generation.tokens)]
