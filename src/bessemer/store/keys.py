"""API keys: a hash, never the key."""

from collections.abc import Mapping

import msgspec
from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy import insert as sql_insert

from bessemer.core.access import Role
from bessemer.core.errors import Conflict, NotFound
from bessemer.core.types import DEFAULT_PROJECT, Frozen
from bessemer.store import paging, revisions
from bessemer.store.database import Database
from bessemer.store.schema import api_keys


class KeyRow(Frozen, frozen=True):
    """A key as it is kept."""

    id: str
    key_hash: str
    name: str
    role: Role
    hint: str
    """The key's last characters, to tell keys apart."""
    created_at: float
    revoked_at: float | None = None
    project_id: str = DEFAULT_PROJECT
    expires_at: float | None = None
    last_used_at: float | None = None
    trust: float = 1.0
    """Weight of the feedback that the key gives, in [0, 1]."""
    models: tuple[str, ...] | None = None
    """Routes and models that it may ask for; None: all of its project."""


def insert(database: Database, row: KeyRow) -> None:
    """Append a key."""
    database.write(lambda connection: _insert(connection, row))


def insert_first(database: Database, row: KeyRow) -> bool:
    """Append a key if there is none yet, revoked ones included; return whether it was appended."""

    def work(connection: Connection) -> bool:
        revisions.bump(connection, revisions.KEYS)
        if connection.execute(select(func.count()).select_from(api_keys)).scalar_one():
            return False
        _insert(connection, row)
        return True

    return database.write(work)


def find(database: Database, *, limit: int | None = None, after: str | None = None) -> list[KeyRow]:
    """Return keys, newest first."""
    within = paging.mine(database, api_keys)
    rows = database.read(
        lambda connection: paging.page(connection, api_keys, select(api_keys), within=within, after=after, limit=limit)
    )
    return [_key(row) for row in rows]


def get(database: Database, key_id: str) -> KeyRow:
    """Return one key. Raises NotFound."""
    statement = select(api_keys).where(api_keys.c.id == key_id, paging.mine(database, api_keys))
    row = database.read(lambda connection: connection.execute(statement).first())
    if row is None:
        raise _unknown(key_id)
    return _key(row)


def revoke(database: Database, key_id: str, now: float) -> KeyRow:
    """Revoke a key; one that is revoked keeps its time.

    Raises NotFound, and Conflict for the last owner of the installation: without one nobody could make keys any more.
    """

    def work(connection: Connection) -> KeyRow:
        revisions.bump(connection, revisions.KEYS)
        found = connection.execute(select(api_keys).where(api_keys.c.id == key_id, paging.mine(database, api_keys)))
        row = found.first()
        if row is None:
            raise _unknown(key_id)
        key = _key(row)
        if key.revoked_at is not None:
            return key
        if _is_lasting_owner(key) and sum(map(_is_lasting_owner, _all(connection))) == 1:
            raise Conflict(
                "This is the last owner key that does not expire: make another one first.",
                param="key_id",
                code="last_owner",
            )
        connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=now))
        return msgspec.structs.replace(key, revoked_at=now)

    return database.write(work)


def touch(database: Database, used: Mapping[str, float]) -> None:
    """Note when keys were last used. Not a change that others must hear of."""

    def work(connection: Connection) -> None:
        for key_id, at in used.items():
            one = update(api_keys).where(api_keys.c.id == key_id, paging.mine(database, api_keys))
            connection.execute(one.values(last_used_at=at))

    database.write(work)


def _unknown(key_id: str) -> NotFound:
    return NotFound(f"There is no key {key_id!r}.", param="key_id")


def _is_lasting_owner(key: KeyRow) -> bool:
    """Whether a key can make keys of every project for as long as nobody revokes it."""
    lasting = key.revoked_at is None and key.expires_at is None
    return lasting and key.role is Role.OWNER and key.project_id == DEFAULT_PROJECT


def _all(connection: Connection) -> list[KeyRow]:
    return [_key(row) for row in connection.execute(select(api_keys))]


def _insert(connection: Connection, row: KeyRow) -> None:
    revisions.bump(connection, revisions.KEYS)
    values = {
        "id": row.id,
        "key_hash": row.key_hash,
        "name": row.name,
        "role": row.role.value,
        "hint": row.hint,
        "created_at": row.created_at,
        "revoked_at": row.revoked_at,
        "project_id": row.project_id,
        "expires_at": row.expires_at,
        "last_used_at": row.last_used_at,
        "trust": row.trust,
        "models": None if row.models is None else msgspec.json.encode(row.models).decode(),
    }
    connection.execute(sql_insert(api_keys).values(values))


def _key(row: Row[tuple[object, ...]]) -> KeyRow:
    return KeyRow(
        id=row.id,
        key_hash=row.key_hash,
        name=row.name,
        role=Role(row.role),
        hint=row.hint,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        project_id=row.project_id,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        trust=row.trust,
        models=None if row.models is None else msgspec.json.decode(row.models, type=tuple[str, ...]),
    )
