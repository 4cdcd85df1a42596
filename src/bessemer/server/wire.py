"""Bodies of the control API that no other module owns. Unknown fields are refused."""

from typing import Any, Literal

import msgspec

from bessemer.core.bounds import Name, Note
from bessemer.core.openai import StrictWire, Wire
from bessemer.core.types import JSON, Alias, Guarantee, Role, Route, Step, Target
from bessemer.governance.keys import KeyInfo


class RouteBody(StrictWire):
    """A route to write: `targets` is the short form of one step that is always accepted."""

    name: Name | None = None
    """Required by POST; PUT takes it from the path."""
    targets: list[Name | Target] | None = None
    steps: list[Step] | None = None
    fallbacks: list[Name | Target] = msgspec.field(default_factory=list)
    guarantee: Guarantee | None = None
    """Refused: a cascade job alone writes one."""
    force: bool = False
    """Ask versions that have not passed a gate: an owner may, with a `reason`."""
    reason: Note = ""


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


class ReasonBody(StrictWire):
    """Body of POST /v1/routes/{name}/rollback."""

    reason: Note = ""


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


class RolledBackRoute(Wire, omit_defaults=False):
    """Answer of POST /v1/routes/{name}/rollback; `route` is null when nothing was in force before."""

    name: str
    route: Route | None


class RolledBackAlias(Wire, omit_defaults=False):
    """Answer of POST /v1/models/{model}/rollback; `alias` is null when it named nothing before."""

    model: str
    name: str
    alias: Alias | None


class UploadForm(StrictWire):
    """Form of POST /v1/files."""

    file: bytes
    """JSON Lines."""
    purpose: Literal["fine-tune"]


class FileDeleted(Wire, omit_defaults=False):
    """Answer of DELETE /v1/files/{id}."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class GraderBody(StrictWire):
    """Body of POST /v1/fine_tuning/alpha/graders/validate."""

    grader: JSON


class GraderRunBody(StrictWire):
    """Body of POST /v1/fine_tuning/alpha/graders/run."""

    grader: JSON
    model_sample: str
    item: dict[str, Any] = msgspec.field(default_factory=dict)
