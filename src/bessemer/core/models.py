"""What can be asked: models with their providers' settings, prompts and prices; versions, their lineage and aliases."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self, TypeVar

from bessemer.core.errors import ConfigError
from bessemer.core.types import JSON, Frozen, as_json

S = TypeVar("S", bound="ProviderSettings")


class Place(NamedTuple):
    """One of the servers that answer for a model."""

    name: str | None
    """Among the model's; None: it is the only one."""
    settings: "ProviderSettings"
    """The model's, with this server's address and key alone."""
    weight: float = 1.0


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
    dialects: ClassVar[frozenset[str]] = frozenset()
    """The wire formats that it speaks upstream: clients of the same are forwarded what no noun stands for."""
    shares_machine: ClassVar[bool] = False
    """All its models compute on this machine and share its seconds; others are a machine each."""
    estimates_tokens: ClassVar[bool] = False
    """Of an answer whose tokens it does not tell, they are estimated: somebody is paid for them."""
    temperature: ClassVar[float | None] = None
    """How free text is generated where neither client nor version says; None: it has a default of its own."""
    choice_temperature: ClassVar[float | None] = None
    """The same, of an answer that is one of a few."""

    @property
    def retries(self) -> int:
        """How often a failed try is repeated, by another server where there is one."""
        return 0

    @property
    def hedge_after(self) -> float | None:
        """Seconds without a first piece after which a second server is asked as well; None: never."""
        return None

    @property
    def affinity(self) -> Literal["none", "prefix", "user", "episode"]:
        """What requests have in common that should meet the same server."""
        return "none"

    def places(self) -> "tuple[Place, ...]":
        """Return the servers that answer for the model, at least one."""
        return (Place(None, self),)

    def completed(self, at: ConfiguredAt) -> Self:  # noqa: ARG002 - for those that override it
        """Return the settings with their paths filled in. Raises ConfigError for what cannot be."""
        return self

    def identity(self, name: str) -> JSON:  # noqa: ARG002 - for those that override it
        """Return what decides which model answers, of the model called `name`: another identity is another version."""
        return as_json(self)

    def secrets(self, place: str, environ: Mapping[str, str]) -> tuple[str, ...]:  # noqa: ARG002
        """Return what no log may hold. Raises ConfigError when one that is needed is missing."""
        return ()


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
