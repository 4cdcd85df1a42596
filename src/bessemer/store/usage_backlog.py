"""Requests from before there were totals of usage: they are counted once, some at a time, before a server starts."""

import logging
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, select

from bessemer.core.inferences import Inference
from bessemer.store import inferences, usage
from bessemer.store.database import Database, lock
from bessemer.store.schema import usage_uncounted

_ROWS: Final = 500
"""Counted in one transaction: well below the bound-parameter limits of both databases."""
_log = logging.getLogger(__name__)


def count_backlog(database: Database) -> int:
    """Count every request that the migration found; return how many. One that is stopped goes on where it was.

    Raises StoreError when the database is unavailable.
    """
    counted = 0
    while some := database.write(lambda connection: _count_some(database, connection)):
        if not counted:
            _log.warning("adding up the usage of requests from before there were totals")
        counted += some
    return counted


def _count_some(database: Database, connection: Connection) -> int:
    lock(connection, "usage")
    ids = list(connection.execute(select(usage_uncounted.c.id).limit(_ROWS)).scalars())
    try:
        rows = list(inferences.get_many(database, ids).values())
    except msgspec.MsgspecError:
        rows = [row for one in ids if (row := _readable(database, one)) is not None]
    usage.add(connection, rows)
    connection.execute(delete(usage_uncounted).where(usage_uncounted.c.id.in_(ids)))
    return len(ids)


def _readable(database: Database, inference_id: str) -> Inference | None:
    try:
        return inferences.get_many(database, [inference_id]).get(inference_id)
    except msgspec.MsgspecError as error:
        _log.error("the request %s cannot be read, and its usage is not counted: %s", inference_id, error)
        return None
