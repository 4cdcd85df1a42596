"""Versions and the aliases on them: list, get, promote, roll back."""

import asyncio
import tarfile
from io import BytesIO
from typing import BinaryIO

from starlette.types import ASGIApp

from bessemer.core.access import ResourceKind
from bessemer.core.errors import NotFound
from bessemer.core.models import Alias, ModelVersion
from bessemer.core.paging import ModelQuery
from bessemer.core.wire import PromoteBody, RollbackBody, RolledBackAlias
from bessemer.engine.rungs.artefact import ARRAYS, MANIFEST, encode, fetch
from bessemer.flywheel import promotion
from bessemer.http.edge import Call, JSONResponse, OpenedResponse
from bessemer.http.paging import page_of


async def list_versions(call: Call) -> ASGIApp:
    """GET /v1/versions, newest first."""
    query = call.query(ModelQuery)
    rows = [row for row in reversed(call.catalog.versions(query.model)) if call.sees(ResourceKind.VERSION, row.id)]
    return JSONResponse(page_of(rows, query, lambda row: row.id))


async def get(call: Call) -> ASGIApp:
    """GET /v1/versions/{version_id}."""
    return JSONResponse(await asyncio.to_thread(_version, call))


async def adapter(call: Call) -> ASGIApp:
    """GET /v1/versions/{version_id}/adapter: a tar of its peft folder, or of a rung's two files."""
    version = await asyncio.to_thread(_version, call)
    if version.rung_sha256 is not None:
        return OpenedResponse(await asyncio.to_thread(_rung, call, version.rung_sha256), "application/x-tar")
    if version.adapter_sha256 is None:
        raise NotFound(f"{version.id} has no adapter: it is the base model itself.", param="version_id")
    return OpenedResponse(
        await asyncio.to_thread(call.services.blobs.open, version.adapter_sha256), "application/x-tar"
    )


def _rung(call: Call, sha256: str) -> BinaryIO:
    """Return a tar of the files that `engine.rungs.kinds.load` reads."""
    files = encode(fetch(call.services.blobs.read, sha256))
    made = BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in zip((MANIFEST, ARRAYS), files, strict=True):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, BytesIO(content))
    made.seek(0)
    return made


async def list_aliases(call: Call) -> ASGIApp:
    """GET /v1/aliases, by model and name."""
    query = call.query(ModelQuery)
    rows = [row for row in call.catalog.aliases(query.model) if call.sees(ResourceKind.VERSION, _name(row))]
    return JSONResponse(page_of(rows, query, _name))


def _name(alias: Alias) -> str:
    return f"{alias.model}:{alias.name}"


def _version(call: Call) -> ModelVersion:
    return call.catalog.version(call.path("version_id"))


async def promote(call: Call) -> ASGIApp:
    """POST /v1/versions/{version_id}/promote: `champion` needs an evaluation whose gate the version passed."""
    body = await call.body(PromoteBody) if await call.request.body() else PromoteBody()
    alias = await asyncio.to_thread(
        promotion.promote,
        call.flywheel,
        call.path("version_id"),
        body.alias,
        call.principal,
        evaluation_id=body.evaluation,
        reason=body.reason,
    )
    return JSONResponse(alias)


async def rollback(call: Call) -> ASGIApp:
    """POST /v1/models/{model}/rollback: the alias names what it named before; null when it named nothing."""
    body = await call.body(RollbackBody) if await call.request.body() else RollbackBody()
    model = call.path("model")
    alias = await asyncio.to_thread(promotion.rollback, call.flywheel, model, body.alias, call.principal, body.reason)
    return JSONResponse(RolledBackAlias(model=model, name=body.alias, alias=alias))
