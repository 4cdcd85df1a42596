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


def parse_rows(content: bytes, param: str, *, supervised: bool) -> tuple[Row, ...]:
    """Parse the file of a job's field `param`. Raises InvalidRequest that names the line; an empty file is refused."""
    rows = tuple(_parse_lines(content, param, supervised=supervised))
    if not rows:
        raise InvalidRequest(f"The {param} has no rows.", param=param, code="empty_file")
    return rows


def _parse_lines(content: bytes, param: str, *, supervised: bool) -> Iterator[Row]:
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = msgspec.json.decode(line, type=dict[str, object])
        except msgspec.DecodeError as error:
            raise InvalidRequest(f"Line {number} of the {param} is not a JSON object: {error}.", param=param) from error
        yield _parse_record(record, f"Line {number} of the {param}", param, supervised=supervised)


def _parse_record(record: dict[str, object], where: str, param: str, *, supervised: bool) -> Row:
    messages = record.pop("messages", None)
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise InvalidRequest(f"{where} needs `messages`, a list of chat messages.", param=param)
    weight = record.get("weight", 1.0)
    if not isinstance(weight, int | float) or weight < 0:
        raise InvalidRequest(f"{where}: `weight` must be a number of at least 0.", param=param)
    ends_in_answer = messages[-1].get("role") == "assistant"
    if supervised != ends_in_answer:
        wanted = "an assistant message (the demonstration)" if supervised else "a user message"
        raise InvalidRequest(f"{where} must end in {wanted}.", param=param)
    completion = messages[-1].get("content") if supervised else None
    if supervised and not isinstance(completion, str):
        raise InvalidRequest(f"{where}: the assistant message needs text content.", param=param)
    return Row(
        messages=tuple(messages[:-1] if supervised else messages),
        completion=completion,
        item=record,
        weight=float(weight),
    )
