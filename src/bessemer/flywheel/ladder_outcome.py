"""What a ladder decides on: a dataset's items, and systems with their answers to them."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from bessemer.core.datasets import Dataset, Example
from bessemer.core.routes import MonitorPolicy
from bessemer.core.types import Frozen
from bessemer.core.wire import LadderRequest
from bessemer.evals.measures import Metric
from bessemer.evals.runs import ItemScore

MODEL: Final = "model"
INCUMBENT: Final = "incumbent"


class FittedRung(Frozen, frozen=True):
    """What became of one kind."""

    kind: str
    version: str | None
    seconds: float
    skipped: str | None = None
    """Why there is none."""


class LadderSystem(NamedTuple):
    """What is scored: a rung, a model that joins, or the incumbent."""

    kind: str
    target: str
    fit_s: float | None = None


class LadderPlan(NamedTuple):
    """What a request means for a dataset: its items, answers and kinds."""

    request: LadderRequest
    dataset: Dataset
    labels: tuple[str, ...]
    kinds: tuple[str, ...]
    train: tuple[Example, ...]
    optimise: tuple[Example, ...]
    """Selection items: they calibrate, choose the best single rung and lay the path."""
    calibrate: tuple[Example, ...]
    """Calibration items: they test the path."""
    metric: Metric
    incumbent: str
    left_out: int
    joined: tuple[LadderSystem, ...] = ()
    """The request's `models`: rungs that were fitted before, and language models."""
    weights: tuple[float, ...] | None = None
    """How much of the traffic each calibration item stands for; None: all alike."""
    filter: str = "with feedback"
    """What these had to fulfil."""
    monitor: MonitorPolicy = MonitorPolicy()
    """How the route is to be watched."""

    def systems(self, fitted: Sequence[FittedRung]) -> list[LadderSystem]:
        """Return what is scored, the incumbent last."""
        own = [LadderSystem(one.kind, one.version, one.seconds) for one in fitted if one.version is not None]
        return [*own, *self.joined, LadderSystem(INCUMBENT, self.incumbent)]


class ScoredSystem(NamedTuple):
    """A system's answers to the selection and the calibration items, in their order."""

    system: LadderSystem
    optimise: tuple[ItemScore, ...]
    calibrate: tuple[ItemScore, ...]
    """Empty for a language model that does not pay."""
