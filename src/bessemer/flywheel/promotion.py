"""Promotion: an alias moves to a version that passed its gate, and back. Each decision is an audit event."""

import time

from bessemer.core.ids import new_id
from bessemer.core.types import Alias, Principal, Route
from bessemer.flywheel.services import Services
from bessemer.flywheel.standing import CHAMPION, champion, serves, standing_gate
from bessemer.store.audit import AuditEvent

CHALLENGER = "challenger"


def promote(
    services: Services,
    version_id: str,
    alias: str,
    principal: Principal,
    *,
    evaluation_id: str | None = None,
    reason: str = "",
) -> Alias:
    """Move an alias of the version's model to it.

    `champion`, and any alias that a route asks, needs an evaluation whose gate stands for the version
    (`standing.standing_gate`), given or the newest; the alias keeps its id. Promoting the champion changes nothing.
    Raises Conflict that says what is missing, NotFound for an unknown version or evaluation.
    """
    services.catalog.refresh()  # the gate is against the champion of this moment
    version = services.catalog.version(version_id)
    if alias == CHAMPION and champion(services, version.model) == version.id:
        return next(row for row in services.catalog.aliases(version.model) if row.name == CHAMPION)
    if alias == CHAMPION or serves(services, version.model, alias):
        evaluation_id = standing_gate(services, version, evaluation_id).id
        reason = reason or f"passed the gate of {evaluation_id}"
    moved = services.catalog.move_alias(version.model, alias, version.id, reason, evaluation_id)
    _audit(services, principal, "promote", version.id, {"alias": alias, "reason": reason, "evaluation": evaluation_id})
    return moved


def rollback(services: Services, model: str, alias: str, principal: Principal, reason: str = "") -> Alias | None:
    """Move an alias back to what it named before; None when it named nothing (the alias is gone then)."""
    alias_now = services.catalog.rollback(model, alias, reason)
    _audit(services, principal, "rollback", f"{model}:{alias}", {"reason": reason})
    return alias_now


def rollback_route(services: Services, name: str, principal: Principal, reason: str = "") -> Route | None:
    """Put back the route that was in force before the last change."""
    route = services.catalog.rollback_route(name, reason)
    _audit(services, principal, "rollback_route", name, {"reason": reason})
    return route


def _audit(services: Services, principal: Principal, action: str, subject: str, detail: dict[str, object]) -> None:
    services.writer.commit_blocking(
        AuditEvent(
            id=new_id("audit"),
            created_at=time.time(),
            actor=principal.key_id,
            action=action,
            subject=subject,
            detail=detail,
        )
    )
