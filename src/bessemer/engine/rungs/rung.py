"""What all rungs are: an item in, probabilities of the labels out, and whether the item is one it was made for."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from bessemer.core.errors import EngineError
from bessemer.core.types import JSON, Frozen
from bessemer.engine.rungs.artefact import Arrays, Artefact

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
MAX_TEXT = 32_768
"""Characters of a text that a rung reads; what follows is not read."""
P = TypeVar("P", bound=Frozen)


class RungItem(NamedTuple):
    """What is asked: the text of the request, and its structured input where it has one."""

    text: str = ""
    input: JSON | None = None


def text_of(item: RungItem) -> str:
    """Return what is read as text: the request's own, or the values of its structured input by the order of keys."""
    return (item.text or "\n".join(_values(item.input)))[:MAX_TEXT]


def _values(value: object, depth: int = 0) -> list[str]:
    if isinstance(value, dict) and depth < 8:
        return [text for key in sorted(value, key=str) for text in _values(value[key], depth + 1)]
    if isinstance(value, list | tuple) and depth < 8:
        return [text for one in value for text in _values(one, depth + 1)]
    return [] if value is None else [str(value)]


class Prediction(NamedTuple):
    """What a rung says of n items; k labels."""

    probabilities: Floats
    """[n, k]; each row sums to 1."""
    known_share: Floats
    """[n]: idf-weighted share of known n-grams; NaN where the rung has no such signal."""
    distance: Floats
    """[n]: distance to the training inputs; NaN where the rung has no such signal."""
    unread: Flags
    """[n]: the item has another form than the rung's: it must be handed over, whatever the probabilities."""


class Rung(ABC):
    """An opened artefact. Threads may share it."""

    def __init__(self, artefact: Artefact) -> None:
        self.manifest = artefact.manifest
        self.labels = artefact.manifest.labels
        self._bias = np.array(self.manifest.bias or (0.0,) * len(self.labels))

    @abstractmethod
    def predict(self, items: Sequence[RungItem]) -> Prediction:
        """Return what it says of the items. Any text is answered, if only with `unread`."""

    def told(self) -> list[str]:
        """Return in lines what a person can read of it; most kinds have nothing."""
        return []

    def answers(self, said: Prediction) -> npt.NDArray[np.int64]:
        """Return the place of each item's answer among the labels: the highest log-probability, bias added."""
        with np.errstate(divide="ignore"):
            places: npt.NDArray[np.int64] = (np.log(said.probabilities) + self._bias).argmax(axis=1)
        return places

    def outside(self, said: Prediction) -> Flags:
        """Whether each item is to be handed over: unread, or less familiar than the scope's thresholds allow."""
        scope = self.manifest.scope
        out = said.unread.copy()
        if scope.known_share is not None:
            out |= said.known_share < scope.known_share
        if scope.distance is not None:
            out |= said.distance > scope.distance
        return out


def parameters_of(artefact: Artefact, type_: type[P]) -> P:
    """Return the manifest's parameters as those of a kind. Raises EngineError."""
    try:
        return msgspec.convert(artefact.manifest.parameters, type_)
    except msgspec.ValidationError as error:
        raise EngineError(f"A rung of kind {artefact.manifest.kind!r} has other parameters: {error}.") from None


def softmax(logits: Floats) -> Floats:
    """Return the softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    total: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return total


def nothing(count: int) -> Floats:
    """Return a signal that says nothing of `count` items."""
    return np.full(count, np.nan)


class Majority(Rung):
    """Answers every item with the labels' shares in training."""

    def __init__(self, artefact: Artefact) -> None:
        """Raises EngineError for arrays of another kind."""
        super().__init__(artefact)
        parameters_of(artefact, MajorityParameters)
        arrays = Arrays(artefact.arrays)
        shares = arrays.take("shares", np.float64, len(self.labels))
        arrays.done()
        if (shares < 0).any() or not np.isclose(shares.sum(), 1.0):
            raise EngineError("The shares of a majority rung do not sum to 1.")
        self._shares: Floats = shares

    def predict(self, items: Sequence[RungItem]) -> Prediction:
        """See `Rung`."""
        n = len(items)
        return Prediction(np.tile(self._shares, (n, 1)), nothing(n), nothing(n), np.zeros(n, np.bool_))


class MajorityParameters(Frozen, frozen=True):
    """It has none."""
