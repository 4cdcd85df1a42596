"""OpenAI's files; their content is a blob."""

from typing import Final

from sqlalchemy import delete as sql_delete
from sqlalchemy import select

from bessemer.core.errors import NotFound
from bessemer.core.types import Frozen
from bessemer.store import paging
from bessemer.store.database import Database, insert_new
from bessemer.store.schema import datasets, files

FINE_TUNE: Final = "fine-tune"
"""The purpose of files that jobs read."""


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


def insert(database: Database, row: FileRow) -> None:
    """Append one file; a known id is left alone."""
    values = {
        "id": row.id,
        "created_at": row.created_at,
        "purpose": row.purpose,
        "body": paging.encode(row),
        "project_id": database.owner,
    }
    database.write(lambda connection: insert_new(connection, files, [values]))


def get(database: Database, file_id: str) -> FileRow:
    """Return one file. Raises NotFound."""
    statement = select(files.c.body).where(files.c.id == file_id, paging.mine(database, files))
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
    """Return files, newest first unless `ascending`."""
    statement = select(files.c.body)
    if purpose is not None:
        statement = statement.where(files.c.purpose == purpose)
    within = paging.mine(database, files)
    rows = database.read(
        lambda c: paging.page(c, files, statement, within=within, after=after, limit=limit, ascending=ascending)
    )
    return [paging.decode(FileRow, row.body) for row in rows]


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
