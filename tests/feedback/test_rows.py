"""Training files as people have them: what is accepted is used, what is not used is refused by row and field."""

import gzip
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.errors import InvalidRequest
from bessemer.feedback.rows import DEMONSTRATION, QUESTION, RowKind, TrainingRow, read_rows

U: dict[str, Any] = {"role": "user", "content": "Is it so?"}
A: dict[str, Any] = {"role": "assistant", "content": "yes"}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
GOOD = {"messages": [U, A]}


def lines(*rows: Any, end: str = "\n") -> bytes:
    return (end.join(json.dumps(row) for row in rows) + end).encode()


def read(content: bytes, kind: RowKind | None = None) -> list[TrainingRow]:
    return list(read_rows(io.BytesIO(content), "file", kind))


def refusal(content: bytes, kind: RowKind | None = None) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read(content, kind)
    assert caught.value.error_code == "invalid_file"
    return caught.value.message


@pytest.mark.parametrize(
    "content",
    [
        lines(GOOD),
        lines(GOOD, GOOD, end="\r\n"),
        lines(GOOD) + b"\n\n  \n" + lines(GOOD) + b"\n\n",
        lines(GOOD).rstrip(),
        b"\xef\xbb\xbf" + lines(GOOD),
        (b"\xef\xbb\xbf" + lines(GOOD)) * 2,
        lines({"messages": [{**U, "name": None, "tool_calls": []}, {**A, "refusal": None, "weight": None}]}),
        lines({**GOOD, "tools": None, "functions": [], "parallel_tool_calls": True, "weight": None}),
        lines(
            {"messages": [{**U, "content": [{"type": "text", "text": "Is "}, {"type": "text", "text": "it so?"}]}, A]}
        ),
        lines({"messages": [U, {**A, "content": [{"type": "text", "text": "yes"}]}]}),
    ],
)
def test_spellings_of_one_row_are_the_same_row(content: bytes) -> None:
    for row in read(content):
        assert row.messages == ({"role": "user", "content": "Is it so?"},)
        assert (row.completion, row.weight, row.taught) == ("yes", 1.0, ())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (lines(GOOD).decode().encode("utf-16"), "UTF-16"),
        (gzip.compress(lines(GOOD), mtime=0), "gzip"),
        (b"PK\x03\x04rest", "ZIP"),
        (json.dumps([GOOD, GOOD]).encode(), "JSON array"),
        (json.dumps([GOOD, GOOD], indent=1).encode(), "JSON array"),
        (json.dumps(GOOD, indent=1).encode(), "on one line"),
        (b"prompt,completion\nhello,hi\n", "CSV"),
        (lines(GOOD, GOOD, end="\r"), "carriage return"),
        (lines({"prompt": "a", "completion": "b"}), "`prompt` and `completion` instead of `messages`"),
        (lines({"input": {"messages": [U]}, "preferred_output": [A], "non_preferred_output": [A]}), "dpo"),
        (lines({"prompt": "a", "chosen": "b", "rejected": "c"}), "dpo"),
        (lines({"conversations": [{"from": "human", "value": "a"}]}), "`conversations`"),
        (lines({"instruction": "a", "input": "", "output": "b"}), "`instruction`"),
        (b"", "no rows"),
        (b"\n \n", "no rows"),
    ],
)
def test_files_of_another_format_are_named_with_the_remedy(content: bytes, told: str) -> None:
    message = refusal(content)
    assert told in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"messages": [U, {"role": "assistant", "content": None, "tool_calls": [CALL]}]}, "messages[1].tool_calls"),
        ({"messages": [U, {"role": "assistant", "tool_calls": [CALL]}, A]}, "messages[1].tool_calls"),
        (
            {"messages": [U, {"role": "tool", "tool_call_id": "c1", "content": "1"}, A]},
            "messages[1] has the role 'tool'",
        ),
        ({"messages": [U, {**A, "function_call": CALL["function"]}]}, "messages[1].function_call"),
        ({**GOOD, "tools": [{"type": "function"}]}, "`tools`"),
        ({**GOOD, "functions": [{"name": "f"}]}, "`functions`"),
        ({"messages": [{**U, "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, A]}, "'image_url'"),
        ({"messages": [{**U, "content": [{"type": "input_audio"}]}, A]}, "messages[0].content[0] is of type"),
        ({"messages": [{**U, "content": ["a", "b"]}, A]}, "messages[0].content[0] is no part"),
        ({"messages": [{**U, "content": [{"type": "text"}]}, A]}, "messages[0].content[0] needs a `text`"),
        ({"messages": [{**U, "content": []}, A]}, "messages[0].content must be text"),
        ({"messages": [U, {**A, "content": None}]}, "messages[1].content must be text"),
        ({"messages": [{**U, "foo": 1}, A]}, "messages[0].foo"),
        ({"messages": [U, {**A, "refusal": "No."}]}, "messages[1].refusal"),
        ({"messages": [U, {**A, "reasoning_content": "Hm."}]}, "messages[1].reasoning_content"),
        ({"messages": [U, {**A, "weight": "x"}]}, "messages[1].weight must be 0"),
        ({"messages": [U, {**A, "weight": 0.5}]}, "messages[1].weight must be 0"),
        ({"messages": [U, {**A, "weight": True}]}, "messages[1].weight must be 0"),
        ({"messages": [{**U, "weight": 0}, A]}, "messages[0].weight is for assistant messages"),
        ({"messages": [U, {**A, "weight": 1}, U]}, "messages[1].weight is for rows that end in an assistant"),
        ({"messages": [U, {**A, "weight": 0}]}, "nothing to learn"),
        ({"messages": [A]}, "messages[0] is the assistant's"),
        ({"messages": [A, U, A]}, "messages[0] is the assistant's"),
        ({**GOOD, "weight": -1}, "`weight` of the row"),
        ({**GOOD, "weight": "1"}, "`weight` of the row"),
        ({**GOOD, "weight": True}, "`weight` of the row"),
        ({"messages": ["hello"]}, "messages[0] is not a JSON object"),
        ({"messages": {"role": "user"}}, "`messages` is missing"),
        ([1], "not a JSON object"),
    ],
)
def test_what_is_not_used_is_refused_by_row_and_field(row: Any, told: str) -> None:
    message = refusal(lines(GOOD, row, GOOD))
    assert message.startswith("Invalid file: row 2: ")
    assert told in message


@pytest.mark.parametrize("text", ['"weight":1e400', '"weight":NaN', '"x":' + "[" * 100_000, '"x":"\\ud83d"'])
def test_what_json_does_not_hold_is_a_fault_of_its_row(text: str) -> None:
    row = f'{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","content":"b"}}],{text}}}\n'
    assert "row 2: " in refusal(lines(GOOD) + row.encode())


def test_every_assistant_turn_is_taught_unless_its_weight_is_zero() -> None:
    turns = [U, {**A, "content": "one"}, U, {**A, "content": "two", "weight": 0}, U, {**A, "content": "three"}]
    (row,) = read(lines({"messages": turns}))
    assert (row.completion, row.taught, len(row.messages)) == ("three", (1,), 5)
    assert all(set(message) == {"role", "content"} for message in row.messages)
    (masked,) = read(lines({"messages": [*turns, U, {**A, "content": "WRONG", "weight": 0}]}))
    assert masked == row, "what follows the last demonstration teaches nothing"


def test_a_file_that_has_nothing_to_learn_from_is_refused() -> None:
    assert "nothing to learn" in refusal(lines({**GOOD, "weight": 0}, {**GOOD, "weight": 0.0}))
    assert [row.weight for row in read(lines({**GOOD, "weight": 0}, {**GOOD, "weight": 2.5}))] == [0.0, 2.5]


def test_one_file_holds_one_kind_of_row() -> None:
    question = {"messages": [U], "reference_answer": "yes"}
    (row,) = read(lines(question))
    assert row.completion is None
    assert row.item == {"reference_answer": "yes"}
    assert "row 2: the last message is from 'user'" in refusal(lines(GOOD, question))
    assert "row 2: the last message is from 'assistant'" in refusal(lines(question, GOOD))
    assert "row 1: the last message is from 'user'" in refusal(lines(question), DEMONSTRATION)
    assert "row 1: the last message is from 'assistant'" in refusal(lines(GOOD), QUESTION)


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize("kind", [None, DEMONSTRATION, QUESTION])
def test_a_row_that_ends_in_instructions_is_no_row_of_any_kind(role: str, kind: RowKind | None) -> None:
    told = refusal(lines(GOOD, {"messages": [U, {"role": role, "content": "Be brief."}], "x": 1}), kind)
    assert f"the last message is from {role!r}; rows end in an assistant message" in told
    assert "row 2" in told


def test_a_fault_of_many_rows_is_told_once() -> None:
    message = refusal(lines(*[GOOD, {"prompt": "a", "completion": "b"}] * 50, {**GOOD, "tools": [1]}))
    assert "rows 2, 4, 6, 8, 10 and 45 more: " in message
    assert message.count("instead of `messages`") == 1
    assert "row 101: `tools`" in message


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(["role", "content", "name", "weight", "tool_calls", "type", "text", "x"])
MESSAGE = st.dictionaries(FIELDS, JSON_VALUES | st.sampled_from(["user", "assistant", "text", 0, 1]), max_size=4)


@given(
    st.lists(MESSAGE | st.sampled_from([U, A]), max_size=4),
    JSON_VALUES,
    st.sampled_from([None, DEMONSTRATION, QUESTION]),
)
def test_whatever_a_row_holds_it_is_read_or_refused(messages: Any, other: Any, kind: RowKind | None) -> None:
    try:
        rows = read(lines({"messages": messages, "weight": other, "x": other}), kind)
    except InvalidRequest as error:
        assert error.param == "file"
    else:
        for row in rows:
            assert all(isinstance(message["content"], str) for message in row.messages)


@given(st.binary(max_size=64))
def test_whatever_bytes_a_file_holds_they_are_refused_by_name(content: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read(content)
