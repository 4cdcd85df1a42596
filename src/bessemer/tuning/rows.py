"""Training rows: OpenAI's chat JSON Lines, parsed once into frozen values.

A supervised row ends in an assistant message, the demonstration. A reinforcement row ends in a user message; every
other field is the `item` that graders read.
"""

from collections.abc import Iterator

import msgspec

from bessemer.core.errors import InvalidRequest
from bessemer.core.types import JSON, Frozen


class Row(Frozen, frozen=True):
    """One training row: the prompt's messages, the demonstration if it has one, and what graders read."""

    messages: tuple[JSON, ...]
    completion: str | None
    item: JSON
    weight: float = 1.0


def parse_rows(content: bytes, *, supervised: bool) -> tuple[Row, ...]:
    """Parse a training file. Raises InvalidRequest that names the line and the remedy; an empty file is refused."""
    rows = tuple(_parse_lines(content, supervised=supervised))
    if not rows:
        raise InvalidRequest("The training file has no rows.", param="training_file", code="empty_file")
    return rows


def _parse_lines(content: bytes, *, supervised: bool) -> Iterator[Row]:
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = msgspec.json.decode(line, type=dict[str, object])
        except msgspec.DecodeError as error:
            raise InvalidRequest(f"Line {number} is not a JSON object: {error}.", param="training_file") from error
        yield _parse_record(record, number, supervised=supervised)


def _parse_record(record: dict[str, object], number: int, *, supervised: bool) -> Row:
    messages = record.pop("messages", None)
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise InvalidRequest(f"Line {number} needs `messages`, a list of chat messages.", param="training_file")
    weight = record.get("weight", 1.0)
    if not isinstance(weight, int | float) or weight < 0:
        raise InvalidRequest(f"Line {number}: `weight` must be a number of at least 0.", param="training_file")
    ends_in_answer = messages[-1].get("role") == "assistant"
    if supervised != ends_in_answer:
        wanted = "an assistant message (the demonstration)" if supervised else "a user message"
        raise InvalidRequest(f"Line {number} must end in {wanted}.", param="training_file")
    completion = messages[-1].get("content") if supervised else None
    if supervised and not isinstance(completion, str):
        raise InvalidRequest(f"Line {number}: the assistant message needs text content.", param="training_file")
    return Row(
        messages=tuple(messages[:-1] if supervised else messages),
        completion=completion,
        item=record,
        weight=float(weight),
    )
