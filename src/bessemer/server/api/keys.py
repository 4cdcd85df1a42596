"""API keys: the plaintext is shown once, when the key is made."""

import asyncio

from starlette.types import ASGIApp

from bessemer.core.errors import InvalidRequest
from bessemer.core.types import as_json
from bessemer.governance.keys import CreatedKey, KeyInfo
from bessemer.server.http import Call, JSONResponse, decoder
from bessemer.server.lists import envelope
from bessemer.server.wire import KeyBody

_BODY = decoder(KeyBody)


async def create(call: Call) -> ASGIApp:
    """POST /v1/keys."""
    body = await call.body(_BODY)
    if not 1 <= len(body.name) <= 64:
        raise InvalidRequest("'name' must have 1 to 64 characters.", param="name")
    created = await asyncio.to_thread(_create, call, body)
    return JSONResponse(as_json(created.info) | {"key": created.plaintext})


async def list_keys(call: Call) -> ASGIApp:
    """GET /v1/keys."""
    rows = await asyncio.to_thread(call.services.keys.list)
    return JSONResponse(envelope(rows, ids=[row.id for row in rows]))


async def revoke(call: Call) -> ASGIApp:
    """DELETE /v1/keys/{key_id}: answers 401 to its bearer from now on."""
    return JSONResponse(await asyncio.to_thread(_revoke, call, call.path("key_id")))


def _create(call: Call, body: KeyBody) -> CreatedKey:
    with call.services.database.transaction():
        created = call.services.keys.create(body.name, body.role)
        call.audit("api_key.created", created.info.id, {"name": body.name, "role": body.role.value})
    return created


def _revoke(call: Call, key_id: str) -> KeyInfo:
    with call.services.database.transaction():
        info = call.services.keys.revoke(key_id)
        call.audit("api_key.deleted", key_id)
    return info
