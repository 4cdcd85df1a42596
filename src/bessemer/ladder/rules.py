"""Learns short rules: grown greedily on two thirds of the lessons, stated by the third that they were not chosen by."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import beta

from bessemer.core.errors import InvalidRequest
from bessemer.core.ladders import RECORD
from bessemer.engine.rungs.records import RecordForm, fields_of, records_of
from bessemer.engine.rungs.rules import (
    KIND,
    MAX_RULES,
    RulesParameters,
    StatedRule,
    conditions_of,
    first,
)
from bessemer.engine.rungs.rung import Floats, nothing
from bessemer.ladder.forms import learn_form
from bessemer.ladder.groups import id_fields
from bessemer.ladder.lessons import Ints, folds_of
from bessemer.ladder.task import Fitted, Task, scaling

_LEAST = 3
"""Lessons that a rule must hold for, where it grows and where it is stated."""
_MOST_CONDITIONS = 20_000
_RULES, _RULES_A_LABEL = 20, 2
"""Most rules, and most for each label: more are not read."""
_SURE = 0.95
"""Of the bound that a card shows."""
_RATHER = 0.5
"""Share that a learned rule must exceed: one that is rather wrong is not worth reading."""
_Z = 1.64
"""One-sided 95 % point of the normal distribution, of Wilson's bound (1927), which rules grow by."""
_PRIOR = 2.0
"""Lessons that the labels' shares count as, in a rule's own shares."""
_PAIRED = re.compile(r"(.+) (?:equal|differs|missing|alike 0\.[86]|unlike 0\.5)")
"""Conditions on a field that are tried two at a time."""


class _Read(NamedTuple):
    """The lessons as conditions."""

    form: RecordForm | None
    fields: tuple[str, ...]
    held: list[frozenset[str]]
    unread: Ints
    names: list[frozenset[str]]
    """What rules may ask."""
    holds: csr_matrix
    """[n, names]: where each holds."""


class _Grown(NamedTuple):
    """Rules without numbers: when each holds, the place of its answer, and how many at the beginning are written."""

    when: list[frozenset[str]]
    answers: list[int]
    written: int


def fit_rules(task: Task) -> Fitted:
    """Fit the rules on all lessons, and out of fold on each part. Written rules stand first, as they are.

    Raises InvalidRequest for one whose answer is no label.
    """
    read = _read(task)
    n, k = len(task.lessons), len(task.labels)
    out_of_fold = np.full((n, k), np.nan)
    for train, test in task.parts():
        grown, shares, _ = _stated(task, read, train)
        out_of_fold[test] = shares[[first(grown.when, read.held[place]) for place in test]]
    out_of_fold[read.unread] = np.nan
    grown, shares, rules = _stated(task, read, np.arange(n))
    scale = scaling(out_of_fold, task)
    return Fitted(
        kind=KIND,
        parameters=RulesParameters(rules=tuple(rules), form=read.form, fields=read.fields),
        arrays={"shares": scale.probabilities(shares)},
        out_of_fold=scale.probabilities(out_of_fold),
        known_share=nothing(n),
        distance=nothing(n),
        told={"rules": len(rules), "written": grown.written},
    )


def _read(task: Task) -> _Read:
    items = [one.item for one in task.lessons]
    form = learn_form(items)
    fields: tuple[str, ...] = ()
    if form is not None:
        dropped = id_fields(task.lessons, form)
        pairs = [pair for item in items if (pair := records_of(item, form)) is not None]
        fields = tuple(name for name in fields_of(pairs) if name not in dropped)
    held = [conditions_of(item, form, fields) for item in items]
    unread = np.array([place for place, one in enumerate(held) if one is None], np.int64)
    read = [one or frozenset() for one in held]
    return _Read(form, fields, read, unread, *_candidates(read, () if form is None else (*fields, RECORD)))


def _stated(task: Task, read: _Read, rows: Ints) -> tuple[_Grown, Floats, list[StatedRule]]:
    """Return rules of these lessons, the labels' shares for each and where none holds [rules + 1, k], and them told."""
    rows = rows[task.truth[rows] >= 0]
    thirds = folds_of([task.lessons[row] for row in rows], 3, task.seed + 3)
    grow, state = rows[thirds != 0], rows[thirds == 0]
    grown = _grow(task, read, grow)
    told = _counts(task, read, grown.when, state)
    own = _counts(task, read, grown.when[: grown.written], rows)[
        : grown.written
    ]  # chosen by nobody: all rows state them
    told[: grown.written] = own
    prior = np.bincount(task.truth[rows], task.targets.weights[rows], len(task.labels)) + 1.0
    prior /= prior.sum()
    keep = [
        place
        for place, answer in enumerate(grown.answers)
        if place < grown.written
        or (told[place].sum() >= _LEAST and told[place, answer] > max(_RATHER, prior[answer]) * told[place].sum())
    ]
    kept = _Grown([grown.when[place] for place in keep], [grown.answers[place] for place in keep], grown.written)
    rest = _counts(task, read, kept.when, rows)[-1]
    counts = np.vstack([told[keep], rest])
    shares = counts + _PRIOR * prior
    shares /= shares.sum(axis=1, keepdims=True)
    rules = [
        StatedRule(
            when=tuple(sorted(when)),
            answer=task.labels[answer],
            held=round(float(count.sum()), 3),
            right=round(float(count[answer]), 3),
            at_least=_bound(float(count[answer]), float(count.sum())),
        )
        for when, answer, count in zip(kept.when, kept.answers, counts, strict=False)
    ]
    return kept, shares, rules


def _bound(right: float, held: float) -> float:
    """Return the exact lower bound on a share (Clopper and Pearson 1934)."""
    return float(beta.ppf(1 - _SURE, right, held - right + 1)) if right > 0 else 0.0


def _counts(task: Task, read: _Read, when: Sequence[frozenset[str]], rows: Ints) -> Floats:
    """Return how often each label is right where each rule is the first to hold, and where none is: [rules + 1, k]."""
    counts = np.zeros((len(when) + 1, len(task.labels)))
    for row in rows:
        counts[first(when, read.held[row]), task.truth[row]] += task.targets.weights[row]
    return counts


def _written(task: Task) -> _Grown:
    for rule in task.written:
        if rule.answer not in task.labels:
            raise InvalidRequest(f"A written rule answers {rule.answer!r}, which is none of the labels.", param="rules")
    answers = [task.labels.index(rule.answer) for rule in task.written]
    return _Grown([frozenset(rule.when) for rule in task.written], answers, len(answers))


def _grow(task: Task, read: _Read, rows: Ints) -> _Grown:
    """Add the rule that gains most until none does: what its bound has above a guess, by the root of its lessons."""
    found = _written(task)
    left = np.array([first(found.when, read.held[row]) == found.written for row in rows], np.bool_)
    names, holds = read.names, read.holds[rows]
    k = len(task.labels)
    right = np.zeros((len(rows), k))
    right[np.arange(len(rows)), task.truth[rows]] = task.targets.weights[rows]
    if not names or not len(rows):
        return found
    counts = holds[left].T @ right[left]
    most = min(MAX_RULES - found.written, max(_RULES, _RULES_A_LABEL * k))
    for _ in range(most):
        total, best = counts.sum(axis=1), counts.argmax(axis=1)
        base = right[left].sum(axis=0)
        guess = base / max(base.sum(), 1e-9)
        bound = np.where(total >= _LEAST, _wilson(counts[np.arange(len(names)), best], total), 0.0)
        gain = (bound - np.maximum(guess[best], _RATHER)) * np.sqrt(np.maximum(total, 0.0))
        place = int(gain.argmax())
        if gain[place] <= 0:
            break
        found.when.append(names[place])
        found.answers.append(int(best[place]))
        covered = left & (np.asarray(holds[:, place].todense()).ravel() > 0)
        counts -= holds[covered].T @ right[covered]
        left &= ~covered
    return found


def _wilson(right: Floats, total: Floats) -> Floats:
    n = np.maximum(total, 1e-9)
    share = np.clip(right / n, 0, 1)
    middle = share + _Z**2 / (2 * n)
    bound: Floats = (middle - _Z * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n))) / (1 + _Z**2 / n)
    return bound


def _candidates(held: Sequence[frozenset[str]], fields: Sequence[str]) -> tuple[list[frozenset[str]], csr_matrix]:
    """Return what rules may ask, single conditions and those on two fields, and where each holds [n, candidates]."""
    rows = [[*map(frozenset, ([one] for one in conditions)), *_twos(conditions, fields)] for conditions in held]
    often = Counter(when for row in rows for when in row)
    common = sorted((-n, len(when), sorted(when)) for when, n in often.items() if n >= _LEAST)[:_MOST_CONDITIONS]
    names = [frozenset(when) for _, _, when in common]
    columns = {when: place for place, when in enumerate(names)}
    places = [sorted(columns[when] for when in row if when in columns) for row in rows]
    flat = np.array([column for row in places for column in row], np.int64)
    ends = np.cumsum([0, *map(len, places)])
    return names, csr_matrix((np.ones(len(flat)), flat, ends), shape=(len(held), len(names)))


def _twos(conditions: frozenset[str], fields: Sequence[str]) -> list[frozenset[str]]:
    """Return two conditions on different fields of two records."""
    if not fields:
        return []
    found = [(match[1], one) for one in sorted(conditions) if (match := _PAIRED.fullmatch(one)) and match[1] in fields]
    return [frozenset((one, other)) for (name, one), (field, other) in combinations(found, 2) if name != field]
