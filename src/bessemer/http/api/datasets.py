"""Frozen datasets: build one from inferences and feedback, list, get."""

import asyncio
import time
from functools import partial

from starlette.types import ASGIApp

from bessemer.core.access import Action, ResourceKind
from bessemer.core.datasets import Dataset
from bessemer.core.errors import Conflict, StoreError
from bessemer.core.paging import DatasetsQuery
from bessemer.core.wire import DatasetDeleted, DatasetRequest
from bessemer.feedback.datasets import build
from bessemer.feedback.imports import build_from_file
from bessemer.http.edge import Call, JSONResponse, written
from bessemer.http.paging import page, page_limit
from bessemer.http.routing import Found, Item
from bessemer.jobs.lifecycle import UNFINISHED
from bessemer.store import datasets, files, job_rows


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


async def delete(call: Call) -> ASGIApp:
    """DELETE /v1/datasets/{dataset_id}: with its rows and its files, unless another dataset or file has the same."""
    dataset = call.found(Dataset)
    await asyncio.to_thread(_delete, call, dataset)
    return JSONResponse(DatasetDeleted(id=dataset.id))


def _delete(call: Call, dataset: Dataset) -> None:
    database, names = call.database, {dataset.id, *dataset.files.values()}
    for job in job_rows.find(database, statuses=UNFINISHED, limit=None):
        if names & {job.request.get(field) for field in ("dataset", "training_file", "validation_file")}:
            raise Conflict(
                f"The job {job.id!r} is {job.status.value} and reads {dataset.id!r}: cancel it, or wait for its end.",
                param="dataset_id",
            )
    with database.transaction():
        rows = [row for row in files.find(database, limit=None) if row.id in names]
        for row in rows:
            files.delete(database, row.id)
        datasets.delete(database, dataset.id)
        call.audit("dataset.deleted", dataset.id, {"sha256": dataset.sha256, "files": [row.id for row in rows]})
    for sha256 in {dataset.sha256, *(row.sha256 for row in rows)}:
        call.services.blobs.remove_unless(sha256, partial(files.named, database, sha256))
    database.forget()
