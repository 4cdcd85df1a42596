"""Audit events: who did what to what, or was refused. Appended once, in the transaction of the change they tell of."""

import time
from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, select

from bessemer.core.ids import new_id
from bessemer.core.types import JSON
from bessemer.core.wire import AuditEvent, AuditOutcome
from bessemer.store import paging
from bessemer.store.database import Database, insert_new
from bessemer.store.schema import audit_events

SYSTEM = "system"
"""The actor of what nobody asked for: a job's end, the first key of an installation."""


def event(
    actor: str, action: str, subject: str, detail: JSON | None = None, *, outcome: AuditOutcome = "allowed"
) -> AuditEvent:
    """Return an event of now."""
    return AuditEvent(
        id=new_id("audit"),
        created_at=time.time(),
        actor=actor,
        action=action,
        subject=subject,
        detail=detail or {},
        outcome=outcome,
    )


def append(
    database: Database,
    actor: str,
    action: str,
    subject: str,
    detail: JSON | None = None,
    *,
    event_id: str | None = None,
) -> None:
    """Append an event of now. Within `Database.transaction` it stands or falls with the change made there.

    An `event_id` that is known is left alone.
    """
    row = msgspec.structs.replace(event(actor, action, subject, detail), project_id=database.owner)
    if event_id is not None:
        row = msgspec.structs.replace(row, id=event_id)
    database.write(lambda connection: insert_rows(connection, [row]))


def insert_rows(connection: Connection, rows: Sequence[AuditEvent]) -> None:
    """Append events within a transaction; known ids are left alone."""
    insert_new(
        connection,
        audit_events,
        [
            {
                "id": row.id,
                "created_at": row.created_at,
                "action": row.action,
                "body": paging.encode(row),
                "project_id": row.project_id,
            }
            for row in rows
        ],
    )


def find(
    database: Database,
    *,
    action: str | None = None,
    actor: str | None = None,
    since: float | None = None,
    until: float | None = None,
    limit: int | None = 100,
    after: str | None = None,
) -> list[AuditEvent]:
    """Return events, newest first; `since` is inclusive, `until` exclusive."""
    statement = select(audit_events.c.body)
    if action is not None:
        statement = statement.where(audit_events.c.action == action)
    if actor is not None:
        said = (
            f'"actor":{msgspec.json.encode(actor).decode()},'  # bodies are written by msgspec, which leaves no blanks
        )
        statement = statement.where(audit_events.c.body.contains(said, autoescape=True))
    if since is not None:
        statement = statement.where(audit_events.c.created_at >= since)
    if until is not None:
        statement = statement.where(audit_events.c.created_at < until)
    within = paging.mine(database, audit_events)
    rows = database.read(lambda c: paging.page(c, audit_events, statement, within=within, after=after, limit=limit))
    return [paging.decode(AuditEvent, row.body) for row in rows]
