"""The nouns of a ladder: its rungs as they were scored, the path that was tested, the route that is proposed."""

from bessemer.core.routes import Guarantee, Step
from bessemer.core.types import Frozen, Interval


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
