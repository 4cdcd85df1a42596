"""Routes: list, read, write, roll back. A written route wins over the configuration file's until it is rolled back."""

import asyncio

from starlette.types import ASGIApp

from bessemer.core.access import Action, ResourceKind
from bessemer.core.errors import Conflict, InvalidRequest
from bessemer.core.paging import ListQuery
from bessemer.core.routes import Route, Step, Target
from bessemer.core.types import as_json
from bessemer.core.wire import ReasonBody, RolledBackRoute, RouteBody
from bessemer.flywheel.promotion import rollback_route
from bessemer.flywheel.standing import ungated
from bessemer.http.edge import Call, JSONResponse
from bessemer.http.paging import page_of
from bessemer.registry.routes import check_steps


async def list_routes(call: Call) -> ASGIApp:
    """GET /v1/routes, by name."""
    rows = [row for row in call.catalog.routes() if call.sees(ResourceKind.ROUTE, row.name)]
    return JSONResponse(page_of(rows, call.query(ListQuery), lambda row: row.name))


async def get(call: Call) -> ASGIApp:
    """GET /v1/routes/{name}."""
    return JSONResponse(call.catalog.route(call.path("name")))


async def monitor(call: Call) -> ASGIApp:
    """GET /v1/routes/{name}/monitor: what is known of its rungs since it changed last."""
    name = call.path("name")
    return JSONResponse(await asyncio.to_thread(call.services.watch.report, call.flywheel, name))


async def create(call: Call) -> ASGIApp:
    """POST /v1/routes."""
    body = await call.body(RouteBody)
    if body.name is None:
        raise InvalidRequest("Missing required parameter: 'name'.", param="name", code="missing_required_parameter")
    return await _write(call, body.name, body)


async def put(call: Call) -> ASGIApp:
    """PUT /v1/routes/{name}."""
    body = await call.body(RouteBody)
    name = call.path("name")
    if body.name not in {None, name}:
        raise InvalidRequest(f"'name' is {body.name!r}, but the path says {name!r}; leave it out.", param="name")
    return await _write(call, name, body)


async def _write(call: Call, name: str, body: RouteBody) -> ASGIApp:
    if body.guarantee is not None:
        raise InvalidRequest(
            "A guarantee is what a cascade job measured: leave it out, or run POST /v1/cascades.", param="guarantee"
        )
    route = Route(
        name=name, steps=_steps(body), fallbacks=_targets(body.fallbacks), monitor=body.monitor, cache=body.cache
    )
    check_steps(route)
    return JSONResponse(await asyncio.to_thread(_put, call, route, body.reason, force=body.force))


def _put(call: Call, route: Route, reason: str, *, force: bool) -> Route:
    catalog = call.catalog
    if force and not reason.strip():
        raise InvalidRequest("`force` needs a `reason`: it is kept in the audit trail.", param="reason")
    itself = call.resource(ResourceKind.ROUTE, route.name)
    if force and not call.may(Action.GATE_OVERRIDE, itself):
        message = "Only an owner may put versions in force that have not passed a gate."
        raise call.forbidden(Action.GATE_OVERRIDE, itself, message)
    catalog.refresh()  # the worker may have made the version a moment ago
    before = catalog.route(route.name).targets if catalog.has_route(route.name) else []
    known = {target.model for target in before}
    call.check_named(Action.ROUTE_WRITE, route.name)
    call.check_named(Action.OBJECT_VIEW, *(target.model for target in route.targets if target.model not in known))
    missing = ungated(call.flywheel, route)
    if missing and not force:
        raise Conflict(
            f"{', '.join(map(repr, missing))}: not passed a gate that counts. Evaluate as the candidate of a gate "
            "first; an owner may set `force` and give a `reason`.",
            param="targets",
            code="gate_missing",
        )
    action = "route.updated" if catalog.has_route(route.name) else "route.created"
    with call.database.transaction():
        written = catalog.put_route(route, reason)
        call.audit(action, route.name, as_json(written) | {"reason": reason, "ungated": missing})
    return written


def _steps(body: RouteBody) -> tuple[Step, ...]:
    if (body.steps is None) == (body.targets is None):
        raise InvalidRequest("Give either 'targets' (one step) or 'steps'.", param="steps")
    return tuple(body.steps) if body.steps is not None else (Step(targets=_targets(body.targets or [])),)


def _targets(targets: list[str | Target]) -> tuple[Target, ...]:
    return tuple(Target(model=target) if isinstance(target, str) else target for target in targets)


async def rollback(call: Call) -> ASGIApp:
    """POST /v1/routes/{name}/rollback: back to what was in force before; null when nothing was."""
    body = await call.body(ReasonBody) if await call.request.body() else ReasonBody()
    name = call.path("name")
    route = await asyncio.to_thread(rollback_route, call.flywheel, name, call.principal, body.reason)
    return JSONResponse(RolledBackRoute(name=name, route=route))
