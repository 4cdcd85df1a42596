"""Bessemer's own wire objects: bodies and answers of its API beside OpenAI's (`core/openai.py`), for server and client.

Bodies refuse unknown fields by name. What is a noun on the wire as well is in the module of the noun.
"""

from typing import Annotated, Any, Final, Literal

import msgspec

from bessemer.core.access import Role
from bessemer.core.bounds import Label, Name, NewName, Note, Tags, UnixTime
from bessemer.core.conversation import ToolCall
from bessemer.core.datasets import Split
from bessemer.core.feedback import Feedback, FeedbackSource
from bessemer.core.inferences import Inference, ModelCall, TokenLogprob
from bessemer.core.models import Alias
from bessemer.core.openai import StrictWire, Wire
from bessemer.core.openai_batches import ExpiresAfter
from bessemer.core.routes import CachePolicy, ConfidenceScore, Guarantee, Monitor, Route, Step, Target
from bessemer.core.types import DEFAULT_PROJECT, JSON, Frozen

# -- what was asked, answered and said ---------------------------------------------------------------------------------

VERDICT: Final = "verdict"
"""The boolean metric that says whether an answer was right."""


class FeedbackRequest(StrictWire):
    """Body of POST /v1/feedback: exactly one of `inference_id` and `episode_id`."""

    metric: Name
    """`verdict` or another boolean or float metric of your own; `comment`; `demonstration` (a corrected answer)."""
    value: bool | float | str
    inference_id: Name | None = None
    episode_id: Name | None = None
    source: FeedbackSource | None = None
    """Of a reviewer's key: who or what judged, default `human`. Of an application's, `human` is a claim."""
    author: Name | None = None
    """A claim: the author is the key."""
    trust: float | None = None
    """Weight in [0, 1]: a claim, which makes the key's own trust smaller at most."""
    tags: Tags = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take a completion's own id for its inference: they differ in the prefix."""
        if self.inference_id is not None and self.inference_id.startswith("chatcmpl-"):
            self.inference_id = "inf-" + self.inference_id.removeprefix("chatcmpl-")


class ShownCall(ModelCall, frozen=True):
    """A ModelCall as a key sees it: null where content is withheld from it."""

    token_logprobs: tuple[TokenLogprob, ...] | None = ()  # type: ignore[assignment]
    tool_calls: tuple[ToolCall, ...] | None = ()  # type: ignore[assignment]


class ShownInference(Inference, frozen=True):
    """An Inference as a key sees it: null where content is withheld from it."""

    messages: tuple[JSON, ...] | None  # type: ignore[assignment]
    tools: tuple[JSON, ...] | None = ()  # type: ignore[assignment]
    tool_calls: tuple[ToolCall, ...] | None = ()  # type: ignore[assignment]
    input_sha256: str | None  # type: ignore[assignment]
    calls: tuple[ShownCall, ...]
    content: Literal["withheld"] | msgspec.UnsetType = msgspec.UNSET


class ShownFeedback(Feedback, frozen=True):
    """Feedback as a key sees it: a text is null where content is withheld from it."""

    value: bool | float | str | None  # type: ignore[assignment]
    content: Literal["withheld"] | msgspec.UnsetType = msgspec.UNSET


class ErasureRequest(StrictWire):
    """Body of POST /v1/erasures: every condition given must hold, and at least one must be given."""

    inference_ids: list[Name] = msgspec.field(default_factory=list)
    feedback_ids: list[Name] = msgspec.field(default_factory=list)
    """Feedback to erase by itself."""
    tags: Tags = msgspec.field(default_factory=dict)
    """Tags of the request, `user` among them: `{"user": "u-17"}` erases one person's requests."""
    route: Name | None = None
    since: UnixTime | None = None
    until: UnixTime | None = None
    dry_run: bool = False
    """Count and list, and erase nothing."""


class Derived(Frozen, frozen=True):
    """What was made of the erased records and is still there, by id."""

    datasets: tuple[str, ...]
    files: tuple[str, ...]
    jobs: tuple[str, ...]
    versions: tuple[str, ...]


class Erasure(Frozen, frozen=True):
    """What an erasure deleted, and what it left."""

    inferences: int
    model_calls: int
    feedback: int
    more: bool
    """Whether other inferences match: ask again."""
    derived: Derived
    dry_run: bool
    object: str = "bessemer.erasure"


class UsageRow(Frozen, frozen=True):
    """What was used by all requests that agree in what the row names; null is what they are not told apart by."""

    requests: int
    """Each counts once, with the call that answered it."""
    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    """Of the input's."""
    cost_usd: float | None
    """Sum over priced calls; None when no call has a price."""
    unpriced_calls: int
    seconds: float
    saved_usd: float
    """What answers from the cache would have cost anew."""
    route: str | None = None
    version: str | None = None
    """None also: no model was asked."""
    model: str | None = None
    provider: str | None = None
    key_id: str | None = None
    project_id: str | None = None
    tag: str | None = None
    """The value of the tag that was asked about."""


# -- files and datasets ------------------------------------------------------------------------------------------------


class UploadForm(StrictWire):
    """Form of POST /v1/files."""

    file: bytes
    """JSON Lines for `fine-tune` and `batch`, any bytes otherwise."""
    purpose: Literal["fine-tune", "batch", "assistants", "vision", "user_data", "evals"]
    expires_after: ExpiresAfter | None = None
    """In a form `expires_after[anchor]` and `expires_after[seconds]`."""


class FileDeleted(Wire, omit_defaults=False):
    """Answer of DELETE /v1/files/{id}."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class DatasetDeleted(Wire, omit_defaults=False):
    """Answer of DELETE /v1/datasets/{id}."""

    id: str
    object: Literal["dataset"] = "dataset"
    deleted: bool = True


_SPLITS = {Split.TRAIN: 0.7, Split.SELECTION: 0.1, Split.CALIBRATION: 0.1, Split.HOLDOUT: 0.1}


class DatasetRequest(StrictWire):
    """Body of POST /v1/datasets: which inferences, and how they are split."""

    name: NewName
    file_id: Name | None = None
    """An uploaded file whose rows are the examples, in place of inferences; of the other fields then `splits`, `salt`,
    `reference` and `split_tag` (the rows' field that names a split; default `split`)."""
    reference: Name | None = None
    """Of a file: the field of reinforcement rows that holds the right answer; default `reference_answer`."""
    route: Name | None = None
    """Inferences of this route; None: of all."""
    prompt: Name | None = None
    """Prompt that renders structured input into the messages of the files."""
    splits: dict[Split, float] = msgspec.field(default_factory=lambda: dict(_SPLITS))
    """Fractions of the inputs, summing to 1."""
    split_tag: Name | None = None
    """An inference with this tag is in the split that the tag names, whatever its hash; so is its input elsewhere. Who
    may ask writes tags: name one only where all who ask may decide what is held out."""
    salt: Name = ""
    """Another salt splits the same inputs differently."""
    since: UnixTime | None = None
    until: UnixTime | None = None
    tags: Tags = msgspec.field(default_factory=dict)
    """All of them must be on the inference."""
    metric: Name = VERDICT
    """The boolean metric that is the verdict."""
    supervised: bool = False
    """The files end in the assistant's right answer, and hold only rows that have one."""
    deduplicate: bool = True
    """One row per input; otherwise one per inference, still with an input in one split alone."""
    require_feedback: bool = True
    """Leave out inferences of which nothing was learned."""
    include_evaluations: bool = False
    """Take in inferences that Bessemer made itself."""
    limit: int | None = None
    """At most this many inferences, the latest."""


# -- jobs --------------------------------------------------------------------------------------------------------------


class JobObject(Wire, omit_defaults=False):
    """`bessemer.job`: `progress` is set while it is on its way, where it can say so, `result` when it has succeeded."""

    id: str
    kind: str
    status: str
    created_at: int
    request: JSON
    started_at: int | None = None
    finished_at: int | None = None
    error: JSON | None = None
    result: JSON | None = None
    object: Literal["bessemer.job"] = "bessemer.job"
    progress: JSON | msgspec.UnsetType = msgspec.UNSET


class JobEvent(Frozen, frozen=True):
    """Something that a job tells."""

    id: str
    job_id: str
    seq: int
    created_at: float
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"] = "message"
    data: JSON | None = None


MetricName = Literal["accuracy", "f1", "attributes", "reward"]


class EvaluationRequest(StrictWire):
    """Body of POST /v1/evaluations: score systems on a dataset split, and gate a candidate against a reference."""

    dataset: Name
    """Id of a dataset."""
    systems: list[Name]
    """Routes, models, aliases or version ids: whatever a client may write in `model`."""
    split: Split = Split.HOLDOUT
    metric: MetricName = "accuracy"
    labels: tuple[Label, ...] = ()
    """accuracy and f1: the labels an answer may have."""
    positive: Label | None = None
    """f1: the label that counts as positive."""
    grader: JSON | None = None
    """reward: the grader whose mean reward is the score."""
    candidate: Name | None = None
    """One of `systems`: the gate asks whether it is not worse than `reference`, on the whole hold-out split."""
    reference: Name | None = None
    """The present champion, or while there is none the incumbent."""
    margin: float | None = None
    """Largest loss of score that still counts as not worse, in the metric's unit; None: the operator's."""
    limit: int | None = None
    """At most this many examples; None: all."""
    seed: int = 0
    temperature: float | None = None
    """Of every answer; None: each system's own, as its default traffic has it."""


CascadeRule = Literal["loss", "error", "f1", "bootstrap"]


class CascadeRequest(StrictWire):
    """Body of POST /v1/cascades: calibrate a small model, choose a threshold with a guarantee, write a route."""

    route: Name
    """The route to write."""
    small: Name
    """Target asked first."""
    large: Name
    """Target that answers when the small one is not confident enough."""
    dataset: Name
    split: Split = Split.CALIBRATION
    metric: MetricName = "accuracy"
    labels: tuple[Label, ...] = ()
    positive: Label | None = None
    grader: JSON | None = None
    rule: CascadeRule = "loss"
    """loss: mean quality lost against the large model is at most alpha. error: of the answers that the small model
    keeps, at most alpha are wrong (the large model's quality need not be known). f1: F1 is at least the large model's
    minus alpha. bootstrap: the same as f1, but not distribution-free."""
    attributes: int = 20
    """attributes: how many an item can have at most; bounds the metric's terms before any is seen."""
    score: ConfidenceScore = ConfidenceScore.CHOICE_MARGIN
    alpha: float = 0.02
    """Bound on the risk, in the metric's unit."""
    delta: float = 0.1
    """The bound holds with probability at least 1 - delta."""
    activate: bool = True
    """False: report the curve and the threshold, but leave the route as it is."""


class LadderRequest(StrictWire):
    """Body of POST /v1/ladders: fit rungs on a dataset, score them, join them into one route under a guarantee."""

    route: Name
    """The route to write; rungs are named after it."""
    dataset: Name
    incumbent: Name | None = None
    """Route, model or version that answers last; None: what the route asks now."""
    rungs: tuple[Name, ...] = ()
    """Kinds of rungs to fit; none named: all that suit."""
    models: tuple[Name, ...] = ()
    """Versions or models that are rungs already, as a tuned language model is: asked after the fitted ones."""
    metric: Literal["accuracy", "f1", "attributes"] = "accuracy"
    """attributes: micro-F1 of answers that are JSON objects of texts; the rung `spans` finds their values."""
    attributes: int = 20
    """attributes: how many an answer can have at most; bounds the metric's terms before any is seen."""
    labels: tuple[Label, ...] = ()
    """The answers that there are; none named: those that the dataset's feedback names. None for `attributes`."""
    positive: Label | None = None
    """f1: the label that counts as positive."""
    quality: float | None = None
    """The best single rung is the cheapest of at least this score; None: of what the best of all has, less alpha."""
    alpha: float = 0.02
    """What the route may lose against the incumbent, in the metric's unit."""
    delta: float = 0.1
    """The bound holds with probability at least 1 - delta."""
    seconds: float = 60.0
    """No further rung is fitted after this time."""
    refit: bool = False
    """Rungs that the route asks now go on from where they are, with the feedback that came since."""
    seed: int = 0
    activate: bool = True
    """False: report, but leave the route as it is."""


class WantedBody(StrictWire):
    """Body of POST /v1/feedback/wanted: which requests to judge next, so that a route's rungs learn most of it."""

    route: Name
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 20


class WantedFeedback(Wire, omit_defaults=False):
    """One request that is worth a label, the best first."""

    inference_id: str
    output: str | None
    score: float
    """P(it would be handed over) x USD that are saved then, or 1 where no cost is known, x share of traffic alike."""
    confidence: float | None
    """With which a rung answered it; None: no rung was asked."""
    alike: int
    """Requests without feedback that this one stands for, itself included."""


class GraderBody(StrictWire):
    """Body of POST /v1/fine_tuning/alpha/graders/validate."""

    grader: JSON


class GraderRunBody(StrictWire):
    """Body of POST /v1/fine_tuning/alpha/graders/run."""

    grader: JSON
    model_sample: str
    item: dict[str, Any] = msgspec.field(default_factory=dict)


# -- routes and versions -----------------------------------------------------------------------------------------------


class RouteBody(StrictWire):
    """A route to write: `targets` is the short form of one step that is always accepted."""

    name: Name | None = None
    """Required by POST; PUT takes it from the path."""
    targets: list[Name | Target] | None = None
    steps: list[Step] | None = None
    fallbacks: list[Name | Target] = msgspec.field(default_factory=list)
    guarantee: Guarantee | None = None
    """Refused: a cascade job alone writes one."""
    monitor: Monitor | None = None
    """How the rungs among the steps are watched."""
    cache: CachePolicy | None = None
    """Which answers are given again to those who ask the same."""
    force: bool = False
    """Ask versions that have not passed a gate: an owner may, with a `reason`."""
    reason: Note = ""


class ReasonBody(StrictWire):
    """Body of POST /v1/routes/{name}/rollback."""

    reason: Note = ""


class RolledBackRoute(Wire, omit_defaults=False):
    """Answer of POST /v1/routes/{name}/rollback; `route` is null when nothing was in force before."""

    name: str
    route: Route | None


class PromoteBody(StrictWire):
    """Body of POST /v1/versions/{id}/promote."""

    alias: Name = "champion"
    evaluation: Name | None = None
    """The evaluation whose gate the version passed; None: the newest whose gate counts for it."""
    reason: Note = ""


class RollbackBody(StrictWire):
    """Body of POST /v1/models/{model}/rollback."""

    alias: Name = "champion"
    reason: Note = ""


class RolledBackAlias(Wire, omit_defaults=False):
    """Answer of POST /v1/models/{model}/rollback; `alias` is null when it named nothing before."""

    model: str
    name: str
    alias: Alias | None


# -- keys and audit ----------------------------------------------------------------------------------------------------


class KeyInfo(Frozen, frozen=True):
    """A key without its secret."""

    id: str
    name: str
    role: Role
    created_at: float
    hint: str
    """The key's last four characters."""
    revoked_at: float | None = None
    project_id: str = DEFAULT_PROJECT
    expires_at: float | None = None
    """From then on it is refused; None: never. Unix seconds, as the others."""
    last_used_at: float | None = None
    """To a minute; None: never yet."""
    trust: float = 1.0
    """Weight of the feedback that it gives, in [0, 1]."""
    models: tuple[str, ...] | None = None
    """Routes and models that it may ask for; None: all of its project."""


class KeyBody(StrictWire):
    """Body of POST /v1/keys."""

    name: Name
    role: Role = Role.MEMBER
    project: Name | None = None
    """Default: the caller's own; another needs an owner of the default project."""
    expires_at: float | None = None
    """Unix seconds; None: it does not expire."""
    models: list[Name] | None = None
    """Routes and models that it may ask for; None: all of its project."""
    trust: float = 1.0
    """Weight of the feedback that it gives, in [0, 1]."""


class NewKey(KeyInfo, frozen=True, kw_only=True):
    """Answer of POST /v1/keys: the only one that holds the key itself."""

    key: str


AuditOutcome = Literal["allowed", "denied"]


class AuditEvent(Frozen, frozen=True):
    """One action of a principal."""

    id: str
    created_at: float
    actor: str
    """Id of the key, or `system`; for a call without a valid key, the address that it came from."""
    action: str
    """Noun and past participle: `route.updated`, `api_key.created`, `authorization.denied`."""
    subject: str
    """Id or name of what was acted upon; for what was denied, method and path pattern of the endpoint."""
    detail: JSON = msgspec.field(default_factory=dict)
    """Ids, names and settings; never content, never a secret."""
    outcome: AuditOutcome = "allowed"
    project_id: str = DEFAULT_PROJECT
