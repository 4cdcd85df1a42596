"""Hardware plans: the planner's answers as it gave them, JSON text."""

import logging
import time
from pathlib import Path

import msgspec
from sqlalchemy import select

from bessemer.core.errors import NotFound
from bessemer.core.types import DEFAULT_PROJECT
from bessemer.store import paging
from bessemer.store.database import Database, insert_new
from bessemer.store.schema import plans

_log = logging.getLogger(__name__)


def insert(database: Database, plan_id: str, body: str, created_at: float | None = None) -> None:
    """Append one plan; a known id is left alone."""
    values = {
        "id": plan_id,
        "created_at": time.time() if created_at is None else created_at,
        "body": body,
        "project_id": database.owner,
    }
    database.write(lambda connection: insert_new(connection, plans, [values]))


def get(database: Database, plan_id: str) -> str:
    """Return one plan. Raises NotFound."""
    statement = select(plans.c.body).where(plans.c.id == plan_id, paging.mine(database, plans))
    body: str | None = database.read(lambda connection: connection.execute(statement).scalar_one_or_none())
    if body is None:
        raise NotFound(f"There is no plan {plan_id!r}.", param="plan_id")
    return body


def find(database: Database, *, limit: int | None = 100, after: str | None = None) -> list[str]:
    """Return plans, newest first."""
    within = paging.mine(database, plans)
    statement = select(plans.c.body)
    rows = database.read(lambda c: paging.page(c, plans, statement, within=within, after=after, limit=limit))
    return [row.body for row in rows]


def take_in(database: Database, folder: Path) -> None:
    """Bring the files that plans were in an earlier version into the database: those of a project are in its folder."""
    found = [*folder.glob("plan-*.json"), *folder.glob("*/plan-*.json")]
    for path in found:
        project = DEFAULT_PROJECT if path.parent == folder else path.parent.name
        try:
            body = path.read_text()
            msgspec.json.decode(body, type=dict)
        except (OSError, ValueError) as error:
            _log.warning("the plan in %s cannot be read: %s", path, error)
            continue
        insert(database.within(project), path.stem, body, path.stat().st_mtime)
        path.unlink()
    if found:
        _log.info("%d plans were brought from files into the database", len(found))
