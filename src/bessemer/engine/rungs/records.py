"""Two records out of a request: by the keys of its structured input, or by the text that all requests share.

What a form is was learned from traffic (`bessemer.ladder.forms`). A request of another form has no records.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated

import msgspec

from bessemer.core.types import JSON, Frozen
from bessemer.engine.rungs.rung import MAX_TEXT, RungItem

MAX_FIELDS = 64
_MOST_CHARACTERS = 2000
"""Of a field, that are compared."""
Text = Annotated[str, msgspec.Meta(max_length=4096)]
Texts = Annotated[tuple[Text, ...], msgspec.Meta(max_length=2 * MAX_FIELDS + 2)]
Record = dict[str, str]
WHOLE = "text"
"""Name of the only field of a record that is a text."""


class NestedForm(Frozen, frozen=True, tag="nested"):
    """`{"left": {...}, "right": {...}}`: two keys of the input hold a record each, or its only text."""

    left: Text
    right: Text


class FlatForm(Frozen, frozen=True, tag="flat"):
    """`{"title_left": ..., "title_right": ...}`: two keys of the input for each field."""

    fields: Annotated[tuple[tuple[Text, Text, Text], ...], msgspec.Meta(max_length=MAX_FIELDS)]
    """Name, key on the left, key on the right."""


class TextForm(Frozen, frozen=True, tag="text"):
    """A text of fixed parts with the records' fields between them."""

    literals: Annotated[Texts, msgspec.Meta(min_length=2)]
    """The fixed parts: one before each slot, one after the last; the first and last may be empty."""
    first: Annotated[int, msgspec.Meta(ge=0, le=MAX_FIELDS)]
    """The slot that the left record begins with."""
    names: Annotated[Texts, msgspec.Meta(min_length=1)]
    """The fields of either record, in the order of the slots: those of the left one, then those of the right one."""
    keys: Texts = ()
    """When the records are texts of `key: value`: their keys."""


RecordForm = NestedForm | FlatForm | TextForm


def plain(text: str) -> str:
    """Return the spelling that records are compared in: NFKC, lower case, single spaces."""
    cut = text[:_MOST_CHARACTERS]
    return " ".join((cut if cut.isascii() else unicodedata.normalize("NFKC", cut)).lower().split())


def value_text(value: object) -> str:
    """Return a field as text: missing is empty, a whole float loses its `.0`, a list its brackets."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | tuple):
        return ", ".join(value_text(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {value_text(value[key])}" for key in sorted(value, key=str))
    return str(value)


def records_of(item: RungItem, form: RecordForm) -> tuple[Record, Record] | None:
    """Return the two records of an item; None when it has another form."""
    if isinstance(form, TextForm):
        return _from_text(item.text[:MAX_TEXT], form)
    if item.input is None:
        return None
    if isinstance(form, FlatForm):
        if not any(left in item.input and right in item.input for _, left, right in form.fields):
            return None
        return (
            {name: value_text(item.input.get(left)) for name, left, _ in form.fields},
            {name: value_text(item.input.get(right)) for name, _, right in form.fields},
        )
    left, right = item.input.get(form.left), item.input.get(form.right)
    if left is None or right is None:
        return None
    return _record(left), _record(right)


def _record(value: object) -> Record:
    if isinstance(value, dict):
        return {str(key): value_text(one) for key, one in value.items()}
    return {WHOLE: value_text(value)}


@lru_cache(maxsize=64)
def pattern_of(literals: Sequence[str]) -> re.Pattern[str]:
    """Return what finds the slots between fixed parts: each slot ends where the next part begins for the first time."""
    return re.compile("(.*?)".join(re.escape(literal) for literal in literals), re.DOTALL)


def _from_text(text: str, form: TextForm) -> tuple[Record, Record] | None:
    found = pattern_of(form.literals).fullmatch(text)
    if found is None:
        return None
    slots = [slot.strip() for slot in found.groups()][form.first :]
    count = len(form.names)
    if len(slots) < 2 * count:
        return None
    left, right = slots[:count], slots[count : 2 * count]
    if form.keys and count == 1:
        return _keyed(left[0], form.keys), _keyed(right[0], form.keys)
    return dict(zip(form.names, left, strict=True)), dict(zip(form.names, right, strict=True))


def _keyed(text: str, keys: Sequence[str]) -> Record:
    """Return the values behind keys, as in `title: x, price: 3`; what stands before the first key is a field, too."""
    found = list(key_pattern(tuple(keys)).finditer(text))
    record: Record = {}
    if not found or (head := text[: found[0].start()].strip()):
        record[WHOLE] = text if not found else head
    ends = [*(following.start() for following in found[1:]), len(text)]
    for here, end in zip(found, ends, strict=False):
        value = text[here.end() : end].strip(" ,;|\n\t")
        record[here.group(1).strip("\"'").lower()] = value.strip("\"'")
    return record


@lru_cache(maxsize=64)
def key_pattern(keys: tuple[str, ...]) -> re.Pattern[str]:
    """Return what finds `key:` at the beginning or behind a mark."""
    names = "|".join(re.escape(key) for key in sorted(keys, key=len, reverse=True))
    return re.compile(rf"(?:^|(?<=[,;|\n{{]))\s*([\"']?(?:{names})[\"']?)\s*[:=]\s*", re.IGNORECASE)


def fields_of(pairs: Sequence[tuple[Record, Record]]) -> tuple[str, ...]:
    """Return the fields that records on both sides have, sorted."""
    left = {name for one, _ in pairs for name in one}
    right = {name for _, one in pairs for name in one}
    return tuple(sorted(left & right))[:MAX_FIELDS]


def input_keys(value: JSON | None) -> list[str]:
    """Return the keys of a structured input as texts."""
    return [] if value is None else [str(key) for key in value]
