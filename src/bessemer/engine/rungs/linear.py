"""Multinomial logistic regression on n-grams: a gather and a product per request."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np

from bessemer.core.types import Frozen
from bessemer.engine.rungs.artefact import Arrays, Artefact
from bessemer.engine.rungs.ngrams import Vocabulary
from bessemer.engine.rungs.rung import Prediction, Rung, RungItem, parameters_of, softmax, text_of

KIND = "linear"


class LinearParameters(Frozen, frozen=True):
    """What the weights were calibrated by; it is in them."""

    factor: Annotated[float, msgspec.Meta(gt=0, le=1e6)] = 1.0
    shift: Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)] = 0.0


class Linear(Rung):
    """Softmax of weights over n-grams; the vocabulary's columns by labels."""

    def __init__(self, artefact: Artefact) -> None:
        """Raises EngineError for arrays of another kind or shape."""
        super().__init__(artefact)
        self.parameters = parameters_of(artefact, LinearParameters)
        arrays = Arrays(artefact.arrays)
        self.vocabulary = Vocabulary.of(arrays)
        self.weights = arrays.take("weights", np.float32, self.vocabulary.size, len(self.labels))
        self.intercept = arrays.take("intercept", np.float64, len(self.labels))
        arrays.done()

    @property
    def calibration(self) -> tuple[float, float]:
        """See `Rung`."""
        return self.parameters.factor, self.parameters.shift

    def predict(self, items: Sequence[RungItem]) -> Prediction:
        """See `Rung`."""
        n = len(items)
        logits, known, strange = self.vocabulary.logits([text_of(item) for item in items], self.weights)
        return Prediction(softmax(logits + self.intercept), known, strange, np.zeros(n, np.bool_))
