"""What a ladder decides on, and what it decides: systems with their answers to the same items, and the result."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from bessemer.core.types import Dataset, Example, Frozen, Guarantee, Interval, Step
from bessemer.core.wire import LadderRequest
from bessemer.evals.measures import Metric
from bessemer.evals.runs import ItemScore
from bessemer.flywheel.rungs import FittedRung

MODEL: Final = "model"
INCUMBENT: Final = "incumbent"


class RungRow(Frozen, frozen=True):
    """One rung, scored on the selection split."""

    kind: str
    """Of the fit; `model` for one that was there, `incumbent` for the last."""
    version: str | None
    quality: Interval | None
    n: int
    usd_per_1k: float | None
    ms: float | None
    """Median of its answers' milliseconds, the gateway included; None where they were recorded earlier."""
    fit_s: float | None
    ece: float | None
    """Expected calibration error of its confidence."""
    skipped: str | None = None


class LadderPoint(Frozen, frozen=True):
    """One vector of thresholds on the path that was tested."""

    thresholds: tuple[float | None, ...]
    """Of each rung but the last; None: it is never asked."""
    usd_per_1k: float | None
    risk: float
    p_value: float | None


class LadderResult(Frozen, frozen=True):
    """What was fitted, measured and decided."""

    route: str
    incumbent: str
    rungs: tuple[RungRow, ...]
    best_single: str | None
    """The cheapest version of at least the quality that was asked for."""
    steps: tuple[Step, ...]
    """Of the route that is proposed; none: nothing was certified."""
    shares: tuple[float, ...]
    """Part of the calibration items that each step answers."""
    usd_per_1k: float | None
    """Of the proposed route."""
    guarantee: Guarantee | None
    curve: tuple[LadderPoint, ...]
    look: int
    delta_spent: float
    summary: str
    seconds: float
    applied: bool


class System(NamedTuple):
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

    def systems(self, fitted: Sequence[FittedRung]) -> list[System]:
        """Return what is scored, the incumbent last."""
        own = [System(one.kind, one.version, one.seconds) for one in fitted if one.version is not None]
        return [*own, *(System(MODEL, name) for name in self.request.models), System(INCUMBENT, self.incumbent)]


class Scored(NamedTuple):
    """A system's answers to the selection and the calibration items, in their order."""

    system: System
    optimise: tuple[ItemScore, ...]
    calibrate: tuple[ItemScore, ...]
