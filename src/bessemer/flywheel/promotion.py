"""Promotion: an alias moves to a version that passed its gate, and back. Each decision is an audit event."""

from bessemer.core.errors import Conflict
from bessemer.core.types import Alias, Evaluation, Principal, Route, Split
from bessemer.flywheel.services import Services
from bessemer.store import audit, evaluations

CHAMPION = "champion"
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

    `champion` needs an evaluation whose gate the version passed, given or the newest one that names it, on items that
    it was not trained on. Raises Conflict that says what is missing, NotFound for an unknown version or evaluation.
    """
    version = services.catalog.version(version_id)
    version_id = version.id
    if alias == CHAMPION:
        evaluation_id = _passed_gate(services, version_id, evaluation_id).id
        reason = reason or f"passed the gate of {evaluation_id}"
    detail = {"alias": alias, "reason": reason, "evaluation": evaluation_id}
    with services.database.transaction():
        moved = services.catalog.move_alias(version.model, alias, version_id, reason)
        audit.append(services.database, principal.key_id, "version.promoted", version_id, detail)
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


def _passed_gate(services: Services, version_id: str, evaluation_id: str | None) -> Evaluation:
    candidates = (
        [evaluations.get(services.database, evaluation_id)]
        if evaluation_id
        else evaluations.gated(services.database, version_id)
    )
    for evaluation in candidates:
        result = evaluation.gate
        if result is None or result.candidate != version_id or evaluation.split is Split.TRAIN:
            continue
        if result.passed:
            return evaluation
        raise Conflict(
            f"Version {version_id!r} did not pass the gate of {evaluation.id!r}: {result.rule}", code="gate_failed"
        )
    raise Conflict(
        f"Version {version_id!r} has no evaluation with a gate on a split that it was not trained on: run one that "
        "names it as the candidate first.",
        code="gate_missing",
    )
