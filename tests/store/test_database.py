"""The database: transactions, migrations, errors, two processes on one file."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, MetaData, create_engine, inspect, text
from tests.store.forwarder import Forwarder
from tests.store.samples import a_feedback, an_inference

from bessemer.core.access import Role
from bessemer.core.errors import ConfigError, NotFound, StoreError
from bessemer.core.settings import Settings
from bessemer.core.types import DEFAULT_PROJECT, JobStatus, as_json
from bessemer.store import connecting, feedback, inferences, job_rows, keys, routes, versions
from bessemer.store.database import Database, insert_new
from bessemer.store.migrations import MIGRATIONS, migrate
from bessemer.store.schema import metadata


def job(name: str) -> job_rows.JobRow:
    return job_rows.JobRow(id=name, kind="evaluation", request={}, status=JobStatus.QUEUED, created_at=1.0)


def shape(url: str) -> dict[str, object]:
    """What the database itself says of its tables."""
    engine = create_engine(url)
    inspector = inspect(engine)
    described = {
        table: {
            "columns": [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)],
            "key": inspector.get_pk_constraint(table)["constrained_columns"],
            "foreign": sorted(
                (tuple(f["constrained_columns"]), f["referred_table"], tuple(f["referred_columns"]))
                for f in inspector.get_foreign_keys(table)
            ),
            "indexes": sorted(
                (i["name"], tuple(i["column_names"]), bool(i["unique"])) for i in inspector.get_indexes(table)
            ),
        }
        for table in inspector.get_table_names()
    }
    engine.dispose()
    return described


def test_migrated_schema_equals_the_declared_one(empty_database_url: str) -> None:
    Database.open_url(empty_database_url).close()
    migrated = shape(empty_database_url)
    engine = create_engine(empty_database_url)
    reflected = MetaData()
    reflected.reflect(engine)
    reflected.drop_all(engine)
    metadata.create_all(engine)
    engine.dispose()
    assert shape(empty_database_url) == migrated
    assert set(migrated) == set(metadata.tables)


@pytest.mark.parametrize("older", [migration.version for migration in MIGRATIONS[:-1]])
def test_an_older_schema_is_upgraded_and_keeps_its_rows(empty_database_url: str, older: int) -> None:
    old = msgspec.structs.replace(an_inference("inf-old"), calls=())
    body = {name: value for name, value in as_json(old).items() if name not in {"project_id", "on_behalf_of"}}
    values = {"id": old.id, "at": old.created_at, "body": json.dumps(body)}
    engine = create_engine(empty_database_url)
    with engine.begin() as connection:
        assert migrate(connection, target=older) == older
        insert = "INSERT INTO inferences (id, created_at, route, key_id, input_sha256, body) "
        connection.execute(text(insert + "VALUES (:id, :at, 'matching', 'key-1', '', :body)"), values)
    engine.dispose()
    with_newest = Database.open_url(empty_database_url)
    assert inferences.get(with_newest.within(DEFAULT_PROJECT), "inf-old") == old
    with pytest.raises(NotFound):
        inferences.get(with_newest.within("other"), "inf-old")
    assert with_newest.read(migrate) == MIGRATIONS[-1].version
    with_newest.close()
    assert set(shape(empty_database_url)) == set(metadata.tables)


def test_routes_aliases_and_keys_from_before_projects_are_those_of_the_default_one(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url)
    route = '{"name":"cv","steps":[{"targets":[{"model":"small"}]}]}'
    with engine.begin() as connection:
        migrate(connection, target=2)
        for statement in (
            "INSERT INTO model_versions (id, model, created_at, body) VALUES "
            """('small@1', 'small', 1, '{"id":"small@1","model":"small","created_at":1.0}')""",
            "INSERT INTO alias_moves VALUES ('small', 'champion', 1, 'small@1', 0, 1, 'why')",
            f"INSERT INTO route_changes VALUES ('cv', 1, '{route}', 0, 1, 'why')",
            "INSERT INTO api_keys (id, key_hash, name, role, hint, created_at) "
            "VALUES ('key-1', 'h', 'a', 'admin', 'x', 1)",
        ):
            connection.exec_driver_sql(statement)
    engine.dispose()
    opened = Database.open_url(empty_database_url)
    assert [alias.version for alias in versions.aliases(opened)[DEFAULT_PROJECT]] == ["small@1"]
    assert versions.history(opened, "small", "champion")[0].reason == "why"
    assert set(routes.current(opened)[DEFAULT_PROJECT]) == {"cv"}
    assert [(key.role, key.project_id, key.expires_at) for key in keys.find(opened)] == [
        (Role.OWNER, DEFAULT_PROJECT, None)
    ]
    opened.close()


def test_opening_twice_changes_nothing(empty_database_url: str) -> None:
    Database.open_url(empty_database_url).close()
    before = shape(empty_database_url)
    Database.open_url(empty_database_url).close()
    assert shape(empty_database_url) == before


def test_a_schema_of_the_future_is_refused(empty_database_url: str) -> None:
    opened = Database.open_url(empty_database_url)
    opened.write(lambda c: c.execute(text("INSERT INTO schema_version (version) VALUES (999)")))
    opened.close()
    with pytest.raises(StoreError, match="newer Bessemer"):
        Database.open_url(empty_database_url)


def test_a_failing_write_leaves_nothing(database: Database) -> None:
    def work(connection: object) -> None:
        feedback.insert_rows(connection, [a_feedback("fb-1")])  # type: ignore[arg-type]
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        database.write(work)
    assert feedback.find(database) == []


def test_open_makes_the_data_folder(settings: Settings) -> None:
    opened = Database.open(settings)
    opened.ping()
    assert (settings.data / "bessemer.db").is_file()
    opened.close()


def test_foreign_keys_hold(database: Database) -> None:
    from bessemer.store.schema import job_checkpoints

    with pytest.raises(Exception, match=r"(?i)foreign key"):
        database.write(lambda c: insert_new(c, job_checkpoints, [{"job_id": "no", "step": 1, "id": "x", "body": "{}"}]))


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", "sqlite://"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="database_url"):
        Database.open_url(url)


def test_a_database_that_does_not_answer_is_a_store_error() -> None:
    with pytest.raises(StoreError, match="unavailable"):
        Database.open_url("postgresql://nobody@127.0.0.1:1/none")


def setting(database: Database, name: str) -> str:
    return str(database.read(lambda c: c.execute(text(f"SHOW {name}")).scalar_one()))


def socket_option(connection: Connection, level: int, option: int) -> int:
    with socket.socket(fileno=os.dup(connection.connection.fileno())) as same:  # type: ignore[attr-defined]
        return same.getsockopt(level, option)


@pytest.mark.postgres
def test_a_peer_that_is_gone_is_found_out_soon(forwarder: Forwarder) -> None:
    opened = Database.open_url(forwarder.url)
    tcp = socket.IPPROTO_TCP
    assert opened.read(lambda c: socket_option(c, tcp, socket.TCP_USER_TIMEOUT)) == 10_000  # milliseconds
    assert opened.read(lambda c: socket_option(c, socket.SOL_SOCKET, socket.SO_KEEPALIVE)) == 1
    idle, interval = (
        opened.read(lambda c, option=option: socket_option(c, tcp, option))  # type: ignore[misc]
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)
    )
    assert (idle, interval) == (10, 5)
    opened.close()


@pytest.mark.postgres
def test_what_the_url_sets_stands(forwarder: Forwarder) -> None:
    opened = Database.open_url(
        f"{forwarder.url}?options=-c%20statement_timeout%3D7s&keepalives_idle=3&connect_timeout=2"
    )
    assert setting(opened, "statement_timeout") == "7s"
    assert opened.read(lambda c: socket_option(c, socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)) == 3
    opened.close()


@contextmanager
def held(url: str, statement: str, seconds: float) -> Iterator[None]:
    """Hold what a statement locks for a while, on a connection of its own."""
    engine = create_engine(url)
    taken = threading.Event()

    def hold() -> None:
        with engine.begin() as connection:
            connection.execute(text(statement))
            taken.set()
            time.sleep(seconds)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait()
    yield
    holder.join()
    engine.dispose()


@pytest.mark.postgres
def test_a_statement_ends_in_time(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Database.open_url(postgres_url)
    assert setting(opened, "statement_timeout") == "1min"
    opened.close()
    monkeypatch.setattr(connecting, "_STATEMENT_TIMEOUT_S", 0.2)
    opened = Database.open_url(postgres_url)
    with held(postgres_url, "LOCK TABLE inferences", 1.0), pytest.raises(StoreError, match="statement timeout"):
        inferences.find(opened, limit=10)
    opened.close()


@pytest.mark.postgres
@pytest.mark.parametrize(
    "read",
    [
        lambda database: inferences.find(database, limit=None),
        lambda database: feedback.find(database, limit=20_000),
    ],
)
def test_whole_tables_are_read_to_their_end(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, read: Callable[[Database], object]
) -> None:
    monkeypatch.setattr(connecting, "_STATEMENT_TIMEOUT_S", 0.2)
    opened = Database.open_url(postgres_url)
    with held(postgres_url, "LOCK TABLE inferences, model_calls, feedback", 0.6):
        assert read(opened) == []
    assert setting(opened, "statement_timeout") == "200ms"
    opened.close()


@pytest.mark.postgres
def test_migrations_take_what_they_take(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "_STATEMENT_TIMEOUT_S", 0.2)
    with held(postgres_url, "SELECT pg_advisory_xact_lock(hashtext('bessemer.migrations'))", 0.6):
        opened = Database.open_url(postgres_url)
    assert inferences.find(opened) == []
    assert setting(opened, "statement_timeout") == "200ms"
    opened.close()


def test_a_missing_driver_is_named() -> None:
    code = """
import sys
sys.modules["psycopg"] = None  # as where it is not installed
from bessemer.core.errors import ConfigError
from bessemer.store.database import Database
try:
    Database.open_url("postgresql://nobody@127.0.0.1:1/none")
except ConfigError as error:
    print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "bessemer[postgres]" in done.stdout


_WRITE_MANY = """
import sys
from bessemer.store.database import Database
from tests.store.samples import a_feedback, keep
database = Database.open_url(sys.argv[1])
for number in range(int(sys.argv[3])):
    keep(database, a_feedback(f"fb-{sys.argv[2]}-{number:04d}"))
"""


def test_two_processes_write_one_sqlite_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    rows = 60
    processes = [
        subprocess.Popen([sys.executable, "-c", _WRITE_MANY, url, name, str(rows)], stderr=subprocess.PIPE)
        for name in ("a", "b")
    ]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    opened = Database.open_url(url)
    assert len(feedback.find(opened, limit=None)) == 2 * rows
    opened.close()


def test_a_transaction_takes_every_write_of_its_block_or_none(database: Database) -> None:
    followed: list[str] = []
    with pytest.raises(RuntimeError), database.transaction():
        job_rows.insert(database, job("undone"))
        database.on_commit(lambda: followed.append("undone"))
        assert job_rows.get(database, "undone").id == "undone"
        raise RuntimeError
    assert job_rows.find(database) == []
    with database.transaction():
        job_rows.insert(database, job("first"))
        with database.transaction():
            job_rows.insert(database, job("second"))
            database.on_commit(lambda: followed.append("done"))
        assert followed == []
    assert {row.id for row in job_rows.find(database)} == {"first", "second"}
    assert followed == ["done"]


def test_another_thread_is_in_no_transaction_of_this_one(database: Database) -> None:
    with ThreadPoolExecutor(1) as pool, database.transaction():
        job_rows.insert(database, job("inside"))
        assert pool.submit(job_rows.find, database).result(20) == []


@contextmanager
def writing_elsewhere(url: str) -> Iterator[None]:
    """Hold the lock that a key's creation needs, from another connection."""
    engine = create_engine(url)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("LOCK TABLE api_keys")
        yield
        connection.rollback()
    engine.dispose()


def test_writes_wait_for_others_as_long_as_their_patience_and_no_longer(empty_database_url: str) -> None:
    Database.open_url(empty_database_url).close()
    opened = Database.open_url(empty_database_url, patience_s=0.4)

    def create(number: int) -> str:
        try:
            keys.insert(opened, keys.KeyRow(str(number), str(number), "k", Role.APP, "h", 1.0))
        except StoreError as error:
            return error.message
        return ""

    with ThreadPoolExecutor(8) as pool:
        with writing_elsewhere(empty_database_url):
            began = time.monotonic()
            said = list(pool.map(create, range(8)))
            took = time.monotonic() - began
        assert all(said), said
        assert took < 5, "eight writes at once do not wait for one another's patience"
        assert not any(pool.map(create, range(8)))
    opened.close()


def test_migrating_waits_longer_than_a_write_may(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'bessemer.db'}"
    Database.open_url(url).close()
    with ThreadPoolExecutor(1) as pool:
        with writing_elsewhere(url):
            opening = pool.submit(Database.open_url, url, patience_s=0.1)
            time.sleep(0.5)
            assert not opening.done()
        opening.result(10).close()
