"""OpenAI's files. Training data goes in as JSON Lines, checked row by row before it is kept; others as they are."""

import asyncio
import os
import time
from typing import BinaryIO

import msgspec
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.types import ASGIApp

from bessemer.core.access import ResourceKind
from bessemer.core.errors import Conflict, InvalidRequest
from bessemer.core.ids import new_id
from bessemer.core.invalid import invalid
from bessemer.core.openai import FileObject
from bessemer.core.openai_batches import ExpiresAfter
from bessemer.core.paging import FilesQuery
from bessemer.core.wire import FileDeleted
from bessemer.feedback.rows import lines_of, read_rows
from bessemer.http.edge import Call, JSONResponse, OpenedResponse
from bessemer.http.paging import page, page_limit
from bessemer.http.routing import Found, Item
from bessemer.jobs.lifecycle import UNFINISHED
from bessemer.store import files, job_rows
from bessemer.store.files import BATCH, BATCH_OUTPUT, FINE_TUNE, PURPOSES, FileRow

_FILENAME = 256
_FIELDS = frozenset({"file", "purpose", "expires_after[anchor]", "expires_after[seconds]"})
_LINES = frozenset({FINE_TUNE, BATCH, BATCH_OUTPUT})


def _find_one(call: Call, file_id: str) -> Found:
    row = files.get(call.database, file_id)
    return Found(call.resource(ResourceKind.FILE, row.id, made_by=row.key_id), row)


FILE = Item("file_id", _find_one)


async def upload(call: Call) -> ASGIApp:
    """POST /v1/files (multipart: `file`, `purpose`, `expires_after[…]`)."""
    if not call.request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise InvalidRequest("Send the file as multipart/form-data with the fields 'file' and 'purpose'.", param="file")
    try:
        form = await call.request.form(max_files=1, max_fields=8)
    except MultiPartException as error:
        raise InvalidRequest(f"The form cannot be read: {error.message}", param="file") from None
    try:
        sent, purpose, expires = _fields(form)
        row = await asyncio.to_thread(_keep, call, sent.filename or "file.jsonl", sent.file, purpose, expires)
    finally:
        await form.close()
    return JSONResponse(_wire(row))


def _fields(form: FormData) -> tuple[UploadFile, str, ExpiresAfter | None]:
    """Return the file, its purpose and its time. Raises InvalidRequest."""
    for name in form:
        if name not in _FIELDS:
            raise InvalidRequest(f"Unknown parameter: {name!r}. Remove it.", param=name, code="unknown_parameter")
    sent, purpose = form.get("file"), form.get("purpose")
    if not isinstance(sent, UploadFile):
        raise InvalidRequest("Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
    if not isinstance(purpose, str) or purpose not in PURPOSES:
        raise InvalidRequest(f"'purpose' must be one of {', '.join(PURPOSES)}; got {purpose!r}.", param="purpose")
    if len(sent.filename or "") > _FILENAME:
        raise InvalidRequest(f"The file's name has more than {_FILENAME} characters: shorten it.", param="file")
    given = {name: value for name in ("anchor", "seconds") if (value := form.get(f"expires_after[{name}]")) is not None}
    try:
        return sent, purpose, msgspec.convert(given, ExpiresAfter, strict=False) if given else None
    except msgspec.ValidationError as error:
        raise invalid(error, "expires_after") from None


def _keep(call: Call, filename: str, content: BinaryIO, purpose: str, expires: ExpiresAfter | None) -> FileRow:
    # Above a megabyte the form is a file on disk, and here it is never in memory whole.
    if purpose == FINE_TUNE:
        for _ in read_rows(lines_of(content), "file"):
            pass
    size = content.seek(0, os.SEEK_END)
    content.seek(0)
    now = time.time()
    row = FileRow(
        id=new_id("file"),
        sha256=call.services.blobs.put(content),
        bytes=size,
        created_at=now,
        filename=filename,
        purpose=purpose,
        key_id=call.principal.key_id,
        expires_at=None if expires is None else now + expires.seconds,
    )
    with call.database.transaction():
        files.insert(call.database, row)
        call.audit("file.created", row.id, {"bytes": row.bytes, "sha256": row.sha256})
    if not call.services.blobs.exists(row.sha256):  # an equal file was being deleted
        content.seek(0)
        call.services.blobs.put(content)
    return row


async def list_files(call: Call) -> ASGIApp:
    """GET /v1/files."""
    query = call.query(FilesQuery)
    limit = page_limit(query.limit, 10_000)
    rows = await asyncio.to_thread(_find, call, query, limit)
    return JSONResponse(page(rows, limit, _wire, lambda row: row.id))


def _find(call: Call, query: FilesQuery, limit: int) -> list[FileRow]:
    """Return up to `limit` + 1 rows after the cursor, in the order that was asked for."""
    ascending = query.order == "asc"
    return files.find(call.database, purpose=query.purpose, limit=limit + 1, after=query.after, ascending=ascending)


async def get_file(call: Call) -> ASGIApp:
    """GET /v1/files/{file_id}."""
    return JSONResponse(_wire(call.found(FileRow)))


async def content(call: Call) -> ASGIApp:
    """GET /v1/files/{file_id}/content."""
    row = call.found(FileRow)
    source = await asyncio.to_thread(call.services.blobs.open, row.sha256)
    return OpenedResponse(source, "application/jsonl" if row.purpose in _LINES else "application/octet-stream")


async def delete(call: Call) -> ASGIApp:
    """DELETE /v1/files/{file_id}: with its content, unless another file or a dataset has the same."""
    row = call.found(FileRow)
    await asyncio.to_thread(_delete, call, row)
    return JSONResponse(FileDeleted(id=row.id))


def _delete(call: Call, row: FileRow) -> None:
    database = call.database
    for job in job_rows.find(database, statuses=UNFINISHED, limit=None):
        if row.id in {job.request.get(name) for name in ("training_file", "validation_file", "input_file_id")}:
            raise Conflict(
                f"The job {job.id!r} is {job.status.value} and reads {row.id!r}: cancel it, or wait for its end.",
                param="file_id",
            )
    with database.transaction():
        files.delete(database, row.id)
        call.audit("file.deleted", row.id)
    call.services.blobs.remove_unless(row.sha256, lambda: files.named(database, row.sha256))
    database.forget()


def _wire(row: FileRow) -> FileObject:
    return FileObject(
        id=row.id,
        bytes=row.bytes,
        created_at=int(row.created_at),
        filename=row.filename,
        purpose=row.purpose,
        expires_at=None if row.expires_at is None else int(row.expires_at),
    )
