"""OpenAI's model list: routes, models, aliases and versions, everything a client may write in `model`."""

import asyncio

from starlette.types import ASGIApp

from bessemer.core.access import Action, ResourceKind
from bessemer.core.errors import NotFound
from bessemer.core.openai import ModelObject
from bessemer.http.edge import Call, JSONResponse
from bessemer.http.paging import envelope
from bessemer.registry.catalog import Catalog


async def list_models(call: Call) -> ASGIApp:
    """GET /v1/models."""
    rows = list((await _asked_for(call)).values())
    return JSONResponse(envelope(rows, ids=[row.id for row in rows]))


async def get_model(call: Call) -> ASGIApp:
    """GET /v1/models/{model}."""
    name = call.path("model")
    row = (await _asked_for(call)).get(name)
    if row is None:
        raise NotFound(
            f"The model {name!r} does not exist; GET /v1/models lists those that do.", code="model_not_found"
        )
    return JSONResponse(row)


async def _asked_for(call: Call) -> dict[str, ModelObject]:
    """Return what the caller may ask for."""
    rows = await asyncio.to_thread(known, call.catalog, call.services.settings.organization)
    seen = {name: call.resource(ResourceKind.MODEL, name) for name in rows}
    return {name: row for name, row in rows.items() if call.may(Action.MODEL_VIEW, seen[name])}


def known(catalog: Catalog, organization: str) -> dict[str, ModelObject]:
    """Return every servable name once; a route wins over a model of the same name. Reads the database.

    What the configuration file names has no date: it is created at 0.
    """
    rows: dict[str, ModelObject] = {}

    def add(name: str, created: float, owner: str) -> None:
        rows.setdefault(name, ModelObject(id=name, created=int(created), owned_by=owner))

    changed_at = catalog.routes_changed_at()
    for route in catalog.routes():
        add(route.name, changed_at.get(route.name, 0), organization)
    for model in catalog.models():
        add(model.name, 0, model.provider)
    for alias in catalog.aliases():
        add(f"{alias.model}:{alias.name}", alias.moved_at, organization)
    for version in catalog.versions():
        add(version.id, version.created_at, organization)
        if (tuned := catalog.openai_name(version, organization)) is not None:
            add(tuned, version.created_at, organization)
        add(version.model, version.created_at, organization)
    return rows
