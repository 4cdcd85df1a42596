"""Frozen datasets: build one from inferences and feedback, list, get."""

import asyncio
import time

from starlette.types import ASGIApp

from bessemer.core.access import Action, ResourceKind
from bessemer.core.errors import StoreError
from bessemer.core.lists import DatasetsQuery
from bessemer.core.types import Dataset
from bessemer.core.wire import DatasetRequest
from bessemer.feedback.datasets import build
from bessemer.feedback.imports import build_from_file
from bessemer.http.edge import Call, JSONResponse, written
from bessemer.http.lists import page, page_limit
from bessemer.http.routing import Found, Item
from bessemer.store import datasets


def _find(call: Call, dataset_id: str) -> Found:
    row = datasets.get(call.database, dataset_id)
    return Found(call.resource(ResourceKind.DATASET, row.id), row)


DATASET = Item("dataset_id", _find)


async def create(call: Call) -> ASGIApp:
    """POST /v1/datasets: freeze what is known now, feedback that was just acknowledged included."""
    request = await call.body(DatasetRequest)
    return JSONResponse(await asyncio.to_thread(_build, call, request))


def _build(call: Call, request: DatasetRequest) -> Dataset:
    services = call.services
    if not services.writer.flush():
        raise StoreError("The database is behind: feedback already taken is still on its way to it. Try again later.")
    if request.file_id is not None:
        return build_from_file(
            call.database,
            services.blobs,
            request,
            code_commit=services.code_commit,
            now=time.time(),
            key_id=call.principal.key_id,
            approved=call.may(Action.DATASET_APPROVE, call.project),
        )
    prompt = call.catalog.prompt(request.prompt) if request.prompt is not None else None
    return build(
        call.database,
        services.blobs,
        services.policy,
        request,
        prompt=prompt,
        code_commit=services.code_commit,
        now=time.time(),
        key_id=call.principal.key_id,
        approved=call.may(Action.DATASET_APPROVE, call.project),
    )


async def list_datasets(call: Call) -> ASGIApp:
    """GET /v1/datasets: newest first."""
    query = call.query(DatasetsQuery)
    limit = page_limit(query.limit)
    rows = await asyncio.to_thread(datasets.find, call.database, name=query.name, limit=limit + 1, after=query.after)
    return await written(lambda: page(rows, limit, lambda row: row, lambda row: row.id))


async def get(call: Call) -> ASGIApp:
    """GET /v1/datasets/{dataset_id}."""
    return JSONResponse(call.found(Dataset))


async def approve(call: Call) -> ASGIApp:
    """POST /v1/datasets/{dataset_id}/approve: gates may stand on it from now on."""
    return JSONResponse(await asyncio.to_thread(_approve, call))


def _approve(call: Call) -> Dataset:
    with call.database.transaction():
        dataset = datasets.approve(call.database, call.found(Dataset).id)
        call.audit("dataset.approved", dataset.id, {"sha256": dataset.sha256})
    return dataset
