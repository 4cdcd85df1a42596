"""Rows that belong together, and what would leak from one side of a split to the other."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from bessemer.core.content import sha256_hex
from bessemer.engine.rungs.ngrams import normalised
from bessemer.engine.rungs.records import Record, RecordForm, plain, records_of
from bessemer.engine.rungs.rung import RungItem, text_of
from bessemer.ladder.forms import learn_form
from bessemer.ladder.lessons import Lesson, settled

_ID_NAME = re.compile(r"(?:^|[_\W])(?:id|key|uuid|guid|cluster|group|label|target|gold)(?:$|[_\W])", re.IGNORECASE)
_ID_DISTINCT, _LEAKS = 0.99, 0.98


def grouped(lessons: Sequence[Lesson]) -> list[Lesson]:
    """Return the lessons with their groups: pairs by what their left record is connected to, texts by their spelling.

    Records are connected by matches: pairs whose label is the one that equal records get. A pair of records that
    differ goes with its left record; so no record and no twin of it is matched on both sides of a split.
    """
    form = learn_form([one.item for one in lessons])
    if form is None:
        return [one._replace(group=one.group or _spelling(one.item)) for one in lessons]
    pairs = [records_of(one.item, form) for one in lessons]
    labels = settled(lessons)
    same = _match_label(labels, pairs)
    parents: dict[str, str] = {}
    for label, pair in zip(labels, pairs, strict=True):
        if pair is not None and label is not None and label == same:
            a, b = (_root(parents, record_key(record)) for record in pair)
            parents[max(a, b)] = min(a, b)
    return [
        one._replace(group=one.group or (_spelling(one.item) if pair is None else _root(parents, record_key(pair[0]))))
        for one, pair in zip(lessons, pairs, strict=True)
    ]


def record_key(record: Record) -> str:
    """Return the hash of a record's values, whatever the order of its fields."""
    return sha256_hex("\0".join(f"{name}={plain(record[name])}" for name in sorted(record)).encode())[:16]


def _match_label(labels: Sequence[str | None], pairs: Sequence[tuple[Record, Record] | None]) -> str | None:
    """Return the label whose pairs share most words: that of records which mean the same."""
    shares: dict[str, list[float]] = defaultdict(list)
    for label, pair in zip(labels[:2000], pairs, strict=False):
        if pair is not None and label is not None:
            a, b = (set(plain(" ".join(record.values())).split()) for record in pair)
            shares[label].append(len(a & b) / max(1, len(a | b)))
    return max(sorted(shares), key=lambda label: float(np.mean(shares[label])), default=None)


def _root(parents: dict[str, str], key: str) -> str:
    while (above := parents.setdefault(key, key)) != key:
        parents[key] = parents.setdefault(above, above)
        key = above
    return key


def _spelling(item: RungItem) -> str:
    return sha256_hex(re.sub(r"\W+", " ", normalised(text_of(item))).strip().encode())[:16]


def leaks(lessons: Sequence[Lesson], held_out: Sequence[RungItem] = ()) -> list[str]:
    """Name what would make scores look better than they are: ids as fields, and rows or records on both sides.

    One sentence each: a field that names its record or tells the label by being equal; items of `held_out` that are
    training rows; pairs of `held_out` whose records both stand in training matches.
    """
    found: list[str] = []
    form = learn_form([one.item for one in lessons])
    if form is not None:
        found += [f"Field {name!r} {why}: leave it out." for name, why in id_fields(lessons, form).items()]
    known = {_spelling(one.item) for one in lessons}
    repeated = sum(_spelling(item) in known for item in held_out)
    if repeated:
        found.append(f"{repeated} held-out items are training rows: take them out of one side.")
    if form is not None and (twins := _twins(lessons, held_out, form)):
        found.append(f"{twins} held-out pairs are of records that a training match has: split by connected records.")
    return found


def id_fields(lessons: Sequence[Lesson], form: RecordForm) -> dict[str, str]:
    """Return the fields that name records instead of describing them, and how that shows."""
    pairs = [
        (pair, label)
        for one, label in zip(lessons, settled(lessons), strict=True)
        if label is not None and (pair := records_of(one.item, form))
    ]
    found: dict[str, str] = {}
    for name in sorted({name for (left, right), _ in pairs for name in left.keys() & right.keys()}):
        if not _ID_NAME.search(name):
            continue
        values = [record.get(name, "") for pair, _ in pairs for record in pair]
        if len(set(values)) >= _ID_DISTINCT * len(values) > 1:
            found[name] = "names each record"
        elif (auc := _equality_auc([(p[0].get(name) == p[1].get(name), label) for p, label in pairs])) > _LEAKS:
            found[name] = f"is equal just where the label says so (AUC {auc:.3f})"
        elif len(set(values)) > 0.5 * len({record_key(record) for pair, _ in pairs for record in pair}):
            found[name] = "has a value for nearly every record"
    return found


def _equality_auc(rows: Sequence[tuple[bool, str]]) -> float:
    """Return the area under the curve of `equal` as a score of one label against the others, the best label's."""
    counts = Counter(rows)
    best = 0.5
    for label in {label for _, label in rows}:
        positive = {equal: counts[equal, label] for equal in (True, False)}
        negative = {
            equal: sum(n for (e, other), n in counts.items() if e is equal and other != label)
            for equal in (True, False)
        }
        p, n = sum(positive.values()), sum(negative.values())
        if p and n:
            auc = (
                positive[True] * negative[False]
                + 0.5 * (positive[True] * negative[True] + positive[False] * negative[False])
            ) / (p * n)
            best = max(best, auc, 1 - auc)
    return best


def _twins(lessons: Sequence[Lesson], held_out: Sequence[RungItem], form: RecordForm) -> int:
    pairs = [records_of(one.item, form) for one in lessons]
    labels = settled(lessons)
    same = _match_label(labels, pairs)
    matched = {
        record_key(record)
        for label, pair in zip(labels, pairs, strict=True)
        if pair is not None and label == same
        for record in pair
    }
    held = [pair for item in held_out if (pair := records_of(item, form)) is not None]
    return sum(all(record_key(record) in matched for record in pair) for pair in held)
