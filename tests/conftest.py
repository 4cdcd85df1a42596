"""Fixtures for every area: a data folder, and a database of each kind."""

import gc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from tests.store.forwarder import Forwarder
from tests.store.postgres import Postgres, Unavailable

from bessemer.core.settings import Settings
from bessemer.store.database import Database
from bessemer.store.schema import metadata

# A busy machine is no defect: no example has a deadline.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a data folder of the test's own."""
    return Settings(data=tmp_path / "data")


_POSTGRES = pytest.StashKey[Postgres]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start one real PostgreSQL for the whole run when a test needs it: where it does not run, one sentence says so."""
    needed = any(
        item.get_closest_marker("postgres") or "postgres_server" in getattr(item, "fixturenames", ())
        for item in session.items
    )
    if needed and not session.config.option.collectonly:
        try:
            session.config.stash[_POSTGRES] = Postgres()
        except Unavailable as error:
            raise pytest.UsageError(f"The tests need a PostgreSQL. {error}") from None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop it."""
    if (server := config.stash.get(_POSTGRES, None)) is not None:
        server.stop()


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> Postgres:
    """The PostgreSQL of this run."""
    return pytestconfig.stash[_POSTGRES]


@pytest.fixture
def empty_postgres_url(postgres_server: Postgres) -> str:
    """URL of a PostgreSQL database without tables; tests use the same one after each other."""
    url = postgres_server.url("postgres")
    _execute(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return url


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> str:
    """URL of a PostgreSQL database with the newest schema and no rows; tests use the same one after each other."""
    with_tables = postgres_server.url("bessemer_test")
    maintenance = postgres_server.url("postgres")
    engine = create_engine(maintenance)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT 1 FROM pg_database WHERE datname = 'bessemer_test'")).first()
    engine.dispose()
    if found is None:
        _execute(maintenance, "CREATE DATABASE bessemer_test")
        Database.open_url(with_tables).close()
    names = ", ".join(name for name in metadata.tables if name != "schema_version")
    _execute(with_tables, f"TRUNCATE {names}")
    return with_tables


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database without tables, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    url: str = request.getfixturevalue("empty_postgres_url")
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database without rows, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'bessemer.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An open, migrated database, once on SQLite and once on PostgreSQL."""
    opened = Database.open_url(database_url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    """An open, migrated SQLite database."""
    opened = Database.open_url(f"sqlite:///{tmp_path / 'sqlite.db'}")
    yield opened
    opened.close()


@pytest.fixture
def plug(postgres_server: Postgres, postgres_url: str) -> Iterator[Callable[[bool], None]]:
    """Take the database of `postgres_url` away (False) and bring it back (True)."""
    name = make_url(postgres_url).database
    maintenance = postgres_server.url("postgres")

    def switch(connected: bool) -> None:
        _execute(maintenance, f"ALTER DATABASE {name} ALLOW_CONNECTIONS {str(connected).lower()}")
        if not connected:
            _execute(maintenance, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    yield switch
    switch(True)
    _collected()


@pytest.fixture
def forwarder(postgres_url: str) -> Iterator[Forwarder]:
    """A way to the database of `postgres_url` that can freeze."""
    started = Forwarder(postgres_url)
    yield started
    started.close()
    _collected()


def _collected() -> None:
    """Collect connections that a test has cut, which nobody could close, so that no later test is told of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _execute(url: str, *statements: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()
