"""API keys: a hash, never the key."""

from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy import insert as sql_insert

from bessemer.core.errors import NotFound
from bessemer.core.types import Frozen, Role
from bessemer.store import revisions
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


def find(database: Database) -> list[KeyRow]:
    """Return every key, oldest first."""
    statement = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
    return [_key(row) for row in database.read(lambda connection: connection.execute(statement).all())]


def revoke(database: Database, key_id: str, now: float) -> KeyRow:
    """Revoke a key; one that is revoked keeps its time. Raises NotFound."""

    def work(connection: Connection) -> KeyRow:
        revisions.bump(connection, revisions.KEYS)
        unrevoked = (api_keys.c.id == key_id) & api_keys.c.revoked_at.is_(None)
        connection.execute(update(api_keys).where(unrevoked).values(revoked_at=now))
        row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).first()
        if row is None:
            raise NotFound(f"There is no key {key_id!r}.", param="key_id")
        return _key(row)

    return database.write(work)


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
    )
