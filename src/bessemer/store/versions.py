"""Model versions, which never change, and aliases, which move and remember where they were; each project has its own.

A move is appended with the number of the move it replaced, so undoing twice goes back twice.
"""

import time
from collections import defaultdict
from collections.abc import Container
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, select
from sqlalchemy import insert as sql_insert

from bessemer.core.errors import Conflict, NotFound
from bessemer.core.models import Alias, ModelVersion
from bessemer.core.types import Frozen
from bessemer.store import paging, revisions
from bessemer.store.database import Database
from bessemer.store.schema import alias_moves, model_versions


class AliasMove(Frozen, frozen=True):
    """One move of an alias; version None: the alias was taken away."""

    model: str
    alias: str
    seq: int
    version: str | None
    previous_seq: int
    """The move that this one replaced; 0: none."""
    moved_at: float
    reason: str
    evaluation: str | None = None
    """The evaluation whose gate the move stands on."""


def insert(database: Database, version: ModelVersion) -> bool:
    """Append a version and return True; a known id is left alone: it is a hash of the content."""

    def work(connection: Connection) -> bool:
        revisions.bump(connection, revisions.REGISTRY)  # and nobody else inserts until the end
        if connection.execute(select(model_versions.c.id).where(model_versions.c.id == version.id)).first() is not None:
            return False
        row = {
            "id": version.id,
            "model": version.model,
            "created_at": version.created_at,
            "body": paging.encode(version),
            "project_id": database.owner,
        }
        connection.execute(sql_insert(model_versions).values(row))
        return True

    return database.write(work)


def get(database: Database, version_id: str) -> ModelVersion:
    """Return one version. Raises NotFound."""
    statement = select(model_versions.c.body).where(model_versions.c.id == version_id)
    statement = statement.where(paging.mine(database, model_versions))
    body = database.read(lambda connection: connection.execute(statement).scalar_one_or_none())
    if body is None:
        raise NotFound(f"There is no version {version_id!r}.", param="version")
    return paging.decode(ModelVersion, body)


def find(database: Database) -> dict[str, list[ModelVersion]]:
    """Return the versions of each project, oldest first."""
    statement = (
        select(model_versions.c.project_id, model_versions.c.body)
        .where(paging.mine(database, model_versions))
        .order_by(model_versions.c.created_at, model_versions.c.id)
    )
    found: dict[str, list[ModelVersion]] = defaultdict(list)
    for row in database.read(lambda connection: connection.execute(statement).all()):
        found[row.project_id].append(paging.decode(ModelVersion, row.body))
    return found


def aliases(database: Database) -> dict[str, list[Alias]]:
    """Return where every alias of each project points now."""
    names = (alias_moves.c.project_id, alias_moves.c.model, alias_moves.c.alias)
    newest = select(*names, func.max(alias_moves.c.seq).label("seq")).group_by(*names).subquery()
    same = and_(
        alias_moves.c.project_id == newest.c.project_id,
        alias_moves.c.model == newest.c.model,
        alias_moves.c.alias == newest.c.alias,
        alias_moves.c.seq == newest.c.seq,
    )
    statement = (
        select(alias_moves)
        .join(newest, same)
        .where(alias_moves.c.version.is_not(None), paging.mine(database, alias_moves))
        .order_by(alias_moves.c.model, alias_moves.c.alias)
    )
    found: dict[str, list[Alias]] = defaultdict(list)
    for row in database.read(lambda connection: connection.execute(statement).all()):
        found[row.project_id].append(_alias(row))
    return found


def move_alias(
    database: Database,
    model: str,
    alias: str,
    version: str,
    reason: str,
    served: Container[str] = (),
    evaluation: str | None = None,
) -> Alias:
    """Point an alias at a version of the model, on the ground of an evaluation if there is one.

    `served`: versions that belong to no project, those of configured models. Raises NotFound for a version that the
    model does not have.
    """

    def work(connection: Connection) -> Alias:
        revisions.bump(connection, revisions.REGISTRY)
        owner = select(model_versions.c.model).where(model_versions.c.id == version)
        if version not in served:
            owner = owner.where(paging.mine(database, model_versions))
        if connection.execute(owner).scalar_one_or_none() != model:
            raise NotFound(f"The model {model!r} has no version {version!r}.", param="version")
        newest = _newest(database, connection, model, alias)
        seq = newest.seq if newest else 0
        return _append(
            database, connection, model, alias, version, seq=seq + 1, previous=seq, reason=reason, evaluation=evaluation
        )

    return database.write(work)


def roll_back(database: Database, model: str, alias: str, reason: str) -> Alias | None:
    """Undo the last move that is not undone yet; None: the alias points nowhere now. Raises Conflict when none is."""

    def work(connection: Connection) -> Alias | None:
        revisions.bump(connection, revisions.REGISTRY)
        newest = _newest(database, connection, model, alias)
        if newest is None or newest.version is None:
            raise Conflict(f"The alias {model}:{alias} has no move to undo.", param="alias")
        before = _move(database, connection, model, alias, newest.previous_seq)
        version = before.version if before else None
        previous = before.previous_seq if before else 0
        moved = _append(
            database,
            connection,
            model,
            alias,
            version,
            seq=newest.seq + 1,
            previous=previous,
            reason=reason,
            evaluation=before.evaluation if before else None,
        )
        return moved if version is not None else None

    return database.write(work)


def history(database: Database, model: str, alias: str) -> list[AliasMove]:
    """Return every move of an alias, newest first."""
    statement = _moves(database, model, alias).order_by(alias_moves.c.seq.desc())
    rows = database.read(lambda connection: connection.execute(statement).all())
    return [
        AliasMove(
            model=row.model,
            alias=row.alias,
            seq=row.seq,
            version=row.version,
            previous_seq=row.previous_seq,
            moved_at=row.moved_at,
            reason=row.reason,
            evaluation=row.evaluation,
        )
        for row in rows
    ]


def _newest(database: Database, connection: Connection, model: str, alias: str) -> Row[tuple[object, ...]] | None:
    statement = _moves(database, model, alias)
    return connection.execute(statement.order_by(alias_moves.c.seq.desc()).limit(1)).first()


def _move(
    database: Database, connection: Connection, model: str, alias: str, seq: int
) -> Row[tuple[object, ...]] | None:
    return connection.execute(_moves(database, model, alias).where(alias_moves.c.seq == seq)).first()


def _moves(database: Database, model: str, alias: str) -> Select[Any]:
    return select(alias_moves).where(
        alias_moves.c.project_id == database.owner, alias_moves.c.model == model, alias_moves.c.alias == alias
    )


def _append(
    database: Database,
    connection: Connection,
    model: str,
    alias: str,
    version: str | None,
    *,
    seq: int,
    previous: int,
    reason: str,
    evaluation: str | None,
) -> Alias:
    now = time.time()
    values = {
        "project_id": database.owner,
        "model": model,
        "alias": alias,
        "seq": seq,
        "version": version,
        "previous_seq": previous,
        "moved_at": now,
        "reason": reason,
        "evaluation": evaluation,
    }
    connection.execute(sql_insert(alias_moves).values(values))
    return Alias(model=model, name=alias, version=version or "", moved_at=now, reason=reason, evaluation=evaluation)


def _alias(row: Row[tuple[object, ...]]) -> Alias:
    return Alias(
        model=row.model,
        name=row.alias,
        version=row.version,
        moved_at=row.moved_at,
        reason=row.reason,
        evaluation=row.evaluation,
    )
