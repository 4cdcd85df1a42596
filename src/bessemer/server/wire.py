"""Bodies of the control API that no other module owns. Unknown fields are refused."""

from typing import Any

import msgspec

from bessemer.core.openai import StrictWire
from bessemer.core.types import JSON, Guarantee, Role, Step, Target


class RouteBody(StrictWire):
    """A route to write: `targets` is the short form of one step that is always accepted."""

    name: str | None = None
    """Required by POST; PUT takes it from the path."""
    targets: list[str | Target] | None = None
    steps: list[Step] | None = None
    fallbacks: list[str | Target] = msgspec.field(default_factory=list)
    guarantee: Guarantee | None = None
    """Refused: a cascade job alone writes one."""
    force: bool = False
    """Ask versions that have not passed a gate: an owner may, with a `reason`."""
    reason: str = ""


class PromoteBody(StrictWire):
    """Body of POST /v1/versions/{id}/promote."""

    alias: str = "champion"
    evaluation: str | None = None
    """The evaluation whose gate the version passed; None: the newest whose gate counts for it."""
    reason: str = ""


class RollbackBody(StrictWire):
    """Body of POST /v1/models/{model}/rollback."""

    alias: str = "champion"
    reason: str = ""


class ReasonBody(StrictWire):
    """Body of POST /v1/routes/{name}/rollback."""

    reason: str = ""


class KeyBody(StrictWire):
    """Body of POST /v1/keys."""

    name: str
    role: Role = Role.MEMBER
    project: str | None = None
    """Default: the caller's own; another needs an owner of the default project."""
    expires_at: float | None = None
    """Unix seconds; None: it does not expire."""
    models: list[str] | None = None
    """Routes and models that it may ask for; None: all of its project."""
    trust: float = 1.0
    """Weight of the feedback that it gives, in [0, 1]."""


class GraderBody(StrictWire):
    """Body of POST /v1/fine_tuning/alpha/graders/validate."""

    grader: JSON


class GraderRunBody(StrictWire):
    """Body of POST /v1/fine_tuning/alpha/graders/run."""

    grader: JSON
    model_sample: str
    item: dict[str, Any] = msgspec.field(default_factory=dict)
