"""Counts of changes, by which other processes learn that something changed (`notices`)."""

from sqlalchemy import Connection, select, update

from bessemer.store.database import Database, insert_new, lock
from bessemer.store.schema import revisions

REGISTRY = "registry"
KEYS = "keys"
ERASED = "erased"


def bump(connection: Connection, name: str) -> None:
    """Count one change within its transaction, and hold the name's lock to its end."""
    lock(connection, name)
    insert_new(connection, revisions, [{"name": name, "value": 0}])
    connection.execute(update(revisions).where(revisions.c.name == name).values(value=revisions.c.value + 1))


def current(database: Database, name: str) -> int:
    """Return the number of changes so far."""
    statement = select(revisions.c.value).where(revisions.c.name == name)
    return database.read(lambda connection: connection.execute(statement).scalar_one_or_none()) or 0


def counts(database: Database) -> dict[str, int]:
    """Return the number of changes so far of everything that has changed."""
    statement = select(revisions.c.name, revisions.c.value)
    return database.read(lambda connection: {row.name: row.value for row in connection.execute(statement)})
