"""What was taken of limits in windows of time, for all processes of one database."""

from sqlalchemy import Connection, delete, select, update

from bessemer.store.database import Database, insert_new
from bessemer.store.schema import limit_counts


def take(database: Database, name: str, amounts: tuple[float, ...], limit: float, *, ends: float, now: float) -> float:
    """Take the first of these amounts that fits below the limit; return it, 0 where none does.

    `ends`: when the window is over, Unix seconds; the first who asks in another one forgets it. Raises StoreError.
    """
    c = limit_counts.c

    def work(connection: Connection) -> float:
        known = connection.execute(select(c.id).where(c.id == name)).first()
        if known is None:
            connection.execute(delete(limit_counts).where(c.ends_at <= now))
            insert_new(connection, limit_counts, [{"id": name, "ends_at": ends, "used": 0.0}])
        for amount in amounts:
            fits = update(limit_counts).where(c.id == name, c.used + amount <= limit).values(used=c.used + amount)
            if connection.execute(fits).rowcount:
                return amount
        return 0.0

    return database.write(work)


def give_back(database: Database, name: str, amount: float) -> None:
    """Give back what was taken and not used. Raises StoreError."""
    c = limit_counts.c
    statement = update(limit_counts).where(c.id == name).values(used=c.used - amount)
    database.write(lambda connection: connection.execute(statement))
