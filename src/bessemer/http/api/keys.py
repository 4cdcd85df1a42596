"""API keys: the plaintext is shown once, when the key is made."""

import asyncio

import msgspec
from starlette.types import ASGIApp

from bessemer.core.access import ORGANIZATION, Action, Resource, ResourceKind
from bessemer.core.access import project as whole_project
from bessemer.core.paging import ListQuery
from bessemer.core.types import DEFAULT_PROJECT, as_json
from bessemer.core.wire import KeyBody, KeyInfo, NewKey
from bessemer.http.edge import Call, JSONResponse
from bessemer.http.paging import page, page_limit
from bessemer.http.routing import Found, Item
from bessemer.identity.admin_key import forget_admin_key
from bessemer.identity.keys import CreatedKey


async def create(call: Call) -> ASGIApp:
    """POST /v1/keys."""
    body = await call.body(KeyBody)
    created = await asyncio.to_thread(_create, call, body)
    return JSONResponse(NewKey(**msgspec.structs.asdict(created.info), key=created.plaintext))


async def list_keys(call: Call) -> ASGIApp:
    """GET /v1/keys, newest first."""
    query = call.query(ListQuery)
    limit = page_limit(query.limit)
    rows = await asyncio.to_thread(call.services.keys.list, _reach(call), limit=limit + 1, after=query.after)
    return JSONResponse(page(rows, limit, lambda row: row, lambda row: row.id))


async def revoke(call: Call) -> ASGIApp:
    """DELETE /v1/keys/{key_id}: answers 401 to its bearer from now on."""
    return JSONResponse(await asyncio.to_thread(_revoke, call, call.found(KeyInfo)))


def _find(call: Call, key_id: str) -> Found:
    row = call.services.keys.get(key_id, _reach(call))
    return Found(Resource(kind=ResourceKind.KEY, id=row.id, project_id=row.project_id), row)


KEY = Item("key_id", _find)


def _reach(call: Call) -> str | None:
    """Return whose keys the caller sees: its project's; who governs the organization, everybody's (None)."""
    return None if call.may(Action.KEY_READ, ORGANIZATION) else call.principal.project_id


def _create(call: Call, body: KeyBody) -> CreatedKey:
    principal = call.principal
    project = principal.project_id if body.project is None else body.project
    if not call.may(Action.KEY_WRITE, whole_project(project)):
        message = f"Keys of another project are made by an owner of {DEFAULT_PROJECT!r}."
        raise call.forbidden(Action.KEY_WRITE, whole_project(project), message, param="project")
    models = principal.models if body.models is None else body.models
    for route in (call.resource(ResourceKind.ROUTE, name) for name in models or ()):
        if not call.may(Action.KEY_WRITE, route):
            message = "A key may not be allowed more models than the key that makes it."
            raise call.forbidden(Action.KEY_WRITE, route, message, param="models")
    with call.database.transaction():
        created = call.services.keys.create(
            body.name, body.role, project_id=project, expires_at=body.expires_at, models=models, trust=body.trust
        )
        detail = {name: value for name, value in as_json(created.info).items() if name in _AUDITED}
        call.audit("api_key.created", created.info.id, detail)
    return created


_AUDITED = ("name", "role", "project_id", "expires_at", "models", "trust")


def _revoke(call: Call, key: KeyInfo) -> KeyInfo:
    with call.database.transaction():
        info = call.services.keys.revoke(key.id, key.project_id)
        call.audit("api_key.deleted", key.id)
    forget_admin_key(call.services.settings.data, call.services.keys, key.id)
    return info
