"""Wire types of Bessemer's own control API, where OpenAI has no place for it. Unknown fields are refused."""

from typing import Any, Literal

import msgspec

from bessemer.core.openai import JSON, StrictWire
from bessemer.core.types import Guarantee, Role, Split, Step, Target

MetricName = Literal["accuracy", "f1", "attributes", "reward"]


class EvaluationRequest(StrictWire):
    """Body of POST /v1/evaluations: score systems on a dataset split, and gate a candidate against a reference."""

    dataset: str
    """Id of a dataset."""
    systems: list[str]
    """Routes, models, aliases or version ids: whatever a client may write in `model`."""
    split: Split = Split.HOLDOUT
    metric: MetricName = "accuracy"
    labels: list[str] = []
    """accuracy and f1: the labels an answer may have."""
    positive: str | None = None
    """f1: the label that counts as positive."""
    grader: JSON | None = None
    """reward: the grader whose mean reward is the score."""
    candidate: str | None = None
    """One of `systems`: the gate asks whether it is not worse than `reference`."""
    reference: str | None = None
    margin: float = 0.01
    """Largest loss of score that still counts as not worse, in the metric's unit."""
    limit: int | None = None
    """At most this many examples; None: all."""
    seed: int = 0
    promote: str | None = None
    """Alias to move to the candidate's version when the gate passes; None: move nothing."""
    metadata: dict[str, str] = {}


class CascadeRequest(StrictWire):
    """Body of POST /v1/cascades: calibrate a small model, choose a threshold with a guarantee, write a route."""

    route: str
    """The route to write."""
    small: str
    """Target asked first."""
    large: str
    """Target that answers when the small one is not confident enough."""
    dataset: str
    split: Split = Split.CALIBRATION
    metric: MetricName = "accuracy"
    labels: list[str] = []
    positive: str | None = None
    grader: JSON | None = None
    rule: Literal["loss", "error", "f1", "bootstrap"] = "loss"
    """loss: mean quality lost against the large model is at most alpha. error: of the answers that the small model keeps,
    at most alpha are wrong (the large model's quality need not be known). f1: F1 is at least the large model's minus
    alpha, or at least `target`. bootstrap: the same as f1, but not distribution-free."""
    target: float | None = None
    """f1 and bootstrap: quality to keep when the large model cannot be asked about the calibration split."""
    score: str = "choice_margin"
    """Raw confidence: choice_margin, mean_logprob, min_logprob or sum_logprob."""
    alpha: float = 0.02
    """Bound on the risk, in the metric's unit."""
    delta: float = 0.1
    """The bound holds with probability at least 1 - delta."""
    limit: int | None = None
    seed: int = 0
    activate: bool = True
    """False: report the curve and the threshold, but leave the route as it is."""
    metadata: dict[str, str] = {}


class Job(StrictWire, omit_defaults=False):
    """`bessemer.job`: an evaluation or a cascade on its way; `result` is set when it has succeeded."""

    id: str
    kind: str
    status: str
    created_at: int
    request: JSON
    started_at: int | None = None
    finished_at: int | None = None
    error: JSON | None = None
    result: JSON | None = None
    metadata: dict[str, str] = {}
    object: Literal["bessemer.job"] = "bessemer.job"


class RouteBody(StrictWire):
    """A route to write: `targets` is the short form of one step that is always accepted."""

    name: str | None = None
    """Required by POST; PUT takes it from the path."""
    targets: list[str | Target] | None = None
    steps: list[Step] | None = None
    fallbacks: list[str | Target] = []
    guarantee: Guarantee | None = None
    reason: str = ""


class PromoteRequest(StrictWire):
    """Body of POST /v1/versions/{id}/promote."""

    alias: str = "champion"
    reason: str = ""


class RollbackRequest(StrictWire):
    """Body of POST /v1/models/{model}/rollback and /v1/routes/{name}/rollback (which has no alias)."""

    alias: str = "champion"
    reason: str = ""


class KeyRequest(StrictWire):
    """Body of POST /v1/keys."""

    name: str
    role: Role = Role.MEMBER


class GraderRequest(StrictWire):
    """Body of POST /v1/fine_tuning/alpha/graders/validate."""

    grader: JSON


class GraderRunRequest(StrictWire):
    """Body of POST /v1/fine_tuning/alpha/graders/run."""

    grader: JSON
    model_sample: str
    item: dict[str, Any] = msgspec.field(default_factory=dict)
