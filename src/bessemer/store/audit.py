"""Audit events: who did what to what. Appended once."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, select

from bessemer.core.types import JSON, Frozen
from bessemer.store import paging
from bessemer.store.database import Database, insert_new
from bessemer.store.schema import audit_events


class AuditEvent(Frozen, frozen=True):
    """One action of a principal."""

    id: str
    created_at: float
    actor: str
    """Id of the key, or `system`."""
    action: str
    """Noun and verb: `route.put`, `alias.move`, `key.create`."""
    subject: str
    """Id or name of what was acted upon."""
    detail: JSON = msgspec.field(default_factory=dict)


def insert_rows(connection: Connection, rows: Sequence[AuditEvent]) -> None:
    """Append events within a transaction; known ids are left alone."""
    insert_new(
        connection,
        audit_events,
        [{"id": r.id, "created_at": r.created_at, "action": r.action, "body": paging.encode(r)} for r in rows],
    )


def insert_many(database: Database, rows: Sequence[AuditEvent]) -> None:
    """Append events; known ids are left alone."""
    database.write(lambda connection: insert_rows(connection, rows))


def find(database: Database, *, limit: int | None = 100, after: str | None = None) -> list[AuditEvent]:
    """Return events, newest first."""
    statement = select(audit_events.c.body)
    rows = database.read(lambda c: paging.page(c, audit_events, statement, after=after, limit=limit))
    return [paging.decode(AuditEvent, row.body) for row in rows]
