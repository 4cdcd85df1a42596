"""A static embedding and n-grams, a softmax head on both, and the nearest confirmed answers.

One vector for each token, distilled from a sentence encoder (`bessemer.ladder.distil`); a text is their mean. Two
records are compared by |u - v| and u * v of their texts, which does not depend on their order, and have no n-grams.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from bessemer.core.errors import EngineError
from bessemer.core.types import Frozen
from bessemer.engine.rungs.artefact import AnyArray, Arrays, Artefact, pack_strings
from bessemer.engine.rungs.ngrams import Vocabulary
from bessemer.engine.rungs.records import RecordForm, records_of
from bessemer.engine.rungs.rung import (
    Floats,
    Prediction,
    Rung,
    RungItem,
    nothing,
    parameters_of,
    softmax,
    text_of,
)
from bessemer.engine.rungs.wordpiece import WordPiece

KIND = "embedding"
Vectors = npt.NDArray[np.float32]
_MOST_TOKENS = 512
NEAREST = 10
"""Neighbours that vote; the last one's distance is the scope's signal where no words are."""
_SHARPNESS = 20.0
"""Of the vote: a neighbour weighs exp(20 x cosine)."""


class StaticEmbedding(NamedTuple):
    """Tokens and the vector of each, scaled by how much the token says."""

    tokens: Sequence[str]
    vectors: npt.NDArray[np.float16]
    """[tokens, width]"""

    def arrays(self) -> dict[str, AnyArray]:
        """Return it as arrays."""
        return pack_strings("tokens", self.tokens) | {"vectors": self.vectors}

    @staticmethod
    def of(arrays: Arrays) -> "StaticEmbedding":
        """Return what `arrays` returned. Raises EngineError."""
        tokens = arrays.strings("tokens")
        return StaticEmbedding(tokens, arrays.take("vectors", np.float16, len(tokens), None))


class Embedding:
    """Turns items into vectors of length 1. Threads may share it."""

    def __init__(self, static: StaticEmbedding, form: RecordForm | None) -> None:
        places = {token: place for place, token in enumerate(static.tokens)}
        self._cut = WordPiece(places)
        self._vectors: Vectors = static.vectors.astype(np.float32)
        self._form = form
        self.width = self._vectors.shape[1] * (1 if form is None else 2)

    def vectors(self, items: Sequence[RungItem]) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """Return [n, width], and which items have another form."""
        found = np.zeros((len(items), self.width), np.float32)
        unread = np.zeros(len(items), np.bool_)
        for row, item in enumerate(items):
            if self._form is None:
                found[row] = self._text(text_of(item))
                continue
            pair = records_of(item, self._form)
            if pair is None:
                unread[row] = True
                continue
            left, right = (self._text(" ".join(record[name] for name in sorted(record))) for record in pair)
            found[row] = _scaled(np.concatenate([np.abs(left - right), left * right]))
        return found, unread

    def _text(self, text: str) -> Vectors:
        ids = self._cut.ids(text)[:_MOST_TOKENS]
        if not ids:
            return np.zeros(self._vectors.shape[1], np.float32)
        return _scaled(self._vectors[ids].mean(axis=0))


def _scaled(vector: Vectors) -> Vectors:
    length = float(np.sqrt(vector @ vector))
    return vector / np.float32(length) if length > 0 else vector


class EmbeddingParameters(Frozen, frozen=True):
    """How items are read, and how the head and the neighbours are mixed."""

    form: RecordForm | None = None
    vote: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Share of the neighbours in the probabilities."""
    factor: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 1.0
    """On the mixed probabilities' logarithms, so that they are calibrated."""
    shift: Annotated[float, msgspec.Meta(ge=-1000, le=1000)] = 0.0
    """Of two labels: added to the second's."""


class EmbeddingRung(Rung):
    """Answers by the meaning of words, from few labels on."""

    def __init__(self, artefact: Artefact) -> None:
        """Raises EngineError for arrays of another kind or shape."""
        super().__init__(artefact)
        parameters = parameters_of(artefact, EmbeddingParameters)
        arrays = Arrays(artefact.arrays)
        self._grams = Vocabulary.of(arrays)
        self._embedding = Embedding(StaticEmbedding.of(arrays), parameters.form)
        k = len(self.labels)
        self._weights: Vectors = arrays.take("weights", np.float32, self._embedding.width, k)
        self._gram_weights: Vectors = arrays.take("gram_weights", np.float32, self._grams.size, k)
        self._intercept: Floats = arrays.take("intercept", np.float64, k)
        self._known: Vectors = arrays.take("known", np.float16, None, self._embedding.width).astype(np.float32)
        self._answers = arrays.take("answers", np.int32, len(self._known))
        arrays.done()
        if len(self._answers) and (self._answers.min() < 0 or self._answers.max() >= k):
            raise EngineError("A neighbour has an answer that is no label.")
        self._parameters = parameters

    def predict(self, items: Sequence[RungItem]) -> Prediction:
        """See `Rung`."""
        rows, unread = self._embedding.vectors(items)
        logits = (rows @ self._weights).astype(np.float64) + self._intercept
        votes, distance = vote(rows, self._known, self._answers, len(self.labels))
        known = nothing(len(items))
        for row, item in enumerate(items if self._grams.size else ()):
            text = text_of(item)
            vector = self._grams.vector(text)
            logits[row] += vector.values.astype(np.float32) @ self._gram_weights[vector.columns]
            known[row], distance[row] = vector.known_share, self._grams.strangeness(text)
        head = softmax(logits)
        scaled = np.log(np.maximum(mix(head, votes, self._parameters.vote), 1e-12)) * self._parameters.factor
        if len(self.labels) == 2:
            scaled[:, 1] += self._parameters.shift
        return Prediction(softmax(scaled), known, distance, unread)


def vote(rows: Vectors, known: Vectors, answers: AnyArray, labels: int) -> tuple[Floats, Floats]:
    """Return what the nearest known rows answer, [n, labels], and the distance 1 - cosine of the last of them, [n].

    Without a neighbour: equal votes, distance NaN.
    """
    count = min(NEAREST, len(known))
    votes = np.full((len(rows), labels), 1.0 / labels)
    distance = nothing(len(rows))
    if not count:
        return votes, distance
    for row, vector in enumerate(rows):
        alike = known @ vector
        near = np.argpartition(-alike, count - 1)[:count]
        weight = np.exp(_SHARPNESS * (alike[near].astype(np.float64) - 1.0))
        votes[row] = np.bincount(answers[near], weight, labels) + 1e-3 / labels
        votes[row] /= votes[row].sum()
        distance[row] = max(0.0, 1.0 - float(alike[near].min()))
    return votes, distance


def mix(head: Floats, votes: Floats, share: float) -> Floats:
    """Return the mixed probabilities."""
    return (1 - share) * head + share * votes


def arrays_of(
    static: StaticEmbedding,
    grams: Vocabulary,
    weights: Floats,
    intercept: Floats,
    known: Vectors,
    answers: AnyArray,
) -> Mapping[str, AnyArray]:
    """Return the arrays of a rung; `weights`: of the n-grams, then of the vectors."""
    return (
        static.arrays()
        | grams.arrays()
        | {
            "gram_weights": weights[: grams.size].astype(np.float32),
            "weights": weights[grams.size :].astype(np.float32),
            "intercept": intercept.astype(np.float64),
            "known": known.astype(np.float16),
            "answers": answers.astype(np.int32),
        }
    )
