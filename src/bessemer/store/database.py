"""The database: the one place of transactions, on SQLite (WAL) or PostgreSQL.

`Database.within` is the database as one project sees it: every query of the store keeps to that project's rows.

SQLite takes one writer at a time: within the process a lock orders the writes, between processes (API and worker use
the same file) `BEGIN IMMEDIATE` and the busy timeout do; both together wait no longer than the database's patience.
Reads never wait for writes.
"""

import copy
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine, Table, inspect, select, text
from sqlalchemy.dialects import postgresql, sqlite

from bessemer.core.errors import StoreError
from bessemer.core.settings import Settings
from bessemer.core.types import DEFAULT_PROJECT
from bessemer.store.connecting import CONNECT_TIMEOUT_S, PATIENCE_S, POSTGRESQL, WRITE, open_engine
from bessemer.store.failures import boundary, without_tables
from bessemer.store.migrations import migrate
from bessemer.store.presence import Presence, damage, expect, make_file, remember
from bessemer.store.schema import installation

T = TypeVar("T")

_WATCH_S = 1.0
_CHECK_AT_START_S = 5.0
_CHECK_S = 1.0
_ANOTHER = "The database is another one, or empty, under the old name: restore it, or restart with another data folder."
_log = logging.getLogger(__name__)


class _Begun(NamedTuple):
    """A transaction that a thread is in."""

    connection: Connection
    afterwards: list[Callable[[], object]]
    """What `on_commit` was given."""


class Database:
    """Transactions on one database. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._file = _file(engine)
        self._presence = Presence(self._file)
        self._identity = ""
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self._lock = threading.Lock()
        self._local = threading.local()
        """`begun`: the transaction that this thread is in."""
        self._single_writer = engine.dialect.name == "sqlite"
        self._patience_s = PATIENCE_S
        self.project: str | None = None
        """The project whose rows are all there is; None: those of all projects."""

    def within(self, project: str) -> "Database":
        """Return this database as a project sees it: the same connections and transactions, its rows alone."""
        scoped = copy.copy(self)
        scoped.project = project
        return scoped

    @property
    def owner(self) -> str:
        """The project that new rows belong to, where they do not say so themselves."""
        return self.project or DEFAULT_PROJECT

    @staticmethod
    def open(settings: Settings, *, patience_s: float = PATIENCE_S) -> "Database":
        """Open the database that the settings name (default: SQLite in the data folder), migrated to the newest schema.

        `patience_s`: how long a write waits for the writes of others before it raises StoreError; migrating takes its
        time. A damaged one can be read, not written. Raises StoreError when it cannot be reached or does not belong to
        the data folder, ConfigError for a URL of another kind.
        """
        settings.data.mkdir(parents=True, exist_ok=True)
        url = settings.database_url or f"sqlite:///{(settings.data / 'bessemer.db').absolute()}"
        return Database._open(url, settings.data, patience_s)

    @staticmethod
    def open_url(url: str, *, patience_s: float = PATIENCE_S) -> "Database":
        """Open a database by URL, whatever data folder it belongs to. Raises as `open`."""
        return Database._open(url, None, patience_s)

    @staticmethod
    def _open(url: str, folder: Path | None, patience_s: float) -> "Database":
        engine = open_engine(url, patience_s)
        path = _file(engine)
        expected = None
        if path is not None:
            empty = not path.is_file() or not path.stat().st_size
            expected = None if folder is None else expect(folder, empty=empty)
            make_file(path)
        database = Database(engine)
        try:
            if path is None and folder is not None:
                expected = expect(folder, empty=database.read(_is_empty))
            database._identity = database.write(_migrate)
            database._patience_s = patience_s
            if folder is not None:
                remember(folder, database._identity, expected)
            if path is not None:
                database._presence.damage = damage(path, _CHECK_AT_START_S)
                if database._presence.damage:
                    _log.error("the database %s is damaged: %s", path, database._presence.damage)
        except BaseException:
            database.close()
            raise
        return database

    def watch(self) -> None:
        """See each second, until `close`, that the database is still the one that was opened, and whole."""
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, name="bessemer-database", daemon=True)
            self._watcher.start()

    def _watch(self) -> None:
        told: str | None = None
        next_check = 0.0
        while not self._stop.wait(_WATCH_S):
            self._look()
            began = time.monotonic()
            if self._file is not None and began >= next_check:
                self._presence.damage = damage(self._file, _CHECK_S, self._presence.damage)
                # Large files take long: a twentieth of the time at most goes into this.
                next_check = began + 20 * (time.monotonic() - began)
            fault = None
            try:
                self._presence.check(writing=True)
            except StoreError as error:
                fault = error.message
            if fault != told:
                _log.error("%s", fault) if fault else _log.warning("the database is back")
                told = fault

    def _look(self) -> None:
        """Compare the identity; while the database is down nothing is known."""
        try:
            with boundary(), self._engine.connect() as connection:
                found = connection.execute(select(installation.c.id)).scalar_one_or_none()
        except StoreError as error:
            if not without_tables(error.__cause__):
                return
            found = None
        self._presence.fault = None if found == self._identity else _ANOTHER

    @property
    def url(self) -> str:
        """The database's URL, without its password."""
        return self._engine.url.render_as_string(hide_password=True)

    @property
    def limits(self) -> dict[str, int]:
        """Arguments of psycopg's connect that bound its waits, for others that open this database; none on SQLite."""
        return {} if self._single_writer else dict(POSTGRESQL)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run a read-only function in a transaction and return its result. Raises StoreError when unavailable.

        Within `transaction` it reads what that transaction has written so far.
        """
        begun = self._begun()
        if begun is not None:
            return work(begun.connection)
        self._presence.check(writing=False)
        with boundary(), self._engine.connect() as connection:
            return work(connection)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run a function in a transaction that is committed when it returns and undone when it raises.

        Within `transaction` it becomes a part of that one. Raises StoreError when the database is unavailable.
        """
        with self.transaction() as connection:
            return work(connection)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Make every read and write of this thread within the block one transaction: all of it, or nothing.

        A block within a block joins it. Raises StoreError when the database is unavailable.
        """
        begun = self._begun()
        if begun is not None:
            yield begun.connection
            return
        self._presence.check(writing=True)
        with (
            self._turn() as left_s,
            boundary(),
            self._engine.connect().execution_options(**{WRITE: left_s}) as connection,
            connection.begin(),
        ):
            self._local.begun = begun = _Begun(connection, [])
            try:
                yield connection
            finally:
                self._local.begun = None
        self._presence.check(writing=True)  # what was written to a file that has gone meanwhile is not kept
        for follow in begun.afterwards:
            follow()

    @contextmanager
    def _turn(self) -> Iterator[float]:
        """Wait for the writes of this process that are under way; gives what is left of the patience, in seconds."""
        if not self._single_writer:
            yield self._patience_s
            return
        began = time.monotonic()
        if not self._lock.acquire(timeout=self._patience_s):
            raise StoreError(f"The database is busy: others have written for {self._patience_s:g} s. Try again.")
        try:
            yield max(0.0, self._patience_s - (time.monotonic() - began))
        finally:
            self._lock.release()

    def on_commit(self, follow: Callable[[], object]) -> None:
        """Call a function once this thread's transaction is committed, at once where none is open.

        For what memory remembers of the database: it must never be ahead of a transaction that is undone.
        """
        begun = self._begun()
        if begun is None:
            follow()
        else:
            begun.afterwards.append(follow)

    def _begun(self) -> "_Begun | None":
        return getattr(self._local, "begun", None)

    def forget(self) -> None:
        """Bring deletions from SQLite's log into its file now: until then the log holds what was there before.

        While somebody reads, a part of the log stays until a later one; on PostgreSQL, vacuuming does this.
        """
        if self._single_writer:
            with boundary(), self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def ping(self) -> None:
        """Raise StoreError unless the database answers and may be written."""
        self._presence.check(writing=True)
        self.read(lambda connection: connection.execute(text("SELECT 1")))

    def close(self) -> None:
        """Close every pooled connection."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join(CONNECT_TIMEOUT_S)
        self._engine.dispose()


def _file(engine: Engine) -> Path | None:
    return Path(engine.url.database or "").absolute() if engine.dialect.name == "sqlite" else None


def _is_empty(connection: Connection) -> bool:
    return not inspect(connection).has_table("schema_version")


def _migrate(connection: Connection) -> str:
    """Bring the schema to the newest version; return the database's identity, made when it has none."""
    take_time(connection)
    lock(connection, "migrations")
    migrate(connection)
    identity = connection.execute(select(installation.c.id)).scalar_one_or_none()
    if identity is None:
        identity = secrets.token_hex(16)
        connection.execute(installation.insert().values(id=identity))
    return str(identity)


def take_time(connection: Connection) -> None:
    """Lift the timeouts to the end of the transaction: for migrations and for reads of whole tables."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0"))


def lock(connection: Connection, name: str) -> None:
    """Hold a named lock to the end of the transaction. On SQLite a writing transaction already excludes all others."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"bessemer.{name}"})


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, leaving alone those whose primary key is there already."""
    if rows:
        connection.execute(_insert_of_new(connection, table), rows)


def insert_telling(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Insert rows as `insert_new` does; return the keys of those that were not there."""
    if not rows:
        return set()
    key = table.primary_key.columns[0]
    return set(connection.execute(_insert_of_new(connection, table).returning(key), rows).scalars())


def _insert_of_new(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    keys = [column.name for column in table.primary_key.columns]
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing(index_elements=keys)
    return sqlite.insert(table).on_conflict_do_nothing(index_elements=keys)
