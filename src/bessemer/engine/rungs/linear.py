"""Multinomial logistic regression on n-grams: a gather and a product per request."""

from collections.abc import Sequence

import numpy as np

from bessemer.core.types import Frozen
from bessemer.engine.rungs.artefact import Arrays, Artefact
from bessemer.engine.rungs.ngrams import Vocabulary
from bessemer.engine.rungs.rung import Prediction, Rung, RungItem, parameters_of, softmax, text_of

KIND = "linear"


class LinearParameters(Frozen, frozen=True):
    """It has none beyond its arrays."""


class Linear(Rung):
    """Softmax of weights over n-grams; the vocabulary's columns by labels."""

    def __init__(self, artefact: Artefact) -> None:
        """Raises EngineError for arrays of another kind or shape."""
        super().__init__(artefact)
        parameters_of(artefact, LinearParameters)
        arrays = Arrays(artefact.arrays)
        self.vocabulary = Vocabulary.of(arrays)
        self.weights = arrays.take("weights", np.float32, self.vocabulary.size, len(self.labels))
        self.intercept = arrays.take("intercept", np.float64, len(self.labels))
        arrays.done()

    def predict(self, items: Sequence[RungItem]) -> Prediction:
        """See `Rung`."""
        n = len(items)
        logits = np.empty((n, len(self.labels)))
        known, distance = np.empty(n), np.empty(n)
        for row, item in enumerate(items):
            text = text_of(item)
            vector = self.vocabulary.vector(text)
            logits[row] = vector.values.astype(np.float32) @ self.weights[vector.columns] + self.intercept
            known[row], distance[row] = vector.known_share, self.vocabulary.strangeness(text)
        return Prediction(softmax(logits), known, distance, np.zeros(n, np.bool_))
