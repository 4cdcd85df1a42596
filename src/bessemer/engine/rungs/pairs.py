"""Do two records mean the same thing? Similarity features of their fields, and boosted trees on top of these."""

import math
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec
import numpy as np

from bessemer.core.errors import EngineError
from bessemer.core.types import Frozen
from bessemer.engine.rungs.artefact import AnyArray, Arrays, Artefact
from bessemer.engine.rungs.comparison import (
    LIST_FEATURES,
    NUMBER_FEATURES,
    TEXT_FEATURES,
    Idf,
    Written,
    compare_lists,
    compare_numbers,
    compare_texts,
    tokens_of,
    units,
    written,
)
from bessemer.engine.rungs.dates import DATE_FEATURES, compare_dates
from bessemer.engine.rungs.kernel import ComparisonJob, code_points, kernel, pointer
from bessemer.engine.rungs.records import MAX_FIELDS, Record, RecordForm, Text, plain, records_of
from bessemer.engine.rungs.rung import Flags, Floats, Prediction, Rung, RungItem, nothing, parameters_of, softmax
from bessemer.engine.rungs.texts import Ints, PackedTexts
from bessemer.engine.rungs.trees import Trees

KIND = "pairs"
WHOLE = "*"
"""Name of all fields together among the features."""
_MOST_PAIRED = 4
"""Words that each side has alone, up to which they are paired."""


class FieldType(StrEnum):
    """How a field is compared."""

    TEXT = "text"
    CODE = "code"
    NUMBER = "number"
    LIST = "list"
    DATE = "date"


class FieldSpec(Frozen, frozen=True):
    """A field that both records have."""

    name: Text
    type: FieldType


class PairsParameters(Frozen, frozen=True):
    """How records are read and compared."""

    form: RecordForm
    fields: Annotated[tuple[FieldSpec, ...], msgspec.Meta(min_length=1, max_length=MAX_FIELDS)]
    slope: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 1.0
    """Of the trees' logits, so that probabilities are calibrated."""
    offset: Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)] = 0.0


def feature_names(fields: Sequence[FieldSpec]) -> list[str]:
    """Return the names of the features, in order."""
    names: list[str] = []
    for field in fields:
        names += [f"{field.name}.{feature}" for feature in ("missing", *_parts(field.type))]
    if len(fields) > 1:
        names += [f"{WHOLE}.{feature}" for feature in TEXT_FEATURES]
    return [*names, f"{WHOLE}.words"]


def _parts(type_: FieldType) -> tuple[str, ...]:
    if type_ is FieldType.NUMBER:
        return NUMBER_FEATURES
    if type_ is FieldType.DATE:
        return DATE_FEATURES
    return TEXT_FEATURES + (LIST_FEATURES if type_ is FieldType.LIST else ())


class Compared(NamedTuple):
    """Two records beside each other."""

    features: list[float]
    """All but the last, which the words decide."""
    signs: list[str]
    """See `signs_of`."""
    known: float
    """idf-weighted share of the records' words that traffic had."""


def compare(left: Record, right: Record, fields: Sequence[FieldSpec], idf: Idf) -> Compared:
    """Return what tells two records apart; equal when they are swapped."""
    features: list[float] = []
    texts: list[tuple[Written, Written]] = []
    for field in fields:
        a, b = (written(plain(record.get(field.name, ""))) for record in (left, right))
        texts.append((a, b))
        features.append(float(not a.text) + float(not b.text))
        if field.type in _ALONE:
            features += _ALONE[field.type](a.text, b.text)
            continue
        features += compare_texts(a, b, idf)
        if field.type is FieldType.LIST:
            features += compare_lists(a.text, b.text)
    whole = [written(" ".join(pair[side].text for pair in texts if pair[side].text)) for side in (0, 1)]
    if len(fields) > 1:
        features += compare_texts(whole[0], whole[1], idf)
    words = [side.unique for side in whole]
    return Compared(features, _signs(*words), _known(words[0] | words[1], idf))


_ALONE: dict[FieldType, Callable[[str, str], list[float]]] = {
    FieldType.NUMBER: compare_numbers,
    FieldType.DATE: compare_dates,
}
"""How types are compared that are not compared word by word."""


def signs_of(left: Record, right: Record, fields: Sequence[FieldSpec]) -> list[str]:
    """Return what the records share and what each has alone, as signs for a linear model."""
    texts = (" ".join(filter(None, (plain(side.get(field.name, "")) for field in fields))) for side in (left, right))
    a, b = (frozenset(tokens_of(text)) for text in texts)
    return _signs(a, b)


def _signs(a: frozenset[str], b: frozenset[str]) -> list[str]:
    shared = a & b
    sides = sorted((sorted(a - shared), sorted(b - shared)))
    signs = ["=" + word for word in sorted(shared)] + ["-" + word for side in sides for word in side]
    if all(len(side) <= _MOST_PAIRED for side in sides):
        signs += ["|".join(sorted((one, other))) for one in sides[0] for other in sides[1]]
    if not sides[0] or not sides[1]:
        signs += ["+" + word for side in sides for word in side]
    return signs


def _known(words: frozenset[str], idf: Idf) -> float:
    total = idf.total(words)
    return math.fsum(idf.known.get(word, 0.0) for word in words) / total if total else 0.0


class Weighted(NamedTuple):
    """Texts with a number each, and one number more: for a text that is not among them, or to begin with."""

    texts: PackedTexts
    values: Floats
    """[texts + 1]"""

    @staticmethod
    def of(values: Mapping[str, float], other: float) -> "Weighted":
        """Return a mapping packed, sorted by its texts."""
        names = sorted(values)
        return Weighted(PackedTexts.of(names), np.array([*(values[name] for name in names), other]))

    def mapping(self) -> dict[str, float]:
        """Return the texts' numbers."""
        return dict(zip(self.texts.strings(), self.values[:-1].tolist(), strict=True))

    def arrays(self, name: str, values: str) -> dict[str, AnyArray]:
        """Return it as arrays of an artefact."""
        return self.texts.arrays(name) | {values: self.values}

    @staticmethod
    def take(arrays: Arrays, name: str, values: str) -> "Weighted":
        """Return what `arrays` returned. Raises EngineError."""
        texts = arrays.texts(name)
        return Weighted(texts, arrays.take(values, np.float64, len(texts) + 1))


class Words:
    """A linear model of the signs: which words matter when one record alone has them."""

    def __init__(self, weights: Mapping[str, float], intercept: float) -> None:
        self.weights, self.intercept = weights, intercept

    def logit(self, signs: Sequence[str]) -> float:
        """Return the log-odds of the second label; NaN when no sign is known."""
        found = [self.weights[sign] for sign in signs if sign in self.weights]
        return self.intercept + math.fsum(found) / math.sqrt(len(signs)) if found else math.nan


class Comparer:
    """Compares records, many pairs at once: compiled where there is a compiler. Threads may share it."""

    def __init__(self, fields: Sequence[FieldSpec], idf: Weighted, words: Weighted, read: Ints | None = None) -> None:
        """`read`: the features that are needed; of the others some are not computed.

        Raises ValueError for texts that are there twice.
        """
        self._fields = tuple(fields)
        names = feature_names(fields)
        self._width = len(names)
        self._kernel = kernel()
        if self._kernel is None:
            self._idf = Idf(idf.mapping(), float(idf.values[-1]))
            self._words = Words(words.mapping(), float(words.values[-1]))
            return
        spelled, kinds, factors = units()
        tables = [self._kernel.table(texts) for texts in (idf.texts, words.texts, PackedTexts.of(spelled))]
        types = np.array([_COMPILED.get(field.type, _OTHER) for field in fields], np.int64)
        offsets = np.cumsum([0, *(1 + len(_parts(field.type)) for field in fields)], dtype=np.int64)
        wanted = np.ones(self._width, np.uint8) if read is None else np.isin(range(self._width), read).view(np.uint8)
        values = (idf.values, words.values, np.array(kinds, np.int64), np.array(factors))
        self._kept = (tables, types, offsets, wanted, values)  # the job points at them
        at = [pointer(array) for array in (types, offsets, wanted)]
        self._job = ComparisonJob(0, 0, *at, *(table.job() for table in tables), *(pointer(one) for one in values))

    def rows(self, pairs: Sequence[tuple[Record, Record]]) -> tuple[Floats, Floats]:
        """Return the features [n, f], equal when records are swapped, and the known share of the words [n]."""
        rows, known = np.full((len(pairs), self._width), np.nan), np.zeros(len(pairs))
        if self._kernel is None:
            for place, (left, right) in enumerate(pairs):
                compared = compare(left, right, self._fields, self._idf)
                rows[place, :-1] = compared.features
                rows[place, -1], known[place] = self._words.logit(compared.signs), compared.known
            return rows, known
        names = [field.name for field in self._fields]
        texts = [plain(record.get(name, "")) for pair in pairs for name in names for record in pair]
        chars, lengths = code_points(texts)
        job = ComparisonJob.from_buffer_copy(self._job)
        job.chars, job.lengths, job.features, job.known = (pointer(one) for one in (chars, lengths, rows, known))
        job.rows, job.fields, job.width = len(pairs), len(names), self._width
        self._kernel.compare(job)
        for place, field in enumerate(self._fields):
            if field.type not in _COMPILED:
                begin, end = self._kept[2][place : place + 2].tolist()
                sides = (texts[2 * place + side :: 2 * len(names)] for side in (0, 1))
                rows[:, begin + 1 : end] = [_ALONE[field.type](a, b) for a, b in zip(*sides, strict=True)]
        return rows, known


_COMPILED = {FieldType.TEXT: 0, FieldType.CODE: 0, FieldType.NUMBER: 1, FieldType.LIST: 2}
_OTHER = 3
"""What comparison.h calls the types; others are compared here."""


class Pairs(Rung):
    """Compares the two records of a request."""

    def __init__(self, artefact: Artefact) -> None:
        """Raises EngineError for arrays of another kind or shape."""
        super().__init__(artefact)
        self.parameters = parameters_of(artefact, PairsParameters)
        self._outputs = 1 if len(self.labels) == 2 else len(self.labels)
        arrays = Arrays(artefact.arrays)
        idf, words = Weighted.take(arrays, "idf", "idf.values"), Weighted.take(arrays, "words", "words.weights")
        if (idf.values <= 0).any() or (idf.values > 100).any():
            raise EngineError("A pairs rung has an idf that is none.")
        self._features = len(feature_names(self.parameters.fields))
        self.trees = Trees.of(arrays, self._features, self._outputs)
        arrays.done()
        try:
            self._comparer = Comparer(self.parameters.fields, idf, words, self.trees.read())
        except ValueError as error:
            raise EngineError(f"A pairs rung whose words are none: {error}.") from None

    @property
    def calibration(self) -> tuple[float, float]:
        """See `Rung`."""
        return self.parameters.slope, self.parameters.offset

    def features(self, items: Sequence[RungItem]) -> tuple[Floats, Floats, Flags]:
        """Return the features [n, f] (NaN of an item that is no pair), the known shares, and which are pairs."""
        found = [records_of(item, self.parameters.form) for item in items]
        read = np.array([pair is not None and any(map(any, (side.values() for side in pair))) for pair in found])
        rows, known = np.full((len(items), self._features), np.nan), np.zeros(len(items))
        if read.any():
            pairs = [pair for pair, good in zip(found, read.tolist(), strict=True) if pair is not None and good]
            rows[read], known[read] = self._comparer.rows(pairs)
        return rows, known, read

    def predict(self, items: Sequence[RungItem]) -> Prediction:
        """See `Rung`."""
        rows, known, read = self.features(items)
        logits = self.trees.outputs(rows) * self.parameters.slope
        if self._outputs == 1:
            logits = np.hstack([np.zeros_like(logits), logits + self.parameters.offset])
        return Prediction(softmax(logits), known, nothing(len(items)), ~read)
