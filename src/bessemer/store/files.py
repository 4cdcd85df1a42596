"""OpenAI's files; their content is a blob."""

import time
from typing import Final

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy import delete as sql_delete

from bessemer.core.errors import NotFound
from bessemer.core.types import Frozen
from bessemer.store import paging
from bessemer.store.blobs import BlobStore
from bessemer.store.database import Database, insert_new
from bessemer.store.schema import datasets, files

FINE_TUNE: Final = "fine-tune"
"""The purpose of files that fine-tuning jobs read."""
BATCH: Final = "batch"
BATCH_OUTPUT: Final = "batch_output"
PURPOSES: Final = (FINE_TUNE, BATCH, "assistants", "vision", "user_data", "evals")
"""That a client may give."""


class FileRow(Frozen, frozen=True):
    """An uploaded or derived file."""

    id: str
    sha256: str
    """Blob of the content."""
    bytes: int
    created_at: float
    filename: str
    purpose: str
    key_id: str | None = None
    expires_at: float | None = None
    """Unix seconds, from which on it is gone; None: it stays."""


def insert(database: Database, row: FileRow) -> None:
    """Append one file; a known id is left alone."""
    values = {
        "id": row.id,
        "created_at": row.created_at,
        "purpose": row.purpose,
        "body": paging.encode(row),
        "project_id": database.owner,
        "expires_at": row.expires_at,
    }
    database.write(lambda connection: insert_new(connection, files, [values]))


def get(database: Database, file_id: str) -> FileRow:
    """Return one file that has not expired. Raises NotFound."""
    statement = select(files.c.body).where(files.c.id == file_id, paging.mine(database, files), _lasting())
    body = database.read(lambda connection: connection.execute(statement).scalar_one_or_none())
    if body is None:
        raise NotFound(f"There is no file {file_id!r}.", param="file_id")
    return paging.decode(FileRow, body)


def find(
    database: Database,
    *,
    purpose: str | None = None,
    limit: int | None = 100,
    after: str | None = None,
    ascending: bool = False,
) -> list[FileRow]:
    """Return files that have not expired, newest first unless `ascending`."""
    statement = select(files.c.body).where(_lasting())
    if purpose is not None:
        statement = statement.where(files.c.purpose == purpose)
    within = paging.mine(database, files)
    rows = database.read(
        lambda c: paging.page(c, files, statement, within=within, after=after, limit=limit, ascending=ascending)
    )
    return [paging.decode(FileRow, row.body) for row in rows]


def expired(database: Database) -> list[FileRow]:
    """Return the files of all projects whose time has ended."""
    statement = select(files.c.body).where(files.c.expires_at <= time.time())
    found = database.read(lambda connection: list(connection.execute(statement).scalars()))
    return [paging.decode(FileRow, body) for body in found]


def remove(database: Database, row: FileRow, blobs: BlobStore) -> None:
    """Remove a file whose time has ended, and its content unless something else has the same."""
    statement = sql_delete(files).where(files.c.id == row.id)
    database.write(lambda connection: connection.execute(statement))
    blobs.remove_unless(row.sha256, lambda: named(database, row.sha256))


def _lasting() -> ColumnElement[bool]:
    return or_(files.c.expires_at.is_(None), files.c.expires_at > time.time())


def delete(database: Database, file_id: str) -> None:
    """Remove a file's row; its blob is the caller's to remove when nothing else names it. Raises NotFound."""
    statement = sql_delete(files).where(files.c.id == file_id, paging.mine(database, files))
    if database.write(lambda connection: connection.execute(statement).rowcount) == 0:
        raise NotFound(f"There is no file {file_id!r}.", param="file_id")


def named(database: Database, sha256: str) -> bool:
    """Return whether a file or a dataset has this content. What a lineage keeps is the hash alone."""
    of_files = select(files.c.id).where(files.c.body.contains(f'"sha256":"{sha256}"')).limit(1)
    of_datasets = select(datasets.c.id).where(datasets.c.sha256 == sha256).limit(1)
    return database.read(
        lambda connection: any(connection.execute(one).first() is not None for one in (of_files, of_datasets))
    )
