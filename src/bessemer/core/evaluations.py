"""The nouns of an evaluation and of a cascade: what was scored, the gate's decision, the threshold and its promise."""

from bessemer.core.datasets import Split
from bessemer.core.routes import Calibration, Guarantee
from bessemer.core.types import Frozen, Interval


class Bounds(Frozen, frozen=True):
    """A score of which a part is not known: what it is if all of that is wrong, and if all of it is right."""

    worst: Interval
    best: Interval


class EvaluationRow(Frozen, frozen=True):
    """One system scored on one dataset split."""

    name: str
    version: str | None
    n: int
    unscorable: int
    """Items that failed, or of which nothing is known that could be scored."""
    score: Interval | None
    """None where nothing counts, and where the truth of any item is open: see `bounds`."""
    cost_usd: float | None
    input_tokens: int | None
    output_tokens: int | None
    latency_p50_s: float | None
    latency_p95_s: float | None
    provider: str | None = None
    temperature: float | None = None
    """All answers were drawn at; None: not all at one, or at an upstream's own default."""
    small_share: float | None = None
    """Share of items that the route's first step answered by itself; None for a single version."""
    known: int | None = None
    """Items with a score; None in a row of an earlier release."""
    unknown: int | None = None
    """Items whose truth is open: the recorded answer was judged wrong, and nobody said what is right."""
    bounds: Bounds | None = None
    """The score at worst and at best, where items are unknown."""
    estimate: Interval | None = None
    """Where items are unknown, the share of right answers by the verdicts on what this version answered when a route
    drew it; None where that is not valid."""


class GateResult(Frozen, frozen=True):
    """The stated non-inferiority rule and its outcome for a candidate against a reference."""

    passed: bool
    rule: str
    difference: Interval | None
    """Candidate minus reference; None: the metric is undefined on the items that were scored."""
    margin: float
    candidate: str | None = None
    reference: str | None = None
    n: int | None = None
    """Pairs compared; None, like the rest, in a result of an earlier rule."""
    discordant: int | None = None
    """Pairs on which the two scores differ."""
    unknown: int | None = None
    """Of the pairs, those in which a score is not known: counted against the candidate."""
    look: int | None = None
    """This is the k-th look at these items."""
    alpha: float | None = None
    """What this look may spend: the chance that a candidate worse by the margin passes it."""
    p_value: float | None = None
    power: float | None = None
    """About how often a candidate as good as the reference passes, at this n, discordance and alpha."""
    method: str | None = None


class Evaluation(Frozen, frozen=True):
    """Versions scored on a dataset by a grader or metric, with the gate's result."""

    id: str
    dataset: str
    split: Split
    metric: str
    created_at: float
    rows: tuple[EvaluationRow, ...]
    gate: GateResult | None = None
    left_out: int | None = None
    """Examples of the split that nobody was scored on, because a system was trained on their input; None in a result of
    an earlier release."""


class ReliabilityBin(Frozen, frozen=True):
    """Items with confidence in [low, high): what was said and what was so."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


class CascadePoint(Frozen, frozen=True):
    """One threshold of the quality-cost curve on the items that it was chosen on."""

    threshold: float
    accepted_share: float
    risk: float
    p_value: float | None


class CascadeResult(Frozen, frozen=True):
    """What was measured and decided. `threshold` is None when nothing was certified: the route stays as it was."""

    route: str
    small: str
    large: str
    threshold: float | None
    accepted_share: float | None
    guarantee: Guarantee | None
    calibration: Calibration
    curve: tuple[CascadePoint, ...]
    expected_calibration_error: float
    reliability: tuple[ReliabilityBin, ...]
    """Confidence against correctness on the items that the map has not seen."""
    applied: bool
    look: int | None = None
    """This was the k-th look at the calibration items, which spent `delta_spent`."""
    delta_spent: float | None = None
    unknown: int | None = None
    """Calibration items whose score is not known, counted against the small model."""
    left_out: int | None = None
    """Examples of either split that were not asked, because the small or the large model was trained on their input;
    None in a result of an earlier release."""
