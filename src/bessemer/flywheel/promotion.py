"""Promotion: an alias moves to a version that passed its gate, and back. Each decision is an audit event."""

from bessemer.core.types import Alias, Principal, Route
from bessemer.flywheel.services import Services
from bessemer.flywheel.standing import champion, serves, standing_gate
from bessemer.registry.catalog import CHAMPION
from bessemer.store import audit

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
    with services.database.transaction():
        services.catalog.refresh()  # the gate is against the champion of this moment
        version = services.catalog.version(version_id)
        if alias == CHAMPION and champion(services, version.model) == version.id:
            return next(row for row in services.catalog.aliases(version.model) if row.name == CHAMPION)
        if alias == CHAMPION or serves(services, version.model, alias):
            evaluation_id = standing_gate(services, version, evaluation_id).id
            reason = reason or f"passed the gate of {evaluation_id}"
        moved = services.catalog.move_alias(version.model, alias, version.id, reason, evaluation_id)
        detail = {"alias": alias, "reason": reason, "evaluation": evaluation_id}
        audit.append(services.database, principal.key_id, "version.promoted", version.id, detail)
    return moved


def rollback(services: Services, model: str, alias: str, principal: Principal, reason: str = "") -> Alias | None:
    """Move an alias back to what it named before; None when it named nothing (the alias is gone then)."""
    with services.database.transaction():
        alias_now = services.catalog.rollback(model, alias, reason)
        detail = {"reason": reason, "version": alias_now and alias_now.version}
        audit.append(services.database, principal.key_id, "version.rolled_back", f"{model}:{alias}", detail)
    return alias_now


def rollback_route(services: Services, name: str, principal: Principal, reason: str = "") -> Route | None:
    """Put back the route that was in force before the last change."""
    with services.database.transaction():
        route = services.catalog.rollback_route(name, reason)
        audit.append(services.database, principal.key_id, "route.rolled_back", name, {"reason": reason})
    return route
