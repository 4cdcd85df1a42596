"""How requests are answered: targets, steps of a cascade with their calibrated confidence, what is promised of it."""

from bisect import bisect_left, bisect_right
from enum import StrEnum
from typing import Literal

from bessemer.core.bounds import Name
from bessemer.core.types import Frozen


class Target(Frozen, frozen=True):
    """A model a route may ask: `model` (its newest base version), `model:alias`, or a version id `model@hash`."""

    model: Name
    weight: float = 1.0
    prompt: Name | None = None
    """Overrides the version's prompt."""


class ConfidenceScore(StrEnum):
    """What a confidence is made of; all but the last are natural logarithms."""

    CHOICE_MARGIN = "choice_margin"
    """log p(best) - log p(second) over the choices."""
    MEAN_LOGPROB = "mean_logprob"
    """Over the generated tokens that a grammar did not force; likewise the next two."""
    MIN_LOGPROB = "min_logprob"
    SUM_LOGPROB = "sum_logprob"
    FIELD_PROBABILITY = "field_probability"
    """Mean probability of the values of a JSON answer."""
    TOP_PROBABILITY = "top_probability"
    """Probability of the best choice."""


class VennAbers(Frozen, frozen=True):
    """Two step functions of a raw score: P(correct) had one more item of that score been wrong (p0), or right (p1).

    Under exchangeability one of the two is calibrated, for any number of items.
    """

    x: tuple[float, ...]
    """m scores, rising."""
    p0: tuple[float, ...]
    """[2 m + 1]: below x[0], at it, between it and x[1], at that, ..., above the last."""
    p1: tuple[float, ...]

    def at(self, score: float) -> tuple[float, float]:
        """Return p0 and p1."""
        place = bisect_left(self.x, score) + bisect_right(self.x, score)
        return self.p0[place], self.p1[place]

    def probability(self, score: float) -> float:
        """Return p1/(1 − p0 + p1), the one number between that loses least."""
        low, high = self.at(score)
        return high / (1.0 - low + high)


class Calibration(Frozen, frozen=True):
    """A monotone map from a raw confidence score to P(correct), bound to the version it was measured on."""

    version: Name
    score: ConfidenceScore
    dataset_sha256: Name
    x: tuple[float, ...]
    y: tuple[float, ...]
    """y[i] holds at score x[i]; linear in between, constant outside."""
    map: Literal["isotonic", "platt", "beta"] = "isotonic"
    """What was fitted; the knots are of it."""
    n: int | None = None
    """Items that it was fitted on; None in a calibration of an earlier release."""
    venn_abers: VennAbers | None = None
    """How far the items leave P(correct) open at each score."""


class Guarantee(Frozen, frozen=True):
    """What distribution-free risk control states about a cascade's threshold."""

    metric: str
    method: str
    alpha: float
    """Bound on the risk (loss of quality against the incumbent, in the metric's unit)."""
    delta: float
    """The bound holds with probability at least 1 - delta over calibration sets."""
    n: int
    dataset_sha256: str
    statement: str
    delta_spent: float | None = None
    """What this look may spend of delta, which all looks at the same items share."""
    look: int | None = None
    population: str | None = None
    """What the items are, and so what traffic the bound speaks of."""
    unknown: int | None = None
    """Items whose score is not known: counted against the small model."""
    versions: tuple[str, ...] = ()
    """The versions that were measured: with others the bound means nothing."""
    thresholds: tuple[float | None, ...] = ()
    """Of each rung before the last, in calibrated confidence; None: the rung is not asked."""
    floor: float | None = None
    """Least share of items that must be handed over for such a bound, by the items that the plan was made on."""


class Step(Frozen, frozen=True):
    """One step of a route: weighted targets; accepted when confidence reaches the threshold (None: always)."""

    targets: tuple[Target, ...]
    threshold: float | None = None
    calibration: Calibration | None = None


class Route(Frozen, frozen=True):
    """What a client writes in `model`: steps in order (a cascade has more than one), then fallbacks for failures."""

    name: str
    steps: tuple[Step, ...]
    fallbacks: tuple[Target, ...] = ()
    guarantee: Guarantee | None = None

    @property
    def targets(self) -> list[Target]:
        """All that it may ask, those of its fallbacks included."""
        return [*(target for step in self.steps for target in step.targets), *self.fallbacks]
