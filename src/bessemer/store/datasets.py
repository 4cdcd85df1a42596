"""Frozen datasets; their rows are a blob."""

import msgspec
from sqlalchemy import delete as sql_delete
from sqlalchemy import select, update

from bessemer.core.datasets import Dataset
from bessemer.core.errors import NotFound
from bessemer.store import paging
from bessemer.store.database import Database, insert_new
from bessemer.store.schema import datasets


def insert(database: Database, dataset: Dataset) -> None:
    """Append one dataset; a known id is left alone."""
    values = {
        "id": dataset.id,
        "created_at": dataset.created_at,
        "name": dataset.name,
        "sha256": dataset.sha256,
        "body": paging.encode(dataset),
        "project_id": database.owner,
    }
    database.write(lambda connection: insert_new(connection, datasets, [values]))


def get(database: Database, dataset_id: str) -> Dataset:
    """Return one dataset. Raises NotFound."""
    statement = select(datasets.c.body).where(datasets.c.id == dataset_id, paging.mine(database, datasets))
    body = database.read(lambda connection: connection.execute(statement).scalar_one_or_none())
    if body is None:
        raise NotFound(f"There is no dataset {dataset_id!r}.", param="dataset")
    return paging.decode(Dataset, body)


def approve(database: Database, dataset_id: str) -> Dataset:
    """Mark a dataset as one that gates may stand on, and return it. Raises NotFound."""
    dataset = msgspec.structs.replace(get(database, dataset_id), approved=True)
    statement = update(datasets).where(datasets.c.id == dataset_id, paging.mine(database, datasets))
    database.write(lambda connection: connection.execute(statement.values(body=paging.encode(dataset))))
    return dataset


def delete(database: Database, dataset_id: str) -> None:
    """Remove a dataset's row; its blob is the caller's to remove when nothing else names it. Raises NotFound."""
    statement = sql_delete(datasets).where(datasets.c.id == dataset_id, paging.mine(database, datasets))
    if database.write(lambda connection: connection.execute(statement).rowcount) == 0:
        raise NotFound(f"There is no dataset {dataset_id!r}.", param="dataset")


def find(
    database: Database, *, name: str | None = None, limit: int | None = 100, after: str | None = None
) -> list[Dataset]:
    """Return datasets, newest first."""
    statement = select(datasets.c.body)
    if name is not None:
        statement = statement.where(datasets.c.name == name)
    within = paging.mine(database, datasets)
    rows = database.read(lambda c: paging.page(c, datasets, statement, within=within, after=after, limit=limit))
    return [paging.decode(Dataset, row.body) for row in rows]


def of_file(database: Database, file_id: str) -> Dataset | None:
    """Return the dataset that a file holds a split of; None for a file that was uploaded."""
    names = datasets.c.body.contains(msgspec.json.encode(file_id).decode(), autoescape=True)
    statement = select(datasets.c.body).where(names, paging.mine(database, datasets))
    bodies = database.read(lambda connection: connection.execute(statement).scalars().all())
    found = (paging.decode(Dataset, body) for body in bodies)
    return next((dataset for dataset in found if file_id in dataset.files.values()), None)
