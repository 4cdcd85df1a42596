"""Routes put at run time, each project's own, with their history.

A change is appended with the number of the change it replaced.
"""

import time
from collections import defaultdict
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, select
from sqlalchemy import insert as sql_insert

from bessemer.core.errors import Conflict
from bessemer.core.routes import Route
from bessemer.store import paging, revisions
from bessemer.store.database import Database
from bessemer.store.schema import route_changes


def current(database: Database) -> dict[str, dict[str, Route]]:
    """Return the routes in force in each project, by name."""
    names = (route_changes.c.project_id, route_changes.c.name)
    newest = select(*names, func.max(route_changes.c.seq).label("seq")).group_by(*names).subquery()
    same = and_(
        route_changes.c.project_id == newest.c.project_id,
        route_changes.c.name == newest.c.name,
        route_changes.c.seq == newest.c.seq,
    )
    statement = (
        select(route_changes.c.project_id, route_changes.c.body)
        .join(newest, same)
        .where(route_changes.c.body.is_not(None), paging.mine(database, route_changes))
    )
    found: dict[str, dict[str, Route]] = defaultdict(dict)
    for row in database.read(lambda connection: connection.execute(statement).all()):
        route = paging.decode(Route, row.body)
        found[row.project_id][route.name] = route
    return found


def put(database: Database, route: Route, reason: str) -> None:
    """Put a route in force."""

    def work(connection: Connection) -> None:
        revisions.bump(connection, revisions.REGISTRY)
        newest = _change(database, connection, route.name)
        seq = newest.seq if newest else 0
        _append(database, connection, route.name, route, seq=seq + 1, previous=seq, reason=reason)

    database.write(work)


def roll_back(database: Database, name: str, reason: str) -> Route | None:
    """Undo the last change that is not undone yet. Returns the route in force; None: the configuration file's, if any.

    Raises Conflict when there is no such change.
    """

    def work(connection: Connection) -> Route | None:
        revisions.bump(connection, revisions.REGISTRY)
        newest = _change(database, connection, name)
        if newest is None or newest.body is None:
            raise Conflict(f"The route {name!r} has no change to undo.", param="route")
        before = _change(database, connection, name, newest.previous_seq)
        route = paging.decode(Route, before.body) if before is not None and before.body is not None else None
        previous = before.previous_seq if before else 0
        _append(database, connection, name, route, seq=newest.seq + 1, previous=previous, reason=reason)
        return route

    return database.write(work)


def changed_at(database: Database) -> dict[str, float]:
    """Return when each route that was ever put was changed last."""
    c = route_changes.c
    statement = select(c.name, func.max(c.changed_at).label("at")).where(paging.mine(database, route_changes))
    rows = database.read(lambda connection: connection.execute(statement.group_by(c.name)).all())
    return {row.name: row.at for row in rows}


def _changes(database: Database, name: str) -> Select[Any]:
    return select(route_changes).where(route_changes.c.project_id == database.owner, route_changes.c.name == name)


def _change(
    database: Database, connection: Connection, name: str, seq: int | None = None
) -> Row[tuple[object, ...]] | None:
    statement = _changes(database, name)
    if seq is not None:
        statement = statement.where(route_changes.c.seq == seq)
    return connection.execute(statement.order_by(route_changes.c.seq.desc()).limit(1)).first()


def _append(
    database: Database, connection: Connection, name: str, route: Route | None, *, seq: int, previous: int, reason: str
) -> None:
    values = {
        "project_id": database.owner,
        "name": name,
        "seq": seq,
        "body": None if route is None else paging.encode(route),
        "previous_seq": previous,
        "changed_at": time.time(),
        "reason": reason,
    }
    connection.execute(sql_insert(route_changes).values(values))
