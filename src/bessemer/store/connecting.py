"""Connections to SQLite and PostgreSQL: how they are opened, and how long each may wait for what."""

import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc
from sqlalchemy.engine import make_url

from bessemer.core.errors import ConfigError

PATIENCE_S: Final = 30.0
"""How long a write waits for the writes of others, where nobody says otherwise."""
CONNECT_TIMEOUT_S: Final = 5
_STATEMENT_TIMEOUT_S = 60
"""Far above what any page or batch takes: it ends waiting for a lock that nobody gives back. See
`database.take_time`."""
POSTGRESQL: Final[Mapping[str, int]] = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    # A peer that is gone without a word (power, a cut network) would hold a thread for the system's quarter of an hour
    # when something was sent, and for two hours when an answer is awaited. These find out within 20 s; a peer that is
    # only slow acknowledges, however long its answer takes.
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}
WRITE: Final = "bessemer_write"
"""How many seconds a transaction that writes may wait for its turn; without it none writes."""


def open_engine(url: str, patience_s: float) -> Engine:
    """Return what opens connections to a database. `patience_s`: how long a statement may wait for a lock.

    Raises ConfigError for a URL that names neither a SQLite file nor a PostgreSQL.
    """
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):  # ValueError: the port is no number. The URL may hold a password: not shown
        raise ConfigError(
            "database_url is not a database URL; write sqlite:///FILE or postgresql://user:password@host:port/name.",
            param="database_url",
        ) from None
    if parsed.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        return _postgresql(parsed.set(drivername="postgresql+psycopg"), patience_s)
    if parsed.drivername != "sqlite" or not parsed.database:
        raise ConfigError(
            f"database_url {parsed.render_as_string()!r} is neither sqlite:///FILE nor postgresql://….",
            param="database_url",
        )
    if parsed.query:
        raise ConfigError(
            f"database_url {parsed.render_as_string()!r} sets options, which SQLite files take none of; end it before "
            "the '?'.",
            param="database_url",
        )
    try:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The folder of database_url {parsed.render_as_string()!r} cannot be made: {error.strerror}; name another.",
            param="database_url",
        ) from None
    name = f"file:{quote(str(Path(parsed.database).absolute()))}?mode=rw"  # SQLite makes no file where none is
    engine = create_engine(
        parsed, creator=lambda: sqlite3.connect(name, uri=True, timeout=PATIENCE_S, check_same_thread=False)
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgresql(url: URL, patience_s: float) -> Engine:
    """Make an engine; what the URL itself sets stands."""
    settings: dict[str, Any] = {name: value for name, value in POSTGRESQL.items() if name not in url.query}
    asked = url.normalized_query.get("options", ())
    bounds = f"-c statement_timeout={_STATEMENT_TIMEOUT_S}s -c lock_timeout={patience_s * 1000:.0f}"
    settings["options"] = " ".join((bounds, *asked))
    try:
        return create_engine(
            url,
            pool_pre_ping=True,
            pool_size=8,
            pool_timeout=CONNECT_TIMEOUT_S * 2,
            connect_args=settings,
        )
    except ModuleNotFoundError:
        raise ConfigError(
            "database_url names PostgreSQL, whose driver is not installed: pip install 'bessemer[postgres]'.",
            param="database_url",
        ) from None


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Pragmas of each connection; `isolation_level = None` leaves BEGIN to `_begin_sqlite`."""
    connection.isolation_level = None
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except Exception as error:
            # Switching to WAL does not honour the busy timeout when two processes create the file together.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # what is erased is overwritten, not only unlinked


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that turns into a write can fail at once with SQLITE_BUSY; an immediate one waits its turn.
    left_s = connection.get_execution_options().get(WRITE)
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {(PATIENCE_S if left_s is None else left_s) * 1000:.0f}")
    connection.exec_driver_sql("BEGIN" if left_s is None else "BEGIN IMMEDIATE")
