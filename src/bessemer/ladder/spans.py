"""Fits the tagger of spans from demonstrations: JSON objects whose values are texts of the input."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from bessemer.core.content import content_hash
from bessemer.core.errors import InvalidRequest
from bessemer.engine.rungs.artefact import Artefact, make, pack_strings
from bessemer.engine.rungs.records import value_text
from bessemer.engine.rungs.rung import Floats, RungItem
from bessemer.engine.rungs.spans import (
    BEGIN,
    INSIDE,
    KIND,
    NONE_TAG,
    FieldValue,
    Spans,
    SpansParameters,
    Token,
    features_of,
    tokens_of,
)
from bessemer.evals.verdict_losses import LossAndGradient
from bessemer.ladder.lessons import Ints, Lesson, Targets, counted, folds_of
from bessemer.ladder.softmax import fit_softmax

_C = 1.0
_TRANSITIONS = 0.3
"""Weight of how often tags follow each other beside the words: these say most of it already."""
_LEAST_FEATURE = 2
_FREE = 0.2
"""Share of a field's values that are no spans, from which on it is handed over."""
_ABSENT = ("n/a", "none", "null", "unknown", "")
_MOST_CATEGORIES = 200
_LEAST = 20
_BARRED = -1e9
Fields = dict[str, str]


class SpanFit(NamedTuple):
    """A fitted tagger."""

    artefact: Artefact
    confidence: Floats
    """Of each value that was found in lessons left out: P(it is right), calibrated on these same values."""
    right: Floats
    seconds: float


class _Taught(NamedTuple):
    """A lesson as words and tags."""

    item: RungItem
    text: str
    category: str
    tokens: list[Token]
    tags: list[str]
    fields: Fields


def suits_spans(lessons: Sequence[Lesson]) -> str | None:
    """Return why answers are no objects of spans; None when they are."""
    rows = _demonstrated(lessons)
    if len(rows) < _LEAST:
        return "fewer than 20 answers are JSON objects of texts"
    form = _form(rows)
    share = _found_share(rows, form)
    return None if share >= 1 - _FREE else f"{1 - share:.0%} of the values are no parts of the input"


def fit_spans(lessons: Sequence[Lesson], *, seed: int = 0, threads: int = 1) -> SpanFit:
    """Fit the tagger. Raises InvalidRequest saying why nothing can be learned.

    A quarter of the lessons, by group, is left out once to calibrate the confidence of a value.
    """
    began = time.perf_counter()
    reason = suits_spans(lessons)
    if reason is not None:
        raise InvalidRequest(f"Nothing to extract: {reason}.", param="dataset")
    ordered = sorted(counted(lessons), key=lambda one: (content_hash([one.item.text, one.item.input]), one.answer))
    rows = _demonstrated(ordered)
    form = _form(rows)
    taught = _taught(rows, form)
    parameters = _with_fields(form, taught)
    folds = folds_of([one for one in ordered if _object(one) is not None], 4, seed)
    with threadpool_limits(threads):
        odds, right = _left_out(taught, folds, parameters)
        if 0 < right.sum() < len(right):
            parameters = _calibrated(parameters, odds, right)
        artefact = _fitted(taught, parameters, {"n": len(rows), "seed": seed})
    confidence = 1 / (1 + np.exp(-(parameters.slope * odds + parameters.offset)))
    return SpanFit(artefact, confidence, right, time.perf_counter() - began)


# -- reading ----------------------------------------------------------------------------------------------------------


def _object(lesson: Lesson) -> Fields | None:
    """Return the fields of an answer that is right; None for one that is none."""
    if lesson.right <= 0.5:
        return None
    try:
        found = json.loads(lesson.answer)
    except ValueError:
        return None
    if not isinstance(found, dict) or not found:
        return None
    return {str(name): value_text(value) for name, value in found.items()}


def _demonstrated(lessons: Sequence[Lesson]) -> list[tuple[RungItem, Fields]]:
    return [(one.item, fields) for one in lessons if one.weight > 0 and (fields := _object(one)) is not None]


def _values(fields: Mapping[str, str]) -> list[str]:
    return [value for value in fields.values() if value.strip().lower() not in _ABSENT]


def _form(rows: Sequence[tuple[RungItem, Fields]]) -> SpansParameters:
    """Learn where the text stands that values are spans of, what names the category, how absence is said."""
    keys = Counter(key for item, _ in rows for key, value in (item.input or {}).items() if isinstance(value, str))
    often = sorted(key for key, n in keys.items() if n >= 0.9 * len(rows))
    hits = {
        key: sum(value in value_text((item.input or {}).get(key)) for item, fields in rows for value in _values(fields))
        for key in often
    }
    said = Counter(value for _, fields in rows for value in fields.values() if value.strip().lower() in _ABSENT)
    absent = said.most_common(1)[0][0] if said else None
    if not hits:
        texts = sorted({item.text for item, _ in rows})
        before, after = (_shared([text[::step] for text in texts])[::step] for step in (1, -1))
        return SpansParameters(source=None, before=before, after=after, absent=absent)
    source = max(sorted(hits), key=lambda key: hits[key])
    distinct = {key: len({(item.input or {}).get(key) for item, _ in rows}) for key in often if key != source}
    few = [key for key, n in distinct.items() if 1 < n <= min(_MOST_CATEGORIES, len(rows) // 5)]
    category = max(sorted(few), key=lambda key: distinct[key], default=None)
    return SpansParameters(source=source, category=category, absent=absent)


def _shared(texts: Sequence[str]) -> str:
    low, high = min(texts), max(texts)
    at = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:at].rstrip("".join(char for char in set(low[:at]) if char.isalnum()))


def _read(item: RungItem, form: SpansParameters) -> tuple[str, str]:
    if form.source is None:
        return item.text[len(form.before) : len(item.text) - len(form.after)], ""
    given = item.input or {}
    return value_text(given.get(form.source)), value_text(given.get(form.category)) if form.category else ""


def _found_share(rows: Sequence[tuple[RungItem, Fields]], form: SpansParameters) -> float:
    values = [(value, _read(item, form)[0]) for item, fields in rows for value in _values(fields)]
    return sum(value in text for value, text in values) / max(1, len(values))


def _taught(rows: Sequence[tuple[RungItem, Fields]], form: SpansParameters) -> list[_Taught]:
    found = []
    for item, fields in rows:
        text, category = _read(item, form)
        tokens = tokens_of(text)
        found.append(_Taught(item, text, category, tokens, _tags(text, tokens, fields), fields))
    return found


def _tags(text: str, tokens: Sequence[Token], fields: Fields) -> list[str]:
    """Return the tag of each token: the first place of a value whose ends are those of tokens, and that is free."""
    tags = [NONE_TAG] * len(tokens)
    for name, value in sorted(fields.items(), key=lambda one: -len(one[1])):
        at = text.find(value) if value.strip().lower() not in _ABSENT else -1
        while at >= 0:
            inside = [i for i, token in enumerate(tokens) if token.begin < at + len(value) and token.end > at]
            whole = inside and tokens[inside[0]].begin >= at and tokens[inside[-1]].end <= at + len(value)
            if whole and all(tags[i] == NONE_TAG for i in inside):
                for i in inside:
                    tags[i] = (BEGIN if i == inside[0] else INSIDE) + name
                break
            at = text.find(value, at + 1)
    return tags


def _with_fields(form: SpansParameters, taught: Sequence[_Taught]) -> SpansParameters:
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    total, spanned = Counter[str](), Counter[str]()
    for one in taught:
        for name, value in one.fields.items():
            if value.strip().lower() not in _ABSENT:
                seen[one.category][name] += 1
                total[name] += 1
                spanned[name] += value in one.text
    every = Counter[str]()
    for names in seen.values():
        every.update(names)
    fields = {category: tuple(sorted(names)) for category, names in sorted(seen.items())}
    fields.setdefault("", tuple(sorted(every)))
    free = tuple(sorted(name for name, n in total.items() if spanned[name] < (1 - _FREE) * n))
    return msgspec.structs.replace(form, fields=fields, free=free)


# -- fitting ----------------------------------------------------------------------------------------------------------


def _fitted(taught: Sequence[_Taught], parameters: SpansParameters, lineage: dict[str, Any]) -> Artefact:
    tags = [NONE_TAG, *sorted({tag for one in taught for tag in one.tags} - {NONE_TAG})]
    places = {tag: place for place, tag in enumerate(tags)}
    features = [features_of(one.tokens, one.category) for one in taught]
    often = Counter(name for one in features for token in one for name in set(token))
    columns = {name: place for place, name in enumerate(sorted(n for n, c in often.items() if c >= _LEAST_FEATURE))}
    flat = [[columns[name] for name in token if name in columns] for one in features for token in one]
    ends = np.cumsum([0, *map(len, flat)])
    values = np.ones(int(ends[-1]))
    x = csr_matrix(
        (values, np.array([place for row in flat for place in row], np.int64), ends), shape=(len(flat), len(columns))
    )
    y = np.array([places[tag] for one in taught for tag in one.tags], dtype=np.int64)
    even = np.ones(len(y))
    weights, intercept = fit_softmax(
        x, Targets(y, even, even), len(tags), c=_C, loss=lambda logits: _cross_entropy(logits, y)
    )
    start, follows = _transitions(taught, places)
    return make(
        KIND,
        tags,
        parameters,
        pack_strings("features", list(columns))
        | {"weights": weights.astype(np.float32), "intercept": intercept, "start": start, "follows": follows},
        lineage=lineage,
    )


def _cross_entropy(logits: Floats, y: Ints) -> LossAndGradient:
    rows = np.arange(len(y))
    top = logits.max(axis=1, keepdims=True)
    p = np.exp(logits - top)
    total = p.sum(axis=1, keepdims=True)
    value = float(np.mean(np.log(total[:, 0]) + top[:, 0] - logits[rows, y]))
    p /= total
    p[rows, y] -= 1
    return LossAndGradient(value, p / len(y))


def _transitions(taught: Sequence[_Taught], places: Mapping[str, int]) -> tuple[Floats, Floats]:
    """Return how much likelier each tag is at the start, and behind each other, than anywhere; barred: -1e9."""
    k = len(places)
    start, follows, every = np.full(k, 0.1), np.full((k, k), 0.1), np.ones(k)
    for one in taught:
        at = [places[tag] for tag in one.tags]
        start[at[:1]] += 1
        np.add.at(every, at, 1)
        np.add.at(follows, (at[:-1], at[1:]), 1)
    usual = np.log(every / every.sum())
    begin = _TRANSITIONS * (np.log(start / start.sum()) - usual)
    step = _TRANSITIONS * (np.log(follows / follows.sum(axis=1, keepdims=True)) - usual)
    for tag, place in places.items():
        if tag.startswith(INSIDE):
            begin[place] = _BARRED
            allowed = [places[name] for name in (tag, BEGIN + tag[2:]) if name in places]
            barred = np.ones(k, np.bool_)
            barred[allowed] = False
            step[barred, place] = _BARRED
    return begin, step


def _left_out(taught: Sequence[_Taught], folds: Ints, parameters: SpansParameters) -> tuple[Floats, Floats]:
    """Return the log-odds of the values that a fit on three quarters finds in the last, and which are right."""
    train = [taught[place] for place in np.flatnonzero(folds != 0).tolist()]
    test = [taught[place] for place in np.flatnonzero(folds == 0).tolist()]
    if len(train) < _LEAST or not test:
        return np.zeros(0), np.zeros(0)
    rung = Spans(_fitted(train, parameters, {}))
    odds, right = [], []
    for one, found in zip(test, rung.extract([one.item for one in test]), strict=True):
        for name, value in found.values.items():
            if name in one.fields:
                odds.append(_odds(value))
                right.append(float(value.text == one.fields[name]))
    return np.array(odds), np.array(right)


def _odds(value: FieldValue) -> float:
    p = float(np.clip(value.confidence, 1e-9, 1 - 1e-9))
    return float(np.log(p) - np.log1p(-p))


def _calibrated(parameters: SpansParameters, odds: Floats, right: Floats) -> SpansParameters:
    model = LogisticRegression(C=100.0).fit(odds[:, None], right > 0.5)
    return msgspec.structs.replace(
        parameters, slope=max(float(model.coef_[0, 0]), 0.0), offset=float(model.intercept_[0])
    )
