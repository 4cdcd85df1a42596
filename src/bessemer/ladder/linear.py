"""Fits the rung on n-grams."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix, hstack

from bessemer.engine.rungs.linear import KIND, Linear, LinearParameters
from bessemer.engine.rungs.ngrams import (
    BLOCKS,
    Block,
    Vocabulary,
    character_grams,
    normalised,
    shapes,
    word_grams,
)
from bessemer.engine.rungs.rung import Floats, nothing, softmax, text_of
from bessemer.engine.rungs.texts import PackedTexts
from bessemer.ladder.lessons import Ints
from bessemer.ladder.softmax import Weights, fit_softmax
from bessemer.ladder.task import Fitted, Task, scaling

_C = 20.0
"""Inverse strength of the weights' penalty: n-grams are many, and each says little."""
_ITERATIONS, _ITERATIONS_OF_MANY, _ITERATIONS_MORE, _FEW_LABELS = 200, 40, 12, 10
"""Of L-BFGS. With two labels 40 are too few (a point and a half of F1 on 8,000 pairs); with 77, 15 are enough. A fit
that goes on from another with a hundred rows more answers as one from the start does after 12 (banking77: 99.4 % of
answers alike after 12 and after 40; dblp-scholar 99.8 %)."""
_MOST_COLUMNS = 1 << 18
_FEW = 2000
"""Texts from which on an n-gram must be in two of them."""


class Counted(NamedTuple):
    """The n-grams of many texts: counts [n, columns] of each block, and the n-grams by column."""

    counts: tuple[csr_matrix, ...]
    names: tuple[list[str], ...]


def count(texts: Sequence[str]) -> Counted:
    """Count the n-grams of all texts, by block; columns are in the order of the n-grams."""
    known: list[dict[str, int]] = [{} for _ in BLOCKS]
    places: list[list[int]] = [[] for _ in BLOCKS]
    ends: list[list[int]] = [[0] for _ in BLOCKS]
    words: dict[str, list[int]] = {}
    for text in texts:
        plain = normalised(text)
        tokens = plain.split()
        for block, found in ((0, word_grams(plain)), (2, shapes(tokens))):
            columns = known[block]
            places[block] += [columns.setdefault(gram, len(columns)) for gram in found]
        columns = known[1]
        for token in tokens:
            if token not in words:
                words[token] = [columns.setdefault(gram, len(columns)) for gram in character_grams(token)]
            places[1] += words[token]
        for block in range(len(BLOCKS)):
            ends[block].append(len(places[block]))
    counts, names = [], []
    for columns, place, end in zip(known, places, ends, strict=True):
        order = sorted(columns)
        moved = np.empty(len(order), np.int64)
        moved[[columns[gram] for gram in order]] = np.arange(len(order))
        column = moved[np.array(place, np.int64)] if place else np.zeros(0, np.int64)
        matrix = csr_matrix((np.ones(len(column)), column, np.array(end)), shape=(len(texts), len(order)))
        matrix.sum_duplicates()
        counts.append(matrix)
        names.append(order)
    return Counted(tuple(counts), tuple(names))


class Kept(NamedTuple):
    """The columns of each block that a fit uses, and their idf."""

    columns: tuple[Ints, ...]
    idf: tuple[Floats, ...]
    unknown_idf: float


def keep(counted: Counted, rows: Ints) -> Kept:
    """Choose the columns that the texts of `rows` have, and learn their idf: ln((1 + n) / (1 + df)) + 1."""
    least = 2 if len(rows) >= _FEW else 1
    frequencies = [np.bincount(block[rows].indices, minlength=block.shape[1]) for block in counted.counts]
    every = np.sort(np.concatenate(frequencies))
    least = max(least, int(every[-_MOST_COLUMNS - 1]) + 1 if len(every) > _MOST_COLUMNS else 1)
    columns = tuple(np.flatnonzero(df >= least) for df in frequencies)
    idf = tuple(np.log((1 + len(rows)) / (1 + df[kept])) + 1 for df, kept in zip(frequencies, columns, strict=True))
    return Kept(columns, idf, float(np.log(1 + len(rows)) + 1))


def weighed(counted: Counted, kept: Kept, rows: Ints) -> csr_matrix:
    """Return the texts of `rows` as the vocabulary weighs them: [rows, columns of all blocks]."""
    blocks = []
    for counts, columns, idf in zip(counted.counts, kept.columns, kept.idf, strict=True):
        block = counts[rows][:, columns].astype(np.float64)
        block.data = 1.0 + np.log(block.data)
        block = block.multiply(idf).tocsr()
        lengths = np.sqrt(np.asarray(block.multiply(block).sum(axis=1)).ravel())
        scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        block.data *= np.repeat(scale, np.diff(block.indptr))
        blocks.append(block)
    return hstack(blocks).tocsr()


def known_shares(counted: Counted, kept: Kept, rows: Ints) -> Floats:
    """Return the idf-weighted share of the n-grams of `rows` that are kept."""
    known, total = np.zeros(len(rows)), np.zeros(len(rows))
    for counts, columns, idf in zip(counted.counts, kept.columns, kept.idf, strict=True):
        block = counts[rows]
        inside = block[:, columns]
        known += inside @ idf
        missing = np.asarray(block.sum(axis=1)).ravel() - np.asarray(inside.sum(axis=1)).ravel()
        total += inside @ idf + missing * kept.unknown_idf
    return np.divide(known, total, out=np.zeros_like(known), where=total > 0)


def strangeness(counted: Counted, kept: Kept, rows: Ints) -> Floats:
    """Return what `Vocabulary.strangeness` returns of the texts of `rows`."""
    words = np.array([" " not in name for name in counted.names[0]], np.bool_)
    block = counted.counts[0][rows]
    total = np.asarray(block[:, np.flatnonzero(words)].sum(axis=1)).ravel()
    known = np.asarray(block[:, kept.columns[0][words[kept.columns[0]]]].sum(axis=1)).ravel()
    found: Floats = np.divide(total - known, np.sqrt(total), out=np.zeros(len(rows)), where=total > 0)
    return found


def vocabulary(counted: Counted, kept: Kept) -> Vocabulary:
    """Return what serves the same rows."""
    blocks = []
    for names, columns, idf in zip(counted.names, kept.columns, kept.idf, strict=True):
        blocks.append(Block(PackedTexts.of([names[column] for column in columns]), idf, kept.unknown_idf))
    return Vocabulary(blocks)


def fit_linear(task: Task) -> Fitted:
    """Fit the weights on all lessons, and out of fold on each part."""
    found = count([text_of(one.item) for one in task.lessons])
    every = np.arange(len(task.lessons))
    out_of_fold = np.full((len(every), len(task.labels)), np.nan)
    known, distance = nothing(len(every)), nothing(len(every))
    for train, test in task.parts():
        part = keep(found, train)
        weights, intercept = _fit(found, part, train, task)
        out_of_fold[test] = softmax(weighed(found, part, test) @ weights + intercept)
        known[test], distance[test] = known_shares(found, part, test), strangeness(found, part, test)
    kept = keep(found, every)
    begin = _carried(task.start, found, kept, task) if isinstance(task.start, Linear) else None
    weights, intercept = _fit(found, kept, every, task, begin)
    scale = scaling(out_of_fold, task)
    arrays = vocabulary(found, kept).arrays()
    arrays |= {
        "weights": (weights * scale.factor).astype(np.float32),
        "intercept": scale.apply(intercept.reshape(1, -1))[0],
    }
    return Fitted(
        kind=KIND,
        parameters=LinearParameters(factor=scale.factor, shift=scale.shift),
        arrays=arrays,
        out_of_fold=scale.probabilities(out_of_fold),
        known_share=known,
        distance=distance,
        told={"columns": len(weights)},
    )


def _fit(found: Counted, kept: Kept, rows: Ints, task: Task, start: Weights | None = None) -> Weights:
    return fit_softmax(
        weighed(found, kept, rows),
        task.targets.rows(rows),
        len(task.labels),
        c=_C,
        start=start,
        iterations=_iterations(len(task.labels), goes_on=start is not None and task.calibrated is not None),
    )


def _iterations(labels: int, *, goes_on: bool) -> int:
    """Return how many steps a fit takes at most; one of hardly more lessons begins beside its end."""
    most = _ITERATIONS if labels <= _FEW_LABELS else _ITERATIONS_OF_MANY
    return min(most, _ITERATIONS_MORE) if goes_on else most


def _carried(earlier: Linear, found: Counted, kept: Kept, task: Task) -> Weights:
    """Return an earlier rung's weights in the places of these columns and labels; 0 for new ones."""
    columns = [earlier.labels.index(label) if label in earlier.labels else -1 for label in task.labels]
    known = np.array([place for place, column in enumerate(columns) if column >= 0], dtype=np.int64)
    old = np.array([column for column in columns if column >= 0], dtype=np.int64)
    factor, shift = earlier.calibration
    begun = earlier.intercept.copy()
    if len(begun) == 2:
        begun[1] -= shift
    intercept = np.zeros(len(task.labels))
    intercept[known] = begun[old] / factor
    rows = earlier.vocabulary.places(
        [[names[column] for column in block] for names, block in zip(found.names, kept.columns, strict=True)]
    )
    weights = np.zeros((len(rows), len(task.labels)))
    seen = np.flatnonzero(rows >= 0)
    weights[np.ix_(seen, known)] = earlier.weights[np.ix_(rows[seen], old)] / factor
    return weights, intercept
