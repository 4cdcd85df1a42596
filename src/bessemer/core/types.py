"""The nouns: frozen, serialisable, shared by every module. One meaning each (docs/architecture.md)."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar

import msgspec

from bessemer.core.bounds import Name
from bessemer.core.errors import ConfigError

JSON = dict[str, Any]
DEFAULT_PROJECT = "proj_default"
"""The project of what was made before there were projects, and of keys that name none."""


class Frozen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False):
    """Base of all nouns: immutable, keyword-only, unknown fields refused."""


# -- registry ---------------------------------------------------------------------------------------------------------


class Capability(StrEnum):
    """What a provider can do."""

    COMPLETE = "complete"
    """Answer a conversation."""
    EMBED = "embed"
    """Turn texts into vectors."""
    ADAPTERS = "adapters"
    """Serve what is tuned here: a version is the model and an adapter."""
    LOGPROBS = "logprobs"
    """Tell the log-probabilities of what it generates."""
    TOOLS = "tools"
    """Ask to have a tool called."""
    INPUT = "input"
    """Read structured input as it is, without a prompt that renders it."""


class ConfiguredAt(NamedTuple):
    """Where settings stand in the configuration file, and what their paths may speak of."""

    place: str
    """The table, as in `models.large`."""
    data: Path
    """The data folder: `{data}`."""


class ProviderSettings(Frozen, frozen=True):
    """What a model's table in the configuration file says to its provider alone; each provider has its own fields.

    The class attributes say what the provider can do, so that nothing else knows a provider by name.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.COMPLETE})
    dialect: ClassVar[str | None] = None
    """The wire format that it speaks upstream: clients of the same are forwarded what no noun stands for."""
    shares_machine: ClassVar[bool] = False
    """All its models compute on this machine and share its seconds; others are a machine each."""
    temperature: ClassVar[float | None] = None
    """How free text is generated where neither client nor version says; None: it has a default of its own."""
    choice_temperature: ClassVar[float | None] = None
    """The same, of an answer that is one of a few."""

    def completed(self, at: ConfiguredAt) -> Self:  # noqa: ARG002 - for those that override it
        """Return the settings with their paths filled in. Raises ConfigError for what cannot be."""
        return self

    def identity(self, name: str) -> JSON:  # noqa: ARG002 - for those that override it
        """Return what decides which model answers, of the model called `name`: another identity is another version."""
        return as_json(self)

    def secrets(self, place: str, environ: Mapping[str, str]) -> tuple[str, ...]:  # noqa: ARG002
        """Return what no log may hold. Raises ConfigError when one that is needed is missing."""
        return ()


S = TypeVar("S", bound=ProviderSettings)


class Price(Frozen, frozen=True):
    """A dated list price. Token prices in USD per million tokens; an hourly price charges measured seconds instead."""

    id: str
    source: str
    date: str
    input_per_million: float | None = None
    output_per_million: float | None = None
    cached_input_per_million: float | None = None
    """Of the input tokens that the provider found in its cache; None: they cost what the others do."""
    per_hour: float | None = None


class Prompt(Frozen, frozen=True):
    """How structured input becomes chat messages: `{{input.x}}` templates."""

    name: str
    user: str
    system: str | None = None
    choices: tuple[str, ...] = ()
    """When set, the answer is one of these, scored in one pass; a version's own `choices` win."""
    response_schema: JSON | None = None
    """JSON schema of the answer."""
    grammar: str | None = None
    """Lark grammar of the answer, itself a template; see ModelVersion."""
    max_tokens: int | None = None


class Model(Frozen, frozen=True):
    """A servable model: where its answers come from and what they cost."""

    name: str
    provider: str
    """Name of what stands behind it, as the table of providers has it."""
    settings: ProviderSettings
    """What the provider needs to know of it."""
    price: str | None = None
    """Id of the Price; None: what its calls cost is not known."""
    context_tokens: int = 2048

    def settings_as(self, kind: type[S]) -> S:
        """Return the settings as those of a provider. Raises ConfigError for a model of another one."""
        if not isinstance(self.settings, kind):
            raise ConfigError(f"[models.{self.name}]: its provider {self.provider!r} cannot do this.", param="provider")
        return self.settings

    def can(self, capability: Capability) -> bool:
        """Whether its provider can do that."""
        return capability in self.settings.capabilities


class Lineage(Frozen, frozen=True):
    """Where a version came from; everything needed to make it again."""

    base: str
    """The version that it started from; for a model itself, `name:hash` of where it is served from."""
    weights: str | None = None
    """`base` of the model whose weights an adapter was trained on: on others it means nothing."""
    dataset_sha256: str | None = None
    grader: JSON | None = None
    method: str | None = None
    hyperparameters: JSON | None = None
    seed: int | None = None
    code_commit: str | None = None
    job_id: str | None = None


class ModelVersion(Frozen, frozen=True):
    """One immutable version of a model: the provider's model itself, or base plus adapter, prompt and answer rules."""

    id: str
    """`model@hash` (12 hex digits of the content hash)."""
    model: str
    created_at: float
    prompt: str | None = None
    """Name of the Prompt that renders structured input for this version."""
    prompt_sha256: str | None = None
    """Content hash of that prompt: another text under its name would be another version."""
    adapter_sha256: str | None = None
    """Blob (a tar of the peft adapter folder) to apply to the base; None is the base itself."""
    choices: tuple[str, ...] = ()
    """When set, the answer is one of these, scored in one pass."""
    choice_bias: tuple[float, ...] = ()
    """Added to each choice's log-probability before the softmax; chosen on a selection split."""
    response_schema: JSON | None = None
    grammar: str | None = None
    """A Lark grammar template (`{{input.x}}` filled per request) that constrains the answer."""
    field_threshold: float = 0.0
    """JSON answers: values whose probability is below are left out; chosen on a selection split."""
    max_tokens: int = 256
    temperature: float | None = None
    """How it answers who asks for no temperature: default traffic, evaluations, gates and cascades alike. None: the
    provider's default, which of the built-in engine is 0 for choices and 1 for text."""
    lineage: Lineage | None = None
    rung_sha256: str | None = None
    """Blob of a rung's manifest, which names the blob of its arrays: it answers, and no language model does."""


class Alias(Frozen, frozen=True):
    """A movable name on the versions of a model: `champion`, `challenger`."""

    model: str
    name: str
    version: str
    moved_at: float
    reason: str = ""
    evaluation: str | None = None
    """The evaluation whose gate the move stands on."""


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


# -- inference --------------------------------------------------------------------------------------------------------


class TokenLogprob(Frozen, frozen=True):
    """A generated token and its log-probability (natural log) under the version that answered."""

    token: str
    logprob: float
    forced: bool = False
    """A grammar left no other token: no decision was made here, so confidence scores leave it out."""


class ModelCall(Frozen, frozen=True):
    """One attempt at one provider."""

    id: str
    inference_id: str
    step: int
    version: str
    provider: str
    output: str | None
    finish_reason: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    latency_s: float
    created_at: float
    ttft_s: float | None = None
    cached_tokens: int | None = None
    token_logprobs: tuple[TokenLogprob, ...] = ()
    choice_logprobs: dict[str, float] | None = None
    """Normalised log-probability per choice, when the answer is enumerable."""
    score: float | None = None
    """Raw confidence score named by the step's calibration."""
    confidence: float | None = None
    """Calibrated P(correct)."""
    accepted: bool = True
    propensity: float = 1.0
    """Probability with which the router drew this target in this step."""
    prompt: str | None = None
    temperature: float | None = None
    """It was asked at; None: the upstream's own default, or a record from before it was kept."""
    error: str | None = None
    error_detail: str | None = None
    """What the upstream itself said, masked and cut; shown to who may do everything, and to nobody else."""
    reasoning: str | None = None
    """What the model thought before it answered, where it was told."""
    refusal: str | None = None
    """What the model said in place of an answer."""


INTERNAL_KEY = "internal"
"""Key id of what Bessemer asks itself."""


class Split(StrEnum):
    """Parts of a dataset; an input is in exactly one of them, by hash."""

    TRAIN = "train"
    SELECTION = "selection"
    """Chooses checkpoints, biases, hyperparameters."""
    CALIBRATION = "calibration"
    """Calibrates confidence and sets cascade thresholds; nothing else sees it."""
    HOLDOUT = "holdout"
    """Seen by the final evaluation alone."""


class Inference(Frozen, frozen=True):
    """One client request and its answer. Appended once."""

    id: str
    route: str
    created_at: float
    key_id: str
    messages: tuple[JSON, ...]
    """As the client sent them; empty when only structured input was sent."""
    input: JSON | None
    """Structured input, when the client sent it: renders again through any later prompt."""
    input_sha256: str
    """`input_hash` of `input`, or of `messages` without one: splits are made by it."""
    output: str | None
    finish_reason: str | None
    version: str | None
    """The version whose answer was returned."""
    input_tokens: int | None
    """Of all calls; None when those of any are unknown, and so on for the output and the cost."""
    output_tokens: int | None
    cost_usd: float | None
    latency_s: float
    propensity: float
    config_sha256: str
    calls: tuple[ModelCall, ...]
    ttft_s: float | None = None
    episode_id: str | None = None
    tags: dict[str, str] = {}
    """The client's own."""
    user: str | None = None
    """OpenAI's `user`, as the client sent it."""
    origin: str | None = None
    """Why Bessemer asked this itself (evaluation, judge); None: a client did. No client can write it."""
    split: Split | None = None
    """The split that a key with the right to contribute gave the input."""
    hash_version: int = 1
    """Of `input_sha256`; rows of version 1 kept `user` and `origin` among their tags."""
    error: str | None = None
    project_id: str = DEFAULT_PROJECT
    on_behalf_of: str | None = None
    """The key for whose job or grade Bessemer itself asked; None when `key_id` is the client's."""
    reasoning: str | None = None
    refusal: str | None = None
    policy_sha256: str | None = None
    """Of the policy that allowed it; None in a row of an earlier release."""

    @property
    def made_by_bessemer(self) -> bool:
        """Whether no client asked this."""
        return self.origin is not None or (self.hash_version == 1 and self.key_id == INTERNAL_KEY)

    def has_tags(self, wanted: Mapping[str, str]) -> bool:
        """Whether all pairs are among the tags; `user` may be OpenAI's field as well."""
        return all(
            self.tags.get(name) == value or (name == "user" and self.user == value) for name, value in wanted.items()
        )


class FeedbackKind(StrEnum):
    """The closed set of feedback."""

    BOOLEAN = "boolean"
    FLOAT = "float"
    COMMENT = "comment"
    DEMONSTRATION = "demonstration"


class FeedbackSource(StrEnum):
    """Who or what said it (MLflow's assessment sources)."""

    HUMAN = "human"
    """A person, as the key of a reviewer says (an application's key claims it at most)."""
    APPLICATION = "application"
    """An application, for whomever it claims to speak."""
    LLM_JUDGE = "llm_judge"
    CODE = "code"
    OUTCOME = "outcome"


class Feedback(Frozen, frozen=True):
    """Something learned about an inference or an episode. Appended once."""

    id: str
    metric: str
    """`verdict` and other boolean or float metrics; `comment`; `demonstration`."""
    kind: FeedbackKind
    value: bool | float | str
    source: FeedbackSource
    created_at: float
    inference_id: str | None = None
    episode_id: str | None = None
    author: str | None = None
    """Name of the key that gave it."""
    trust: float = 1.0
    """Weight in [0, 1], the key's."""
    key_id: str | None = None
    reviewer: bool | None = None
    """Whether the key may judge what others asked; None: of an earlier release, which did not note it."""
    claimed_author: str | None = None
    """What the client said of itself: kept, and believed only where it takes weight away."""
    claimed_trust: float | None = None
    claimed_source: FeedbackSource | None = None
    tags: dict[str, str] = {}
    project_id: str = DEFAULT_PROJECT


# -- datasets, jobs, evaluations --------------------------------------------------------------------------------------


class Example(Frozen, frozen=True):
    """A frozen row: input, what was answered, what was learned about it."""

    id: str
    split: Split
    input: JSON | None
    messages: tuple[JSON, ...]
    answer: str | None
    verdict: bool | None = None
    demonstration: str | None = None
    scores: dict[str, float] = {}
    weight: float = 1.0
    version: str | None = None
    """The version that gave `answer`."""
    propensity: float | None = None
    """Chance with which the route drew that version; None: not recorded, or several inferences stand in this row."""
    item: JSON = {}
    """The other fields of an imported row, for graders."""


class Dataset(Frozen, frozen=True):
    """A frozen, content-hashed selection of examples."""

    id: str
    name: str
    sha256: str
    """Blob of the examples, JSON Lines in canonical form."""
    created_at: float
    counts: dict[str, int]
    provenance: JSON
    files: dict[str, str] = {}
    """OpenAI file id per split, ready for `training_file`."""
    approved: bool | None = None
    """Whether a gate may stand on it: who built it may operate or approve, or somebody who may has approved it. None:
    of an earlier release, which did not ask; then what is known of the key that built it says."""


class JobStatus(StrEnum):
    """OpenAI's statuses, and `paused`, which their own examples return."""

    VALIDATING_FILES = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Interval(Frozen, frozen=True):
    """A point estimate with its confidence interval."""

    value: float
    low: float
    high: float
    level: float = 0.95
    method: str = "paired bootstrap"


def as_json(value: msgspec.Struct | Mapping[str, Any]) -> JSON:
    """Return a noun as plain JSON types."""
    result = msgspec.to_builtins(value, str_keys=True)
    assert isinstance(result, dict)
    return result
