"""An endpoint that tells a key who it is."""

from starlette.types import ASGIApp

from bessemer.core.access import Action
from bessemer.core.types import Frozen
from bessemer.http.edge import Call, JSONResponse
from bessemer.http.routing import Endpoint


class WhoAmI(Frozen, frozen=True):
    """Who asks."""

    key_id: str
    name: str
    project: str


async def whoami(call: Call) -> ASGIApp:
    """GET /v1/whoami: the key that asks, its name and its project."""
    who = call.principal
    return JSONResponse(WhoAmI(key_id=who.key_id, name=who.name, project=who.project_id))


WHOAMI = Endpoint("GET", "/v1/whoami", whoami, Action.API_VIEW, WhoAmI)
