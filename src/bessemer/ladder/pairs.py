"""Fits the rung that compares the two records of a request."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from bessemer.core.errors import InvalidRequest
from bessemer.engine.rungs.comparison import tokens_of
from bessemer.engine.rungs.pairs import (
    KIND,
    WHOLE,
    Comparer,
    FieldSpec,
    PairsParameters,
    Weighted,
    feature_names,
    signs_of,
)
from bessemer.engine.rungs.records import Record, fields_of, plain, records_of
from bessemer.engine.rungs.rung import Floats, RungItem, nothing, softmax
from bessemer.engine.rungs.trees import Trees
from bessemer.ladder.forms import learn_form, types_of
from bessemer.ladder.groups import id_fields, record_key
from bessemer.ladder.lessons import Ints, folds_of
from bessemer.ladder.task import Fitted, Task, scaling

_ROUNDS, _RATE, _LEAVES = 200, 0.06, 15
"""Chosen on grouped parts of two training files (docs/decisions/028-rungs.md): more rounds or leaves gain nothing."""
_FEW = 500
"""Pairs below which leaves may be small."""
_LEAST_SIGN = 3
"""Pairs that a sign must be in."""
_WORDS_C = 30.0
_INNER = 4
_DEAR = tuple(f"{WHOLE}.{name}" for name in ("partial", "token_sort", "token_set", "jaro_winkler"))
"""Features that take as long as all others together and add nothing to the fields' own (decision 028)."""
_LEAST = 20
"""Pairs, and of each label two, below which there is nothing to split on."""


class _Table(NamedTuple):
    """All pairs, compared."""

    features: Floats
    """[n, f - 1]"""
    signs: csr_matrix
    """[n, signs]: 1 where a pair has it."""
    names: list[str]
    """Of the signs, sorted."""
    known: Floats


def suits_pairs(items: Sequence[RungItem]) -> str | None:
    """Return why requests are no pairs of records; None when they are."""
    form = learn_form(items)
    return "the requests are no pairs of records of one form" if form is None else None


def fit_pairs(task: Task) -> Fitted:
    """Fit trees on the comparison of all pairs, and out of fold on each part. Raises InvalidRequest for no pairs."""
    items = [one.item for one in task.lessons]
    form = learn_form(items)
    if form is None:
        raise InvalidRequest("The requests are no pairs of records of one form.", param="dataset")
    read = [records_of(item, form) for item in items]
    rows = np.array([place for place, pair in enumerate(read) if pair is not None])
    pairs = [pair for pair in read if pair is not None]
    dropped = id_fields(task.lessons, form)
    names = [name for name in fields_of(pairs) if name not in dropped]
    if not names:
        raise InvalidRequest("The two records of a request have no field in common.", param="dataset")
    fields = types_of(pairs, names)
    idf = _idf(pairs, fields)
    table = _compared(pairs, fields, idf)
    labelled = _labelled(task, rows)
    if len(labelled) < _LEAST or min(Counter(task.truth[rows[labelled]].tolist()).values(), default=0) < 2:
        raise InvalidRequest(f"Fewer than {_LEAST} labelled pairs, or of one label alone.", param="dataset")
    outputs = np.full((len(items), _width(task)), np.nan)
    for train, test in task.parts():
        inside = [np.intersect1d(labelled, np.flatnonzero(np.isin(rows, part))) for part in (train, test)]
        test_rows = np.flatnonzero(np.isin(rows, test))
        if len(inside[0]) < _LEAST or len(set(task.truth[rows[inside[0]]].tolist())) < len(task.labels):
            continue
        model, words = _fit(table, inside[0], rows, task)
        outputs[rows[test_rows]] = trees_of(model, len(task.labels)).outputs(_with_words(table, test_rows, words))
    model, words = _fit(table, labelled, rows, task)
    raw = _raw(outputs)
    scale = scaling(raw, task)
    known = np.full(len(items), np.nan)
    known[rows] = table.known
    return Fitted(
        kind=KIND,
        parameters=PairsParameters(form=form, fields=fields, slope=scale.factor, offset=scale.shift),
        arrays=idf.arrays("idf", "idf.values")
        | _weighted(words, table).arrays("words", "words.weights")
        | trees_of(model, len(task.labels)).arrays(),
        out_of_fold=scale.probabilities(raw),
        known_share=_leave_one_out(pairs, fields, rows, len(items)) if task.calibrated is None else nothing(len(items)),
        distance=nothing(len(items)),
        told={"fields": {field.name: field.type.value for field in fields}, "dropped": dropped},
    )


def _width(task: Task) -> int:
    return 1 if len(task.labels) == 2 else len(task.labels)


def _labelled(task: Task, rows: Ints) -> Ints:
    """Return the places among the pairs whose label is known."""
    return np.flatnonzero(task.truth[rows] >= 0)


def _whole(record: Record, fields: Sequence[FieldSpec]) -> str:
    return plain(" ".join(record.get(field.name, "") for field in fields))


def _idf(pairs: Sequence[tuple[Record, Record]], fields: Sequence[FieldSpec]) -> Weighted:
    """Learn how rare words are among the different records: ln((1 + n) / (1 + df)), a little above 0."""
    texts = {record_key(record): _whole(record, fields) for pair in pairs for record in pair}
    frequency = Counter(word for text in texts.values() for word in frozenset(tokens_of(text)))
    n = len(texts)
    known = {word: math.log((1 + n) / (1 + df)) + 1e-3 for word, df in frequency.items()}
    return Weighted.of(known, math.log(1 + n) + 1e-3)


def _leave_one_out(
    pairs: Sequence[tuple[Record, Record]], fields: Sequence[FieldSpec], rows: Ints, count: int
) -> Floats:
    """Return the known share of each pair's words as if neither of its records had been counted."""
    texts = [tuple(frozenset(tokens_of(_whole(record, fields))) for record in pair) for pair in pairs]
    distinct = {
        record_key(record): words
        for pair, both in zip(pairs, texts, strict=True)
        for record, words in zip(pair, both, strict=True)
    }
    frequency = Counter(word for words in distinct.values() for word in words)
    n = len(distinct)
    shares = np.full(count, np.nan)
    for place, (a, b) in zip(rows.tolist(), texts, strict=True):
        weights = {word: math.log((1 + n) / (1 + frequency[word])) + 1e-3 for word in a | b}
        known = math.fsum(w for word, w in weights.items() if frequency[word] > (word in a) + (word in b))
        total = math.fsum(weights.values())
        shares[place] = known / total if total else 0.0
    return shares


def _compared(pairs: Sequence[tuple[Record, Record]], fields: Sequence[FieldSpec], idf: Weighted) -> _Table:
    features, known = Comparer(fields, idf, Weighted.of({}, 0.0)).rows(pairs)
    names = feature_names(fields)[:-1]
    features[:, [place for place, name in enumerate(names) if name in _DEAR]] = np.nan
    signs = [signs_of(left, right, fields) for left, right in pairs]
    order = {name: place for place, name in enumerate(sorted({sign for one in signs for sign in one}))}
    ends = np.cumsum([0, *map(len, signs)])
    places = np.fromiter((order[sign] for one in signs for sign in one), np.int64, int(ends[-1]))
    matrix = csr_matrix((np.ones(len(places)), places, ends), shape=(len(signs), len(order)))
    return _Table(features[:, :-1], matrix, list(order), known)


# -- words ------------------------------------------------------------------------------------------------------------


class _Signs(NamedTuple):
    """A logistic regression on signs."""

    columns: Ints
    """Those that count."""
    weights: Floats
    intercept: float

    def logits(self, signs: csr_matrix) -> Floats:
        """Return the log-odds of the last label, as `pairs.Words` has them; NaN where no sign counts."""
        inside = signs[:, self.columns]
        total, known = inside @ self.weights, np.diff(inside.indptr)
        count = np.maximum(np.diff(signs.indptr), 1)
        return np.where(known > 0, self.intercept + total / np.sqrt(count), np.nan)


def _fit_signs(signs: csr_matrix, truth: Ints, weights: Floats) -> _Signs:
    """Fit the last label against the others."""
    columns = np.flatnonzero(np.bincount(signs.indices, minlength=signs.shape[1]) >= _LEAST_SIGN)
    positive = truth == truth.max(initial=0)
    if not len(columns) or positive.all() or not positive.any():
        return _Signs(np.zeros(0, np.int64), np.zeros(0), 0.0)
    x = signs[:, columns]
    x.data = np.repeat(1.0 / np.sqrt(np.maximum(np.diff(signs.indptr), 1)), np.diff(x.indptr))
    model = LogisticRegression(C=_WORDS_C, max_iter=200).fit(x, positive, sample_weight=weights)
    return _Signs(columns, model.coef_[0], float(model.intercept_[0]))


def _weighted(words: _Signs, table: _Table) -> Weighted:
    weights = zip(words.columns.tolist(), words.weights.tolist(), strict=True)
    return Weighted.of({table.names[column]: weight for column, weight in weights}, words.intercept)


def _with_words(table: _Table, places: Ints, words: _Signs) -> Floats:
    return np.column_stack([table.features[places], words.logits(table.signs[places])])


# -- trees ------------------------------------------------------------------------------------------------------------


def _fit(table: _Table, places: Ints, rows: Ints, task: Task) -> tuple[Any, _Signs]:
    """Fit words and trees on some pairs; the trees read the words' logits as fits of other pairs give them."""
    lessons = [task.lessons[place] for place in rows[places]]
    truth, weights = task.truth[rows[places]], task.targets.weights[rows[places]]
    inner = folds_of(lessons, _INNER, task.seed + 1)
    x = np.column_stack([table.features[places], np.full(len(places), np.nan)])
    for fold in range(_INNER):
        train, test = np.flatnonzero(inner != fold), np.flatnonzero(inner == fold)
        if len(train) and len(test):
            words = _fit_signs(table.signs[places[train]], truth[train], weights[train])
            x[test, -1] = words.logits(table.signs[places[test]])
    x[:, np.isnan(x).all(axis=0)] = 0.0  # scikit-learn 1.9 cannot bin a column without values; no tree splits on it
    even = bool((weights == weights[0]).all())
    model = HistGradientBoostingClassifier(
        max_bins=255 if even else 63,  # weighted bins take scikit-learn 1.9 longer than the trees
        learning_rate=_RATE,
        max_iter=_ROUNDS,
        max_leaf_nodes=_LEAVES,
        min_samples_leaf=5 if len(places) < _FEW else 20,
        l2_regularization=1.0,
        max_features=0.3,
        early_stopping=False,
        random_state=task.seed,
    ).fit(x, truth, sample_weight=None if even else weights)
    return model, _fit_signs(table.signs[places], truth, weights)


def trees_of(model: Any, labels: int) -> Trees:
    """Return scikit-learn's boosted trees as arrays; classes that the model has not seen stay at their base.

    Reads `_predictors[round][output].nodes` and `_baseline_prediction`, private in 1.9: held by a test to equal
    `decision_function`.
    """
    width = 1 if labels == 2 else labels
    seen = [0] if width == 1 else [int(label) for label in model.classes_]
    base = np.full(width, -30.0)
    base[seen] = np.asarray(model._baseline_prediction, dtype=np.float64).ravel()[: len(seen)]
    parts: dict[str, list[Any]] = {
        name: [] for name in ("feature", "threshold", "missing_left", "left", "right", "value")
    }
    roots, columns, at = [], [], 0
    for round_ in model._predictors:
        for output, tree in enumerate(round_):
            nodes = tree.nodes
            here = np.arange(len(nodes)) + at
            leaf = nodes["is_leaf"].astype(bool)
            parts["feature"].append(np.where(leaf, 0, nodes["feature_idx"]))
            parts["threshold"].append(np.clip(np.where(leaf, 0.0, nodes["num_threshold"]), -1e308, 1e308))
            parts["missing_left"].append(np.where(leaf, 0, nodes["missing_go_to_left"]))
            parts["left"].append(np.where(leaf, here, nodes["left"].astype(np.int64) + at))
            parts["right"].append(np.where(leaf, here, nodes["right"].astype(np.int64) + at))
            parts["value"].append(np.where(leaf, nodes["value"], 0.0))
            roots.append(at)
            columns.append(seen[output])
            at += len(nodes)
    joined = {name: np.concatenate(lists) if lists else np.zeros(0) for name, lists in parts.items()}
    return Trees.make(
        feature=joined["feature"].astype(np.int32),
        threshold=joined["threshold"].astype(np.float64),
        missing_left=joined["missing_left"].astype(np.uint8),
        left=joined["left"].astype(np.int32),
        right=joined["right"].astype(np.int32),
        value=joined["value"].astype(np.float64),
        roots=np.array(roots, dtype=np.int32),
        column=np.array(columns, dtype=np.int32),
        base=base,
    )


def _raw(outputs: Floats) -> Floats:
    """Return the probabilities of the trees' outputs, not calibrated."""
    return softmax(outputs if outputs.shape[1] > 1 else np.hstack([np.zeros_like(outputs), outputs]))
