"""Learns from traffic where the two records of a request stand, and how each of their fields is compared."""

import json
import re
from collections import Counter
from collections.abc import Sequence

from bessemer.engine.rungs.comparison import number, written
from bessemer.engine.rungs.dates import date_of
from bessemer.engine.rungs.pairs import FieldSpec, FieldType
from bessemer.engine.rungs.records import (
    MAX_FIELDS,
    WHOLE,
    FlatForm,
    NestedForm,
    Record,
    RecordForm,
    TextForm,
    input_keys,
    pattern_of,
    plain,
    records_of,
)
from bessemer.engine.rungs.rung import MAX_TEXT, RungItem

_SAMPLE = 200
"""Requests that a text's fixed parts are learned from."""
_EXPLAINED = 0.95
"""Share of the requests that a form must read."""
_SHORTEST_PART = 3
"""Characters of a fixed part inside a text: shorter ones stand in titles by chance."""
_LONGEST_TEXT = 8000
_LEAST_VALUES = 50
"""Values of a field from which on its type is guessed; before, it is text."""
_KEY = re.compile(r"(?:^|[,;|\n{])\s*[\"']?([^\W\d_][\w ]{0,30}?)[\"']?\s*[:=]\s*\S")
_NAME = re.compile(r"(\w+)\W*$")
_SIDE = re.compile(r"[_.\- ]+|(?<=[^\W\d_])(?=\d+$)")


def learn_form(items: Sequence[RungItem]) -> RecordForm | None:
    """Return the form that reads two records out of at least 95 in 100 of the items; None when there is none."""
    sample = list(items[:: max(1, len(items) // _SAMPLE)])[:_SAMPLE]
    for form in (*_structured(sample), *_textual(sample)):
        read = sum(records_of(item, form) is not None for item in items)
        if read and read >= _EXPLAINED * len(items):
            return form
    return None


# -- structured input -------------------------------------------------------------------------------------------------


def _structured(items: Sequence[RungItem]) -> list[RecordForm]:
    found: list[RecordForm] = []
    inputs = [item.input for item in items if item.input]
    if len(inputs) < _EXPLAINED * len(items) or not inputs:
        return found
    often = [key for key, n in Counter(k for one in inputs for k in input_keys(one)).items() if n >= 0.5 * len(inputs)]
    nested = [key for key in often if sum(isinstance(one.get(key), dict) for one in inputs) >= 0.9 * len(inputs)]
    pairs = [
        (left, right)
        for place, left in enumerate(nested)
        for right in nested[place + 1 :]
        if {k for one in inputs for k in one.get(left) or {}} & {k for one in inputs for k in one.get(right) or {}}
    ]
    if len(pairs) == 1:
        found.append(NestedForm(left=pairs[0][0], right=pairs[0][1]))
    if (flat := _flat({key for one in inputs for key in input_keys(one)}, often)) is not None:
        found.append(flat)
    texts = [key for key in often if all(isinstance(one.get(key, ""), str) for one in inputs)]
    if len(often) == len(texts) == 2 and _alike_in_kind(texts):
        found.append(NestedForm(left=texts[0], right=texts[1]))
    return found


def _alike_in_kind(keys: Sequence[str]) -> bool:
    """Whether two keys name one thing twice: `a` and `b`, `left` and `right`, `text_1` and `text_2`."""
    return (
        all(len(key) == 1 for key in keys)
        or [*map(len, keys)] == [4, 5]
        or _SIDE.split(keys[0])[0] == _SIDE.split(keys[1])[0]
    )


def _flat(keys: set[str], often: Sequence[str]) -> FlatForm | None:
    """Return the fields that two ends or beginnings of the keys tell apart, as in NAME_left and NAME_right."""
    stems: dict[tuple[int, str], dict[str, str]] = {}
    for key in sorted(keys):
        parts = [part for part in _SIDE.split(key) if part]
        for at in (0, -1) if len(parts) > 1 else ():
            side = parts[at]
            stem = "_".join(parts[1:] if at == 0 else parts[:-1])
            stems.setdefault((at, side), {})[stem] = key
    best: list[tuple[str, str, str]] = []
    order = {key: place for place, key in enumerate(often)}
    for (at, one), left in stems.items():
        for (where, other), right in stems.items():
            if at != where or one == other:
                continue
            both = [(stem, left[stem], right[stem]) for stem in sorted(left.keys() & right.keys())]
            both = [field for field in both if field[1] in order or field[2] in order]
            first = sum(order.get(a, 0) < order.get(b, 0) for _, a, b in both) * 2 >= len(both)
            if first and len(both) > len(best):
                best = both
    return FlatForm(fields=tuple(best[:MAX_FIELDS])) if best else None


# -- texts ------------------------------------------------------------------------------------------------------------


def _textual(items: Sequence[RungItem]) -> list[RecordForm]:
    texts = sorted({item.text[:MAX_TEXT] for item in items if item.text})
    if len(texts) < 2 or max(map(len, texts)) > _LONGEST_TEXT:
        return []
    parts = _fixed(texts)
    slots = len(parts) - 1
    literals = tuple(parts)
    for count in range(min(slots // 2, MAX_FIELDS), 0, -1):
        for first in range(slots - 2 * count + 1):
            inner = [literals[first + 1 + at : first + at + count] for at in (0, count)]
            if [_bare(part) for part in inner[0]] == [_bare(part) for part in inner[1]]:
                return [
                    _with_keys(TextForm(literals=literals, first=first, names=_names(literals, first, count)), items)
                ]
    return []


def _bare(part: str) -> str:
    """Return a fixed part without what numbers the records, as in `title 1: `."""
    return re.sub(r"\b(?:\d+|[A-Za-z])\b", "", part)


def _names(literals: Sequence[str], first: int, count: int) -> tuple[str, ...]:
    """Name fields by the word before each, when these differ; else number them."""
    if count == 1:
        return (WHOLE,)
    found = [_NAME.search(literals[first + at]) for at in range(count)]
    names = [match.group(1).lower() if match else "" for match in found]
    if len(set(names)) == count and all(names):
        return tuple(names)
    return tuple(f"{WHOLE}{at + 1}" for at in range(count))


def _with_keys(form: TextForm, items: Sequence[RungItem]) -> TextForm:
    """Return the form with the keys of records that are texts of `key: value`."""
    if len(form.names) > 1:
        return form
    texts = [text for item in items if (pair := records_of(item, form)) for text in (pair[0][WHOLE], pair[1][WHOLE])]
    seen = Counter(key for text in texts for key in {key.strip() for key in _KEY.findall(text)})
    keys = sorted(key for key, n in seen.items() if n >= 0.3 * len(texts))
    if not keys:
        return form
    return TextForm(literals=form.literals, first=form.first, names=form.names, keys=tuple(keys[:MAX_FIELDS]))


def _fixed(texts: Sequence[str]) -> list[str]:
    """Return the fixed parts of texts: first the beginning, last the end that all share, either may be empty."""
    start = _shared_start(texts)
    bodies = [text[len(start) :] for text in texts]
    end = _shared_start([body[::-1] for body in bodies])[::-1]
    bodies = [body[: len(body) - len(end)] if end else body for body in bodies]
    return [start, *_inside(bodies), end]


def _shared_start(texts: Sequence[str]) -> str:
    low, high = min(texts), max(texts)
    at = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    shared = low[:at]
    return shared if len(shared) == len(low) else re.sub(r"\w+\Z", "", shared)


def _inside(bodies: Sequence[str]) -> list[str]:
    """Return the parts inside that all bodies have exactly once, in order: the longest first, then left and right."""
    part = _longest_shared(bodies)
    if part is None:
        return []
    cut = [body.split(part, 1) for body in bodies]
    return [*_inside([left for left, _ in cut]), part, *_inside([right for _, right in cut])]


def _longest_shared(bodies: Sequence[str]) -> str | None:
    """Return the longest text that every body holds exactly once, cut at words; None below three characters."""
    shortest = min(bodies, key=len)
    for size in range(min(len(shortest), 400), _SHORTEST_PART - 1, -1):
        for at in range(len(shortest) - size + 1):
            part = shortest[at : at + size]
            if not part.strip() or part.isalnum() or (part.strip().isalnum() and len(part.strip()) < 6):
                continue
            if all(body.count(part) == 1 for body in bodies):
                return part
    return None


# -- types of fields --------------------------------------------------------------------------------------------------


def types_of(pairs: Sequence[tuple[Record, Record]], names: Sequence[str]) -> tuple[FieldSpec, ...]:
    """Guess how each field is compared from the values of both sides."""
    return tuple(FieldSpec(name=name, type=_type([r.get(name, "") for pair in pairs for r in pair])) for name in names)


def _type(values: Sequence[str]) -> FieldType:
    given = [plain(value) for value in values if value.strip()][:4000]
    if len(given) < _LEAST_VALUES:
        return FieldType.TEXT
    share = 1.0 / len(given)
    dates = [found for value in given if (found := date_of(value)) is not None]
    if len(dates) * share >= 0.9 and sum(found.month is not None for found in dates) * share >= 0.5:
        return FieldType.DATE  # years alone are numbers
    if sum(_is_number(value) for value in given) * share >= 0.9:
        return FieldType.NUMBER
    if sum(len(re.findall(r"[,;|]", value)) >= 1 for value in given) * share >= 0.6 and _repeats(given):
        return FieldType.LIST
    coded = sum(bool(written(value).codes) and " " not in value for value in given) * share
    if coded >= 0.6 and len(set(given)) >= 0.5 * len(given):
        return FieldType.CODE
    return FieldType.TEXT


def _is_number(value: str) -> bool:
    return number(value) is not None and len(re.sub(r"[\d.,\s\-+]", "", value)) <= 4


def _repeats(values: Sequence[str]) -> bool:
    """Whether what stands between marks is short, as in lists, and not the clauses of a sentence."""
    items = [item for value in values[:500] for item in re.split(r"[,;|]", value)]
    return sum(len(item.split()) <= 4 for item in items) >= 0.9 * len(items)


def describe(form: RecordForm) -> str:
    """Return the form in a line, for a card."""
    if isinstance(form, TextForm):
        return pattern_of(form.literals).pattern[:200]
    return json.dumps([form.left, form.right] if isinstance(form, NestedForm) else [f[0] for f in form.fields])
