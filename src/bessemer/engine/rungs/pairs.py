"""Do two records mean the same thing? Similarity features of their fields, and boosted trees on top of these."""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec
import numpy as np

from bessemer.core.errors import EngineError
from bessemer.core.types import Frozen
from bessemer.engine.rungs.artefact import AnyArray, Arrays, Artefact, pack_strings
from bessemer.engine.rungs.comparison import (
    LIST_FEATURES,
    NUMBER_FEATURES,
    TEXT_FEATURES,
    Idf,
    Written,
    compare_lists,
    compare_numbers,
    compare_texts,
    written,
)
from bessemer.engine.rungs.dates import DATE_FEATURES, compare_dates
from bessemer.engine.rungs.records import MAX_FIELDS, Record, RecordForm, Text, plain, records_of
from bessemer.engine.rungs.rung import Floats, Prediction, Rung, RungItem, nothing, parameters_of, softmax
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
    words: list[str]
    """What the records share and what each has alone, as signs for a linear model."""
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
        if field.type is FieldType.NUMBER:
            features += compare_numbers(a.text, b.text)
            continue
        if field.type is FieldType.DATE:
            features += compare_dates(a.text, b.text)
            continue
        features += compare_texts(a, b, idf)
        if field.type is FieldType.LIST:
            features += compare_lists(a.text, b.text)
    whole = [written(" ".join(pair[side].text for pair in texts if pair[side].text)) for side in (0, 1)]
    if len(fields) > 1:
        features += compare_texts(whole[0], whole[1], idf)
    return Compared(features, _signs(*whole), _known(whole, idf))


def _signs(a: Written, b: Written) -> list[str]:
    shared = a.unique & b.unique
    sides = sorted((sorted(a.unique - shared), sorted(b.unique - shared)))
    signs = ["=" + word for word in sorted(shared)] + ["-" + word for side in sides for word in side]
    if all(len(side) <= _MOST_PAIRED for side in sides):
        signs += ["|".join(sorted((one, other))) for one in sides[0] for other in sides[1]]
    if not sides[0] or not sides[1]:
        signs += ["+" + word for side in sides for word in side]
    return signs


def _known(sides: Sequence[Written], idf: Idf) -> float:
    words = sides[0].unique | sides[1].unique
    total = idf.total(words)
    return math.fsum(idf.known.get(word, 0.0) for word in words) / total if total else 0.0


class Words:
    """A linear model of the signs: which words matter when one record alone has them."""

    def __init__(self, weights: Mapping[str, float], intercept: float) -> None:
        self.weights, self.intercept = weights, intercept

    def logit(self, signs: Sequence[str]) -> float:
        """Return the log-odds of the second label; NaN when no sign is known."""
        found = [self.weights[sign] for sign in signs if sign in self.weights]
        return self.intercept + math.fsum(found) / math.sqrt(len(signs)) if found else math.nan


class Pairs(Rung):
    """Compares the two records of a request."""

    def __init__(self, artefact: Artefact) -> None:
        """Raises EngineError for arrays of another kind or shape."""
        super().__init__(artefact)
        self.parameters = parameters_of(artefact, PairsParameters)
        self._outputs = 1 if len(self.labels) == 2 else len(self.labels)
        arrays = Arrays(artefact.arrays)
        self.idf = _take_idf(arrays)
        self.words = _take_words(arrays)
        self.trees = Trees.of(arrays, len(feature_names(self.parameters.fields)), self._outputs)
        arrays.done()

    def features(self, items: Sequence[RungItem]) -> tuple[Floats, Floats, list[bool]]:
        """Return the features [n, f] (NaN of an item that is no pair), the known shares, and which are pairs."""
        parameters = self.parameters
        rows = np.full((len(items), len(feature_names(parameters.fields))), np.nan)
        known = np.zeros(len(items))
        read = [False] * len(items)
        for place, item in enumerate(items):
            found = records_of(item, parameters.form)
            if found is None or not any(map(any, (side.values() for side in found))):
                continue
            compared = compare(*found, parameters.fields, self.idf)
            rows[place, :-1] = compared.features
            rows[place, -1] = self.words.logit(compared.words)
            known[place], read[place] = compared.known, True
        return rows, known, read

    def predict(self, items: Sequence[RungItem]) -> Prediction:
        """See `Rung`."""
        rows, known, read = self.features(items)
        logits = self.trees.outputs(rows) * self.parameters.slope
        if self._outputs == 1:
            logits = np.hstack([np.zeros_like(logits), logits + self.parameters.offset])
        return Prediction(softmax(logits), known, nothing(len(items)), ~np.array(read, np.bool_))


def _take_idf(arrays: Arrays) -> Idf:
    words = arrays.strings("idf")
    values = arrays.take("idf.values", np.float64, len(words) + 1)
    if (values <= 0).any() or (values > 100).any():
        raise EngineError("A pairs rung has an idf that is none.")
    *known, unknown = values.tolist()
    return Idf(dict(zip(words, known, strict=True)), unknown)


def _take_words(arrays: Arrays) -> Words:
    signs = arrays.strings("words")
    *weights, intercept = arrays.take("words.weights", np.float64, len(signs) + 1).tolist()
    return Words(dict(zip(signs, weights, strict=True)), intercept)


def pack_idf(idf: Idf) -> dict[str, AnyArray]:
    """Return the idf as arrays."""
    words = sorted(idf.known)
    return pack_strings("idf", words) | {"idf.values": np.array([*(idf.known[word] for word in words), idf.unknown])}


def pack_words(words: Words) -> dict[str, AnyArray]:
    """Return the linear model as arrays."""
    signs = sorted(words.weights)
    values = np.array([*(words.weights[sign] for sign in signs), words.intercept])
    return pack_strings("words", signs) | {"words.weights": values}
