"""Training rows: OpenAI's chat JSON Lines, read by one parser for uploads, data sets and training.

What is accepted is used and what is not used is refused, by row and field, before anything is kept: a file that passes
never fails in a worker for its shape. What a row may be is a `RowKind`: a demonstration ends in an assistant message,
and each of its assistant messages is one unless its `weight` is 0, as OpenAI documents; a question ends in a user
message, and its other fields are the `item` that graders read. A tuning method may bring a kind of its own. A row's own
`weight` (0 or more, default 1) is Bessemer's addition: how much it counts.
"""

import io
import math
import time
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple, Protocol

import msgspec

from bessemer.core.bounds import check_shape
from bessemer.core.errors import InvalidRequest
from bessemer.core.types import JSON, Frozen

ROLES = ("system", "developer", "user", "assistant")
_SHOWN_FAULTS = 10
"""Different faults named in one error."""
_SHOWN_ROWS = 5
"""Rows named for each of them."""
_ROWS_A_TURN, _REST_S = 128, 0.001
"""A thread that reads rows rests so often: without, others wait for the interpreter at each of their many turns (a chat
waited 600 ms beside 300,000 rows; 4 ms with it)."""
_BOM = b"\xef\xbb\xbf"
_TOOLS = "tools are not offered for training: take out rows with tool calls"
_CHAT = '{"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}]}'
_FOREIGN = (
    (("prompt", "completion"), f"`prompt` and `completion` instead of `messages`: write {_CHAT}"),
    (
        ("preferred_output", "non_preferred_output"),
        "a preference row, and the method dpo is not offered: for supervised training write the preferred answer as "
        "the last of `messages`, after those of `input`",
    ),
    (
        ("chosen", "rejected"),
        f"preferences, and the method dpo is not offered: for supervised training write the chosen answer: {_CHAT}",
    ),
    (("conversations",), f"`conversations` instead of `messages`: write {_CHAT}"),
    (("instruction", "output"), f"`instruction` and `output` instead of `messages`: write {_CHAT}"),
    (("contents",), f"`contents` instead of `messages`: write {_CHAT}"),
    (("text",), f"`text` instead of `messages`: write {_CHAT}"),
)
"""Other formats, by the fields that tell them."""


MAX_ROW = 16 << 20
"""Bytes of one row: decoding it holds up every other thread."""


class TrainingRow(Frozen, frozen=True):
    """One training row. Messages hold role and text alone: that is what reaches the model."""

    messages: tuple[JSON, ...]
    """What comes before the answer; of a question, all of it."""
    completion: str | None
    """The last demonstration; None of a question."""
    item: JSON
    """The row's other fields."""
    weight: float = 1.0
    taught: tuple[int, ...] = ()
    """Places in `messages` of earlier assistant turns that are demonstrations, too."""
    number: int = 0
    """Line of the file, from 1."""

    @property
    def answers(self) -> tuple[str, ...]:
        """The answers that are read after the messages; of a kind with several, all of them."""
        return () if self.completion is None else (self.completion,)


class Fault(Exception):
    """What is wrong with one row."""


class RowKind(Protocol):
    """A kind of training row; one file holds one kind."""

    name: str
    seen: str
    """What shows that a row is of this kind, as in `the last message is from 'user'`."""
    told: str
    """What rows of this kind are, as in `reinforcement rows end in a user message`."""

    def owns(self, record: JSON) -> bool:
        """Whether a row is of this kind, if it is of any: a look at its fields, of any type."""
        ...

    def read(self, record: JSON, number: int) -> TrainingRow:
        """Return the row. Raises Fault that names the field and the remedy."""
        ...


class _Demonstration:
    name = "demonstration"
    seen = "the last message is from 'assistant'"
    told = "supervised rows end in an assistant message, the demonstration"

    def owns(self, record: JSON) -> bool:
        return _last_role(record) == "assistant"

    def read(self, record: JSON, number: int) -> TrainingRow:
        """Return a row whose demonstrations are its assistant messages; what follows the last of them is left out."""
        chat = read_chat(record)
        turns = [index for index, message in enumerate(chat.messages) if message["role"] == "assistant"]
        taught = [index for index in turns if chat.given[index].get("weight") != 0]
        if not taught:
            raise Fault("nothing to learn: every assistant message has `weight` 0")
        if taught[0] == 0:
            raise Fault("messages[0] is the assistant's: an answer needs a system or user message before it")
        *earlier, last = taught
        return TrainingRow(
            messages=chat.messages[:last],
            completion=chat.messages[last]["content"],
            item=chat.item,
            weight=chat.weight,
            taught=tuple(earlier),
            number=number,
        )


class _Question:
    name = "question"
    seen = "the last message is from 'user'"
    told = "reinforcement rows end in a user message"

    def owns(self, record: JSON) -> bool:
        return _last_role(record) == "user"

    def read(self, record: JSON, number: int) -> TrainingRow:
        chat = read_chat(record)
        marked = (index for index, message in enumerate(chat.given) if message.get("weight") is not None)
        if (index := next(marked, None)) is not None:
            raise Fault(f"messages[{index}].weight is for rows that end in an assistant message: leave it out")
        return TrainingRow(messages=chat.messages, completion=None, item=chat.item, weight=chat.weight, number=number)


DEMONSTRATION: RowKind = _Demonstration()
QUESTION: RowKind = _Question()
_KINDS: list[RowKind] = [
    DEMONSTRATION,
    QUESTION,
]
"""The kinds of rows that files may hold."""


def register_kind(kind: RowKind) -> None:
    """Let files hold another kind of rows, which none of the others owns; once is enough."""
    if kind not in _KINDS:
        _KINDS.append(kind)


def check_row(record: JSON, kind: RowKind) -> None:
    """Raise InvalidRequest when a row, as JSON, is none that `read_rows` would yield."""
    try:
        _read(dict(record), 0, kind)
    except Fault as fault:
        raise InvalidRequest(f"{fault}.", param="messages") from None


def parse_rows(content: bytes, param: str, kind: RowKind) -> tuple[TrainingRow, ...]:
    """Return all rows of the file that is a job's `param`. Raises InvalidRequest as `read_rows` does."""
    return tuple(read_rows(io.BytesIO(content), param, kind))


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of an open file, of one that is too long for a row its beginning: it is never in memory whole."""
    while line := file.readline(MAX_ROW + 1):
        yield line


def read_rows(lines: Iterable[bytes], param: str, kind: RowKind | None = None) -> Iterator[TrainingRow]:
    """Yield the rows of JSON Lines as they are read; `lines_of` gives those of an open file.

    `kind`: what the rows must be; None: any kind, but all of them the same. After the last line, raises InvalidRequest
    on `param` that names each fault once, with how many rows have it and the first of them; also for a file without
    rows, of another format, or in which every row has weight 0.
    """
    faults: dict[str, list[int]] = {}
    count, total_weight = 0, 0.0
    for number, raw in enumerate(lines, start=1):
        if number % _ROWS_A_TURN == 0:
            time.sleep(_REST_S)
        line = raw.removeprefix(_BOM)
        if not line.strip():
            continue
        if len(raw) > MAX_ROW:
            raise InvalidRequest(
                f"Invalid file: row {number}: it has more than {MAX_ROW} bytes; shorten it.",
                param=param,
                code="invalid_file",
            )
        count += 1
        if count == 1 and (format_ := _other_format(raw)) is not None:
            raise InvalidRequest(f"Invalid file: {format_}.", param=param, code="invalid_file")
        try:
            kind, row = _read(_record(line), number, kind)
        except Fault as fault:
            faults.setdefault(str(fault), []).append(number)
        else:
            total_weight += row.weight
            yield row
    if faults:
        raise InvalidRequest(f"Invalid file: {_told(faults)}.", param=param, code="invalid_file")
    if count == 0:
        raise InvalidRequest("The file has no rows; send JSON Lines.", param=param, code="invalid_file")
    if not total_weight:
        raise InvalidRequest(
            "The file has nothing to learn from: every row has `weight` 0.", param=param, code="invalid_file"
        )


def _read(record: JSON, number: int, wanted: RowKind | None) -> tuple[RowKind, TrainingRow]:
    """Return a row and its kind. Raises Fault, also when the kind is not the one that is wanted."""
    kind = next((kind for kind in _KINDS if kind.owns(record)), None)
    if kind is None:
        last = read_chat(record).messages[-1]
        raise Fault(
            f"the last message is from {last['role']!r}; rows end in an assistant message, the demonstration "
            "(supervised), or in a user message, the question (reinforcement)"
        )
    row = kind.read(record, number)
    if wanted is not None and kind is not wanted:
        raise Fault(f"{kind.seen}; {wanted.told}, and a file holds one kind of row")
    return kind, row


def _last_role(record: JSON) -> object:
    messages = record.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    return last.get("role") if isinstance(last, dict) else None


def _told(faults: dict[str, list[int]]) -> str:
    """Return the faults in one sentence, each with its first rows."""
    told = []
    for fault, numbers in list(faults.items())[:_SHOWN_FAULTS]:
        shown = ", ".join(map(str, numbers[:_SHOWN_ROWS]))
        more = f" and {len(numbers) - _SHOWN_ROWS} more" if len(numbers) > _SHOWN_ROWS else ""
        told.append(f"row{'s' if len(numbers) > 1 else ''} {shown}{more}: {fault}")
    others = sum(len(numbers) for numbers in list(faults.values())[_SHOWN_FAULTS:])
    return "; ".join(told) + (f"; and {others} more rows with other faults" if others else "")


def _other_format(line: bytes) -> str | None:
    """Return what a file is that is not JSON Lines in UTF-8, and the remedy, by its first line with text; else None."""
    text = line.removeprefix(_BOM).strip()
    signatures = (
        (b"\x1f\x8b", "it is compressed with gzip: unpack it first"),
        (b"PK\x03\x04", "it is a ZIP archive or an Excel workbook: export JSON Lines, one JSON object on each line"),
        (b"PAR1", "it is a Parquet file: export JSON Lines, one JSON object on each line"),
        (b"\xff\xfe", "it is UTF-16: save it as UTF-8"),
        (b"\xfe\xff", "it is UTF-16: save it as UTF-8"),
    )
    for start, told in signatures:
        if line.startswith(start):
            return told
    if b"\0" in text:
        return "it has NUL bytes, as UTF-16 and binary files do: save it as text in UTF-8"
    if text.startswith(b"["):
        return (
            "it is one JSON array, not JSON Lines: write each row as one JSON object on a line of its own "
            "(jq -c '.[]' rows.json > rows.jsonl)"
        )
    if text.startswith(b"{") and text.endswith((b"{", b"[", b",")):
        return (
            "its first row goes on after the end of the line: write each row on one line "
            "(jq -c . rows.json > rows.jsonl)"
        )
    if not text.startswith((b"{", b'"')) and any(mark in text for mark in (b",", b";", b"\t")):
        return f"it looks like CSV, not JSON Lines: write each record as one line of JSON, {_CHAT}"
    return None


def _record(line: bytes) -> JSON:
    if b"\r" in line.rstrip(b"\r\n"):
        raise Fault("a carriage return inside the row: end each row with a line feed")
    try:
        check_shape(line)
        record = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Fault(f"not valid JSON ({error})") from None
    if not isinstance(record, dict):
        raise Fault("not a JSON object")
    return record


class Chat(NamedTuple):
    """The parts that rows of all kinds have."""

    given: list[JSON]
    """The messages as they stand in the row."""
    messages: tuple[JSON, ...]
    """Role and text of each."""
    weight: float
    item: JSON
    """The row's other fields."""


def read_chat(record: JSON, field: str = "messages") -> Chat:
    """Take the messages and the weight out of a row. Raises Fault that names the field."""
    given = record.pop(field, None)
    if not isinstance(given, list) or not given:
        raise Fault(_foreign(record))
    _refuse_tools(record)
    weight = _row_weight(record)
    return Chat(given, tuple(read_message(message, f"{field}[{i}]") for i, message in enumerate(given)), weight, record)


def _foreign(record: JSON) -> str:
    for fields, told in _FOREIGN:
        if all(field in record for field in fields):
            return told
    return "`messages` is missing or not a non-empty list"


def _refuse_tools(record: JSON) -> None:
    """Take OpenAI's tool fields out of a row where they say nothing; refuse them elsewhere."""
    for field in ("tools", "functions"):
        if record.pop(field, None):
            raise Fault(f"`{field}`: {_TOOLS}")
    record.pop("parallel_tool_calls", None)  # means nothing without tools


def _row_weight(record: JSON) -> float:
    weight = record.get("weight")
    if weight is None:
        return 1.0
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not (weight >= 0 and math.isfinite(weight)):
        raise Fault("`weight` of the row must be a number of at least 0")
    return float(weight)


def read_message(message: Any, where: str) -> JSON:
    """Return role and text of a message. Raises Fault that names it as `where`."""
    if not isinstance(message, dict):
        raise Fault(f"{where} is not a JSON object with `role` and `content`")
    role = message.get("role")
    if role in ("tool", "function"):
        raise Fault(f"{where} has the role {role!r}: {_TOOLS}")
    if role not in ROLES:
        raise Fault(f"{where} needs a `role` out of {', '.join(ROLES)}")
    for field, value in message.items():
        # An answer that was kept as a client got it has keys without a value: `"refusal": null`.
        if field in ("role", "content", "name", "weight") or value in (None, [], {}):
            continue
        told = _TOOLS if field in ("tool_calls", "function_call", "tool_call_id") else "it is not used: leave it out"
        raise Fault(f"{where}.{field[:64]}: {told}")
    if not isinstance(message.get("name"), str | None):
        raise Fault(f"{where}.name must be text")
    _check_weight(message.get("weight"), role, where)
    return {"role": role, "content": _text(message.get("content"), f"{where}.content")}


def _check_weight(weight: Any, role: str, where: str) -> None:
    if weight is None:
        return
    if role != "assistant":
        raise Fault(f"{where}.weight is for assistant messages alone: leave it out")
    if isinstance(weight, bool) or weight not in (0, 1):
        raise Fault(f"{where}.weight must be 0 (not trained on) or 1")


def _text(content: Any, where: str) -> str:
    """Return the text of a message: plain, or of parts joined."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise Fault(f"{where} must be text, or a list of text parts")
    for index, part in enumerate(content):
        if not isinstance(part, dict):
            raise Fault(
                f'{where}[{index}] is no part: write {{"type": "text", "text": …}}, or the whole content as text'
            )
        if part.get("type") != "text":
            raise Fault(f"{where}[{index}] is of type {str(part.get('type'))[:64]!r}: only text can be trained on")
        if not isinstance(part.get("text"), str):
            raise Fault(f"{where}[{index}] needs a `text`")
    return "".join(part["text"] for part in content)
