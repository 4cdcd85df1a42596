"""From the table of endpoints to a router: each endpoint says its method, path, handler, action and resource."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Match, Router
from starlette.routing import Route as PathRoute
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from bessemer.core.access import ORGANIZATION, Action, Principal, Resource, ResourceKind, Role
from bessemer.core.errors import BessemerError
from bessemer.core.types import DEFAULT_PROJECT
from bessemer.http.edge import Call, Limit, NoQuery, read_query, unknown_name
from bessemer.http.services import ApiServices
from bessemer.identity.policy import roles_that_may

Handler = Callable[[Call], Awaitable[ASGIApp]]

_SLASHED = re.compile(r"\{(model|name|version_id)\}")
"""Parameters that are names: they may hold a `/`, as in `meta-llama/Llama-3.1-8B`."""
ANYONE = Principal(key_id="", name="", role=Role.APP)
"""Who asks where no key is needed."""
_UNREAD: Final = NoQuery()


class Found(NamedTuple):
    """The thing that a path names."""

    resource: Resource
    row: object = None
    """Its row, for the handler."""


@dataclass(frozen=True, slots=True)
class Item:
    """How the thing that a path names is found, in the database as the caller's project sees it."""

    parameter: str
    find: Callable[[Call, str], Found]
    """From the path's parameter. Raises NotFound."""
    blocking: bool = True
    """Whether it reads the database."""


def named(kind: ResourceKind, parameter: str) -> Item:
    """Return the finder of what has its name from its project, be there something of that name or not."""
    return Item(parameter, lambda call, name: Found(call.resource(kind, name)), blocking=False)


def _project(call: Call) -> Resource:
    return call.project


def organization(_: Call) -> Resource:
    """Return the installation: what is done to it concerns all projects."""
    return ORGANIZATION


def audit_log(call: Call) -> Resource:
    """Return the trail of the caller's project."""
    return call.resource(ResourceKind.AUDIT_LOG, call.principal.project_id)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One line of the HTTP surface."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: Handler
    action: Action | None
    """What it does; None: no key needed (the front door decides from where)."""
    answer: Any
    """The type of its JSON answer, or a media type where it answers with something else."""
    on: Callable[[Call], Resource] | Item = _project
    """What it does that to: the caller's project, where it makes or lists something, or the thing that the path names.
    What only a body names, its handler asks the policy about once more."""
    body: type[msgspec.Struct] | None = None
    """The type of its JSON body, or of the fields of its form; None: it reads none."""
    query: type[msgspec.Struct] = NoQuery
    """The query parameters that it takes; others are refused."""
    events: tuple[str, ...] = ()
    """Audit events, of which a change that it makes writes exactly one, in the change's own transaction. None: it
    changes nothing, or appends a fact that is its own record (an inference, feedback)."""
    streams: bool = False
    """It answers with server-sent events where that is asked for."""
    largest: int | None = 1 << 20
    """Bytes of a body; None: what the settings say."""


class _Serve:
    """ASGI application of one endpoint: finds the thing, asks the policy, calls the handler, sends what it returns."""

    def __init__(self, endpoint: Endpoint, services: ApiServices) -> None:
        self._endpoint = endpoint
        self._services = services
        self._limit = None if endpoint.largest is None else Limit(endpoint.largest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["bessemer.endpoint"] = self._endpoint.path
        if self._limit is not None:
            receive = self._limit.on(receive)
        response = await self._endpoint.handler(await self._admitted(scope, receive))
        await response(scope, receive, send)

    async def _admitted(self, scope: Scope, receive: Receive) -> Call:
        """Return the call, with what its query says and the row that its path names.

        A fault in these is told to those alone who may do this somewhere in their project: it is asked about the
        project then. Raises Forbidden, NotFound, InvalidRequest.
        """
        request, principal = Request(scope, receive), scope.get("bessemer.principal", ANYONE)
        given: msgspec.Struct = _UNREAD
        fault: BessemerError | None = None
        try:
            if self._limit is not None:
                self._limit.check(dict(scope["headers"]).get(b"content-length", b"0"))
            asked = request.query_params.multi_items() if scope["query_string"] else ()
            given = read_query(self._endpoint.query, asked)
        except BessemerError as error:
            fault = error
        call = Call(self._services, request, principal, given, self._endpoint.body)
        resource = call.project
        if fault is None:
            try:
                resource, call = await self._found(call)
            except BessemerError as error:
                fault = error
        if self._endpoint.action is not None:
            self._check(call, self._endpoint.action, resource)
        if fault is not None:
            raise fault
        return call

    async def _found(self, call: Call) -> tuple[Resource, Call]:
        on = self._endpoint.on
        if not isinstance(on, Item):
            return on(call), call
        name = call.path(on.parameter)
        found = await asyncio.to_thread(on.find, call, name) if on.blocking else on.find(call, name)
        return found.resource, replace(call, item=found.row)

    def _check(self, call: Call, action: Action, resource: Resource) -> None:
        """Refuse what the policy does not allow; a thing that the caller may not even see, as if it were not there."""
        if call.may(action, resource):
            return
        line, who = self._endpoint, call.principal
        if isinstance(line.on, Item) and call.may(action, call.project) and not call.may(Action.OBJECT_VIEW, resource):
            raise unknown_name(resource.id)
        needed = " or ".join(roles_that_may(call.services.policy, action, resource))
        whose = resource.project_id or DEFAULT_PROJECT
        where = "" if whose == who.project_id else f" in {whose!r}"
        maker = "" if resource.made_by is None else ", or the key that made it"
        raise call.forbidden(
            action,
            resource,
            f"The key {who.name!r} has the role {who.role.value!r}; {line.method} {line.path} needs {needed}{where}"
            f"{maker}.",
        )


class _Paths(Router):
    """A router whose 405 names the methods of every route that a path matches, not those of the first alone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["path"].endswith("/") or "\0" in scope["path"]):
            # A name may hold a slash; that it were empty is no answer to a slash too many. None holds a NUL.
            raise HTTPException(404)
        try:
            await super().__call__(scope, receive, send)
        except HTTPException as error:
            if error.status_code != 405:
                raise
            matching = (route for route in self.routes if isinstance(route, PathRoute))
            here = [route.methods or set() for route in matching if route.matches(scope)[0] is not Match.NONE]
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(set().union(*here)))}) from None


async def _unknown(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise HTTPException(404)


def build_router(table: Sequence[Endpoint], services: ApiServices, lifespan: Lifespan[Router]) -> Router:
    """Return the router of a table. Unknown paths and methods raise HTTPException for the front door to shape."""
    routes = [
        PathRoute(_SLASHED.sub(r"{\1:path}", line.path), _Serve(line, services), methods=[line.method])
        for line in table
    ]
    router = _Paths(routes, redirect_slashes=False, default=_unknown, lifespan=lifespan)
    router.routes.sort(key=lambda route: "{" in getattr(route, "path", ""))  # fixed paths before patterns
    return router
