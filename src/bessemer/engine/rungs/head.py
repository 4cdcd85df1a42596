"""A softmax head on n-grams and on vectors that a network makes elsewhere: of a sentence encoder or a language model.

The network needs torch and is none of the artefact: whoever serves the head hands the vectors in. The head holds for
the very network that it was fitted on, which it names.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from bessemer.core.errors import EngineError
from bessemer.core.types import Frozen
from bessemer.engine.rungs.artefact import Arrays, Artefact
from bessemer.engine.rungs.ngrams import Vocabulary
from bessemer.engine.rungs.records import RecordForm, Text, records_of
from bessemer.engine.rungs.rung import Floats, Prediction, Rung, RungItem, nothing, parameters_of, softmax, text_of

Vectors = npt.NDArray[np.float32]
Vectorise = Callable[[Sequence[str]], Vectors]


class HeadKind(StrEnum):
    """What makes the vectors; a kind of rung has its name."""

    ENCODER = "encoder"
    """A sentence encoder: one vector of length 1 for a text; two records are compared by |u - v| and u * v."""
    STATES = "states"
    """A language model's last layer: the mean over the prompt, and its last token."""


class HeadParameters(Frozen, frozen=True):
    """Whose vectors it reads, and how."""

    network: Text
    """Names the network and its weights; vectors of another one are refused."""
    form: RecordForm | None = None


class Head(Rung):
    """Answers by the meaning of a text as a network has it."""

    def __init__(self, artefact: Artefact) -> None:
        """Raises EngineError for arrays of another kind or shape."""
        super().__init__(artefact)
        self.parameters = parameters_of(artefact, HeadParameters)
        self.kind = HeadKind(artefact.manifest.kind)
        self.vectorise: Vectorise | None = None
        """What makes the vectors of texts, where it is at hand without waiting."""
        arrays = Arrays(artefact.arrays)
        k = len(self.labels)
        self._grams = Vocabulary.of(arrays)
        self._gram_weights = arrays.take("gram_weights", np.float32, self._grams.size, k)
        self._weights = arrays.take("weights", np.float32, None, k)
        self._intercept: Floats = arrays.take("intercept", np.float64, k)
        arrays.done()

    def texts(self, items: Sequence[RungItem]) -> list[str]:
        """Return the texts whose vectors `answered` takes: one of each item, or two of each pair of records."""
        return texts_of(items, self.parameters.form)

    def predict(self, items: Sequence[RungItem]) -> Prediction:
        """See `Rung`. Raises EngineError without its network; see `answered`."""
        if self.vectorise is None:
            raise EngineError(f"A head on {self.kind.value} answers where its network is: it needs [local].")
        return self.answered(items, self.vectorise(self.texts(items)))

    def answered(self, items: Sequence[RungItem], vectors: Vectors) -> Prediction:
        """Return what it says of items, by the vectors of their `texts`. Raises EngineError for another width."""
        rows = rows_of(vectors, self.parameters.form)
        if rows.shape != (len(items), len(self._weights)):
            raise EngineError(f"A head on {self.kind.value} was given vectors {rows.shape} of another network.")
        logits = (rows @ self._weights).astype(np.float64) + self._intercept
        known, distance, unread = nothing(len(items)), nothing(len(items)), np.zeros(len(items), np.bool_)
        for row, item in enumerate(items):
            unread[row] = self.parameters.form is not None and records_of(item, self.parameters.form) is None
            if self._grams.size:
                text = text_of(item)
                vector = self._grams.vector(text)
                logits[row] += vector.values.astype(np.float32) @ self._gram_weights[vector.columns]
                known[row], distance[row] = vector.known_share, self._grams.strangeness(text)
        return Prediction(softmax(logits), known, distance, unread)


def texts_of(items: Sequence[RungItem], form: RecordForm | None) -> list[str]:
    """Return the texts of items, two of each where there is a form; empty ones of an item of another form."""
    if form is None:
        return [text_of(item) for item in items]
    pairs = [records_of(item, form) or ({}, {}) for item in items]
    return [" ".join(record[name] for name in sorted(record)) for pair in pairs for record in pair]


def rows_of(vectors: Vectors, form: RecordForm | None) -> Vectors:
    """Return the rows that the head weighs, of the vectors of `texts_of`."""
    if form is None:
        return vectors
    left, right = vectors[0::2], vectors[1::2]
    rows = np.concatenate([np.abs(left - right), left * right], axis=1)
    lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    scaled: Vectors = rows / np.maximum(lengths, np.float32(1e-9))
    return scaled
