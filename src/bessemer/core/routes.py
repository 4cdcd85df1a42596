"""How requests are answered: targets, steps of a cascade with their calibrated confidence, what is promised of it, and
how that is watched.
"""

from bisect import bisect_left, bisect_right
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple

import msgspec

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


class OutcomeBound(Frozen, frozen=True):
    """A business outcome that is held against the confidence with which a rung answered."""

    metric: Name
    """Of the feedback that tells it: a boolean, or a number in [0, 1], of which more is better."""
    tolerance: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.1
    """How far below the confidence it may be on average."""


class MonitorPolicy(Frozen, frozen=True):
    """How the rungs of routes are watched: a part of their answers, drawn at random, is audited by later feedback."""

    delta: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.01
    """Chance of ever raising a false alarm between two changes of the route."""
    audit_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.02
    """Of the requests, the part whose feedback is asked for, whichever step answers."""
    metric: Name = "verdict"
    """Of the feedback: a boolean, or a number in [0, 1], of which more is better."""
    silent_days: Annotated[float, msgspec.Meta(gt=0)] = 7.0
    """Days that audited requests may be without any feedback."""
    outcome: OutcomeBound | None = None


class Monitor(MonitorPolicy, frozen=True, kw_only=True):
    """How the rungs of one route are watched."""

    alpha: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    """Mean loss of a rung's audited answers that is still as promised: of verdicts the share of wrong ones."""


class SemanticPolicy(Frozen, frozen=True):
    """When a kept answer is given to a question that only means the same."""

    budget: Annotated[float, msgspec.Meta(ge=0.001, le=0.5)] = 0.01
    """Largest share of such answers that may be another than the model's own."""
    similarity: Annotated[float, msgspec.Meta(ge=0.5, le=1)] = 0.95
    """Least cosine of the two questions' vectors."""
    check_share: Annotated[float, msgspec.Meta(ge=0.001, le=1)] = 0.05
    """Share of such answers that are asked anyway, and compared, once enough are known to be right."""
    same_answer: Annotated[float, msgspec.Meta(ge=0.5, le=1)] | None = None
    """Least cosine of two answers that say the same; None: they are equal but for case, spaces and marks at the end."""


class CachePolicy(Frozen, frozen=True):
    """Which answers of a route are kept, and for whom."""

    ttl_s: Annotated[float, msgspec.Meta(gt=0, le=30 * 24 * 3600)] = 3600.0
    """Seconds for which an answer is given again."""
    per: Literal["project", "key", "user"] = "project"
    """Who shares an answer: everybody of a project, or a key's or an end user's own requests alone."""
    semantic: SemanticPolicy | None = None
    """None: a question that only means the same is asked."""


class RungState(Frozen, frozen=True):
    """One rung of a route: thresholds that it may have, from the certified one to stricter ones."""

    grid: tuple[float, ...]
    step: int = 0
    """Place in the grid; len(grid): the rung is off."""

    @property
    def threshold(self) -> float | None:
        """Confidence at which it answers now; None: it is not asked."""
        return self.grid[self.step] if self.step < len(self.grid) else None


class FallbackAction(StrEnum):
    """How far a route has stepped back."""

    NONE = "none"
    RAISED = "raised"
    OFF = "off"
    INCUMBENT = "incumbent"


class FallbackState(Frozen, frozen=True):
    """A route's rungs by version id, in order, and whether the incumbent answers alone."""

    rungs: dict[str, RungState]
    incumbent_only: bool = False

    def action(self, rung: str) -> FallbackAction:
        """Say how far a rung has stepped back."""
        if self.incumbent_only:
            return FallbackAction.INCUMBENT
        at = self.rungs[rung]
        if at.step == 0:
            return FallbackAction.NONE
        return FallbackAction.RAISED if at.threshold is not None else FallbackAction.OFF


class ServedStep(NamedTuple):
    """A step that is asked now, with its place among all."""

    place: int
    step: Step


class Route(Frozen, frozen=True):
    """What a client writes in `model`: steps in order (a cascade has more than one), then fallbacks for failures."""

    name: str
    steps: tuple[Step, ...]
    fallbacks: tuple[Target, ...] = ()
    guarantee: Guarantee | None = None
    monitor: Monitor | None = None
    fallback: FallbackState | None = None
    """How far alarms have made it step back; None: it is as it was put."""
    cache: CachePolicy | None = None
    """None: every request is asked."""

    @property
    def rungs(self) -> dict[str, float]:
        """The threshold of each step that has one, by the version that it is calibrated for."""
        return {
            step.calibration.version: step.threshold
            for step in self.steps
            if step.threshold is not None and step.calibration is not None
        }

    def served(self) -> tuple[ServedStep, ...]:
        """Return the steps that are asked now, in order: of a rung that has stepped back more is wanted, or nothing."""
        state = self.fallback
        every = tuple(ServedStep(place, step) for place, step in enumerate(self.steps))
        if state is None:
            return every
        if state.incumbent_only:
            return every[-1:]
        found = []
        for place, step in every:
            rung = None if step.calibration is None else state.rungs.get(step.calibration.version)
            if rung is None or step.threshold is None:
                found.append(ServedStep(place, step))
            elif (threshold := rung.threshold) is not None:
                found.append(ServedStep(place, msgspec.structs.replace(step, threshold=threshold)))
        return tuple(found)

    @property
    def targets(self) -> list[Target]:
        """All that it may ask, those of its fallbacks included."""
        return [*(target for step in self.steps for target in step.targets), *self.fallbacks]


class RungReport(Frozen, frozen=True):
    """What the monitor knows of one rung since the route changed last."""

    rung: str
    action: FallbackAction
    threshold: float | None
    """Confidence at which it answers now; None: it is not asked."""
    audited: int
    """Audited answers with feedback that counts."""
    loss: float | None
    """Their mean; None: there are none."""
    wealth: float
    """Evidence that the loss is above `alpha`: 1 at first, an alarm at `alarm_at`."""
    alarm_at: float


class MonitorReport(Frozen, frozen=True):
    """What the monitor of a route knows."""

    route: str
    since: float
    """When the route changed last: what was answered before does not count."""
    monitor: Monitor | None
    """None: nothing watches this route."""
    rungs: tuple[RungReport, ...]
    last_feedback_at: float | None
    """On an audited answer."""
    guarantee_void: str | None
    """Why the route's guarantee does not hold now; None: it does, or there is none."""
