"""From the table of endpoints to a router: each endpoint says its method, path, actions and handler."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Match, Router
from starlette.routing import Route as PathRoute
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from bessemer.core.errors import Forbidden
from bessemer.core.types import Action, Principal, Role
from bessemer.http.edge import Call, Limit, NoQuery, read_query
from bessemer.http.services import ApiServices

Handler = Callable[[Call], Awaitable[ASGIApp]]

_SLASHED = re.compile(r"\{(model|name|version_id)\}")
"""Parameters that are names: they may hold a `/`, as in `meta-llama/Llama-3.1-8B`."""
ANYONE = Principal(key_id="", name="", role=Role.APP)
"""Who asks where no key is needed."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One line of the HTTP surface."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: Handler
    actions: tuple[Action, ...]
    """A key that may do one of them may call it; none: no key needed (the front door decides from where)."""
    answer: Any
    """The type of its JSON answer, or a media type where it answers with something else."""
    body: type[msgspec.Struct] | None = None
    """The type of its JSON body, or of the fields of its form; None: it reads none."""
    query: type[msgspec.Struct] = NoQuery
    """The query parameters that it takes; others are refused."""
    streams: bool = False
    """It answers with server-sent events where that is asked for."""
    largest: int | None = 1 << 20
    """Bytes of a body; None: what the settings say."""

    @property
    def roles(self) -> tuple[Role, ...]:
        """Return the roles that may call it."""
        return tuple(role for role in Role if not role.actions.isdisjoint(self.actions))


class _Serve:
    """ASGI application of one endpoint: checks the right, calls the handler, sends what it returns."""

    def __init__(self, endpoint: Endpoint, services: ApiServices) -> None:
        self._endpoint = endpoint
        self._services = services
        self._limit = None if endpoint.largest is None else Limit(endpoint.largest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["bessemer.endpoint"] = self._endpoint.path
        principal = scope.get("bessemer.principal", ANYONE)
        if self._endpoint.actions and not principal.may(*self._endpoint.actions):
            raise Forbidden(
                f"The key {principal.name!r} has the role {principal.role.value!r}; {self._endpoint.method} "
                f"{self._endpoint.path} needs {' or '.join(self._endpoint.roles)}."
            )
        if self._limit is not None:
            self._limit.check(dict(scope["headers"]).get(b"content-length", b"0"))
            receive = self._limit.on(receive)
        request = Request(scope, receive)
        asked = request.query_params.multi_items() if scope["query_string"] else ()
        given = read_query(self._endpoint.query, asked)
        response = await self._endpoint.handler(Call(self._services, request, principal, given, self._endpoint.body))
        await response(scope, receive, send)


class _Paths(Router):
    """A router whose 405 names the methods of every route that a path matches, not those of the first alone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/"):
            raise HTTPException(404)  # a name may hold a slash; that it were empty is no answer to a slash too many
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
