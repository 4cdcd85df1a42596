"""The running server that these tests share, and one on each database for two projects."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from tests.live import OFFLINE, Server, Upstream, server, start_server, stop_server, upstream
from tests.store.postgres import Postgres

__all__ = ["server", "upstream"]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Any:
    """A server and the URL of its database, once on SQLite and once on PostgreSQL."""
    folder = tmp_path_factory.mktemp("shared")
    url = f"sqlite:///{folder / 'data' / 'bessemer.db'}"
    if request.param == "postgresql":
        url = _postgres_database(request.getfixturevalue("postgres_server"))
    yield from _serve(folder, upstream, url)


def _serve(folder: Any, upstream: Upstream, url: str) -> Iterator[tuple[Server, str]]:
    running = start_server(folder, upstream, "--no-worker", env=OFFLINE | {"BESSEMER_DATABASE_URL": url})
    yield running, url
    stop_server(running)


def _postgres_database(postgres: Postgres) -> str:
    engine = create_engine(postgres.url("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS bessemer_shared"))
        connection.execute(text("CREATE DATABASE bessemer_shared"))
    engine.dispose()
    return postgres.url("bessemer_shared")
