"""Demonstrations read anew: values that stand in the prompt are replaced by other rows' values of the same field.

A thousand titles are read two or three times; the second time their brands and flavours are known by heart. With
another row's value in the same place, in the prompt and in the answer alike, the place must be read again (mention
replacement, Dai and Adel 2020, arXiv 2010.11683). Measured: docs/decisions/012-mention-replacement.md.
"""

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from bessemer.core.errors import InvalidRequest
from bessemer.core.types import JSON
from bessemer.feedback.rows import TrainingRow

_SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda text: json.dumps(text, ensure_ascii=False),
    json.dumps,
)
"""How a JSON answer may spell a text."""


def stands_in(value: str, text: str) -> bool:
    """Say whether a value is a span of a text's words."""
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) is not None


class Mentions:
    """The values that rows may lend each other."""

    def __init__(self, rows: Sequence[TrainingRow], share: float, group: str | None, seed: int) -> None:
        """Collect the values. `share`: of the values that are replaced; `group`: input field that lenders must share.

        Raises InvalidRequest when no row's input has that field. Rows whose answers name nothing of the prompt stay.
        """
        self._rows, self._share, self._seed = rows, share, seed
        self._mentioned = [_mentioned(row) for row in rows]
        self._groups = [_group(row, group) for row in rows]
        if group is not None and all(name is None for name in self._groups):
            raise InvalidRequest(
                f"bessemer.mention_group is {group!r}, but no training row's `input` has that field.", param="metadata"
            )
        self._lent: dict[tuple[str | None, str], list[str]] = {}
        for name, mentioned in zip(self._groups, self._mentioned, strict=True):
            for field, value in mentioned.items():
                self._lent.setdefault((name, field), []).append(value)

    def drawn(self, index: int, step: int) -> TrainingRow:
        """Return a row as it is read in this step; the same row when nothing was replaced."""
        chance = random.Random(f"{self._seed}:{step}:{index}")  # noqa: S311 not for secrets
        row, name = self._rows[index], self._groups[index]
        for field, value in self._mentioned[index].items():
            if chance.random() < self._share:
                row = _replaced(row, value, chance.choice(self._lent[name, field]))
        return row


def _group(row: TrainingRow, field: str | None) -> str | None:
    """Return what a row's input has in the field, as JSON; None where it has none."""
    given = row.item.get("input")
    if field is None or not isinstance(given, Mapping) or field not in given:
        return None
    return json.dumps(given[field], sort_keys=True)


def _mentioned(row: TrainingRow) -> dict[str, str]:
    """Return the texts of a JSON answer that stand once in the last message, as words, apart from each other."""
    try:
        answer = msgspec.json.decode(row.completion or "", type=dict[str, object])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return {}
    prompt = _content(row)
    texts = {name: value for name, value in answer.items() if isinstance(value, str) and value}
    return {
        name: value
        for name, value in texts.items()
        if prompt.count(value) == 1
        and stands_in(value, prompt)
        and not any(value in other or other in value for key, other in texts.items() if key != name)
    }


def _replaced(row: TrainingRow, value: str, other: str) -> TrainingRow:
    """Return the row with another value in prompt and answer, or as it is where the two would not agree any more."""
    prompt, completion = _content(row), row.completion or ""
    spelled = next((spell for spell in _SPELLINGS if completion.count(spell(value)) == 1), None)
    if other == value or spelled is None or prompt.count(value) != 1:
        return row
    message: JSON = {**row.messages[-1], "content": prompt.replace(value, other)}
    return msgspec.structs.replace(
        row,
        messages=(*row.messages[:-1], message),
        completion=completion.replace(spelled(value), spelled(other)),
    )


def _content(row: TrainingRow) -> str:
    content = row.messages[-1].get("content") if row.messages else None
    return content if isinstance(content, str) else ""
