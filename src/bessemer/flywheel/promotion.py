"""Promotion: an alias moves to a version that passed its gate, and back. Each decision is an audit event."""

from bessemer.core.access import Principal
from bessemer.core.errors import Conflict
from bessemer.core.models import Alias
from bessemer.core.routes import Route
from bessemer.flywheel.services import FlywheelServices
from bessemer.flywheel.standing import champion, serves, standing_gate, tuned, ungated
from bessemer.registry.catalog import CHAMPION, is_version
from bessemer.store import audit


def promote(
    services: FlywheelServices,
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


def rollback(
    services: FlywheelServices, model: str, alias: str, principal: Principal, reason: str = ""
) -> Alias | None:
    """Move an alias back to what it named before; None when it named nothing (the alias is gone then).

    What a route asks stays gated: Conflict when an alias that a route asks would name a version that never passed, or
    nothing.
    """
    with services.database.transaction():
        alias_now = services.catalog.rollback(model, alias, reason)
        if serves(services, model, alias):
            _check_rolled_back(services, model, alias, alias_now)
        detail = {"reason": reason, "version": alias_now and alias_now.version}
        audit.append(services.database, principal.key_id, "version.rolled_back", f"{model}:{alias}", detail)
    return alias_now


def rollback_route(services: FlywheelServices, name: str, principal: Principal, reason: str = "") -> Route | None:
    """Put back the route that was in force before the last change.

    Its versions were in force before; an alias may have moved since. Raises Conflict when one names an ungated version.
    """
    with services.database.transaction():
        route = services.catalog.rollback_route(name, reason)
        moved = [] if route is None else [target for target in ungated(services, route) if not is_version(target)]
        if moved:
            raise Conflict(
                f"{', '.join(map(repr, moved))}: means another version now, which has not passed a gate that counts. "
                "Put the route that you mean.",
                param="name",
                code="gate_missing",
            )
        audit.append(services.database, principal.key_id, "route.rolled_back", name, {"reason": reason})
    return route


def _check_rolled_back(services: FlywheelServices, model: str, alias: str, now: Alias | None) -> None:
    if now is None:
        raise Conflict(
            f"A route asks {model}:{alias}, which named nothing before: change the route first.",
            param="alias",
            code="alias_in_use",
        )
    if alias == CHAMPION:
        return  # none was ever moved without a gate
    version = services.catalog.version(now.version)
    gated = any(move.version == version.id and move.evaluation for move in services.catalog.alias_history(model, alias))
    if tuned(version) and not gated:
        standing_gate(services, version)
