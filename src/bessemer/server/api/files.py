"""OpenAI's files: training data goes in as JSON Lines, checked row by row before it is kept."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO, Literal

import msgspec
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.types import ASGIApp

from bessemer.core.errors import InvalidRequest
from bessemer.core.ids import new_id
from bessemer.core.openai import FileObject, StrictWire
from bessemer.server.http import BytesResponse, Call, JSONResponse
from bessemer.server.lists import page, page_limit
from bessemer.store import files
from bessemer.store.files import FileRow

PURPOSE = "fine-tune"
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_SHOWN = 10
"""Faulty rows named in one error."""


class FilesQuery(StrictWire):
    """Query of GET /v1/files."""

    limit: int = 10_000
    after: str | None = None
    purpose: str | None = None
    order: Literal["asc", "desc"] = "desc"


async def upload(call: Call) -> ASGIApp:
    """POST /v1/files (multipart: `file`, `purpose`)."""
    if not call.request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise InvalidRequest("Send the file as multipart/form-data with the fields 'file' and 'purpose'.", param="file")
    try:
        form = await call.request.form(max_files=1, max_fields=8)
    except MultiPartException as error:
        raise InvalidRequest(f"The form cannot be read: {error.message}", param="file") from None
    try:
        for name in form:
            if name not in {"file", "purpose"}:
                raise InvalidRequest(f"Unknown parameter: {name!r}. Remove it.", param=name, code="unknown_parameter")
        sent, purpose = form.get("file"), form.get("purpose")
        if not isinstance(sent, UploadFile):
            raise InvalidRequest("Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
        if purpose != PURPOSE:
            raise InvalidRequest(f"'purpose' must be {PURPOSE!r}; got {purpose!r}.", param="purpose")
        row = await asyncio.to_thread(_keep, call, sent.filename or "file.jsonl", sent.file)
    finally:
        await form.close()
    return JSONResponse(_wire(row))


def _keep(call: Call, filename: str, content: BinaryIO) -> FileRow:
    # Above a megabyte the form is a file on disk, and here it is never in memory whole.
    check_rows(content)
    size = content.tell()
    content.seek(0)
    row = FileRow(
        id=new_id("file"),
        sha256=call.services.blobs.put(content),
        bytes=size,
        created_at=time.time(),
        filename=filename,
        purpose=PURPOSE,
        key_id=call.principal.key_id,
    )
    with call.services.database.transaction():
        files.insert(call.services.database, row)
        call.audit("file.created", row.id, {"bytes": row.bytes, "sha256": row.sha256})
    return row


def check_rows(lines: Iterable[bytes], *, last_role: Sequence[str] | None = None) -> int:
    """Check JSON Lines of chat rows (an open file gives them one by one) and return how many there are.

    A row is an object with `messages`, each with a known role; other fields are free (a grader's `item`). `last_role`:
    roles that the last message may have. Raises InvalidRequest that names the faulty rows by number, from 1.
    """
    faults: list[str] = []
    decode = msgspec.json.Decoder().decode
    count = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        count += 1
        try:
            fault = _row_fault(decode(line), last_role)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            fault = f"not valid JSON ({error})"
        if b"\r" in line.rstrip(b"\r\n"):
            fault = "a carriage return inside the row: end each row with a line feed"
        if fault is not None:
            faults.append(f"row {number}: {fault}")
    if faults:
        more = f"; and {len(faults) - _SHOWN} more rows" if len(faults) > _SHOWN else ""
        raise InvalidRequest(
            f"Invalid file: {'; '.join(faults[:_SHOWN])}{more}. Correct them and upload again.",
            param="file",
            code="invalid_file",
        )
    if count == 0:
        raise InvalidRequest("The file has no rows; send JSON Lines.", param="file", code="invalid_file")
    return count


def _row_fault(row: Any, last_role: Sequence[str] | None) -> str | None:
    if not isinstance(row, dict):
        return "not a JSON object"
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return "'messages' is missing or not a non-empty list"
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            return f"messages[{index}] needs a 'role' out of {', '.join(sorted(ROLES))}"
        if not isinstance(message.get("content"), str | list) and not message.get("tool_calls"):
            return f"messages[{index}] needs a 'content'"
    if last_role is not None and messages[-1]["role"] not in last_role:
        return f"the last message is from {messages[-1]['role']!r}; it must be from {' or '.join(map(repr, last_role))}"
    return None


async def list_files(call: Call) -> ASGIApp:
    """GET /v1/files."""
    query = call.query(FilesQuery)
    limit = page_limit(query.limit, 10_000)
    rows = await asyncio.to_thread(_find, call, query, limit)
    return JSONResponse(page(rows, limit, _wire, lambda row: row.id))


def _find(call: Call, query: FilesQuery, limit: int) -> list[FileRow]:
    """Return up to `limit` + 1 rows after the cursor, in the order that was asked for."""
    database = call.services.database
    if query.order == "desc":
        return files.find(database, purpose=query.purpose, limit=limit + 1, after=query.after)
    rows = files.find(database, purpose=query.purpose, limit=None)[::-1]
    start = next((index + 1 for index, row in enumerate(rows) if row.id == query.after), 0)
    return rows[start : start + limit + 1]


async def get_file(call: Call) -> ASGIApp:
    """GET /v1/files/{file_id}."""
    return JSONResponse(_wire(await asyncio.to_thread(files.get, call.services.database, call.path("file_id"))))


async def content(call: Call) -> ASGIApp:
    """GET /v1/files/{file_id}/content."""
    row = await asyncio.to_thread(files.get, call.services.database, call.path("file_id"))
    body = await asyncio.to_thread(call.services.blobs.read, row.sha256)
    return BytesResponse(body, "application/jsonl" if row.purpose == PURPOSE else "application/octet-stream")


async def delete(call: Call) -> ASGIApp:
    """DELETE /v1/files/{file_id}: the name goes; the content stays while a dataset or job refers to it."""
    file_id = call.path("file_id")
    row = await asyncio.to_thread(files.get, call.services.database, file_id)
    call.check_made(row.key_id)
    await asyncio.to_thread(_delete, call, file_id)
    return JSONResponse({"id": file_id, "object": "file", "deleted": True})


def _delete(call: Call, file_id: str) -> None:
    with call.services.database.transaction():
        files.delete(call.services.database, file_id)
        call.audit("file.deleted", file_id)


def _wire(row: FileRow) -> FileObject:
    return FileObject(
        id=row.id, bytes=row.bytes, created_at=int(row.created_at), filename=row.filename, purpose=row.purpose
    )
