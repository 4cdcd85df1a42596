"""A database that is gone, another one or damaged is noticed; none is begun anew beside its data, nothing is lost."""

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from tests.store.samples import a_feedback, an_inference, keep

from bessemer.core.errors import StoreError
from bessemer.core.settings import Settings
from bessemer.store import feedback, inferences
from bessemer.store.database import Database
from bessemer.store.spool import Spool
from bessemer.store.writer import Durability, Writer

FILES = ("bessemer.db", "bessemer.db-wal", "bessemer.db-shm")


@pytest.fixture
def opened(settings: Settings) -> Iterator[Database]:
    database = Database.open(settings)
    database.watch()
    yield database
    database.close()


def until(reached: Callable[[], bool], seconds: float = 10) -> None:
    ends = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < ends
        time.sleep(0.02)


def answers(database: Database) -> bool:
    try:
        database.ping()
    except StoreError:
        return False
    return True


def move(source: Path, target: Path, names: tuple[str, ...]) -> None:
    target.mkdir(exist_ok=True)
    for name in names:
        if (source / name).exists():
            (source / name).rename(target / name)


@pytest.mark.parametrize("names", [FILES, FILES[:1]])
def test_a_file_that_is_moved_away_and_back_has_every_row(
    opened: Database, settings: Settings, tmp_path: Path, names: tuple[str, ...]
) -> None:
    writer = Writer(opened, Spool.open(opened, settings.data / "spool"))
    assert asyncio.run(writer.commit(a_feedback("fb-before"))) is Durability.COMMITTED
    move(settings.data, tmp_path / "away", names)
    for number in range(50):
        writer.put(an_inference(f"inf-{number}"))
    assert asyncio.run(writer.commit(a_feedback("fb-meanwhile"))) is Durability.SPOOLED
    assert not answers(opened)
    with pytest.raises(StoreError, match="gone: put the file back"):
        feedback.find(opened)
    assert not (settings.data / "bessemer.db").exists(), "none is begun anew"
    move(tmp_path / "away", settings.data, names)
    assert answers(opened)
    assert writer.flush()
    writer.close()
    assert len(inferences.find(opened)) == 50
    assert {row.id for row in feedback.find(opened)} == {"fb-before", "fb-meanwhile"}
    opened.close()
    again = Database.open(settings)
    assert len(inferences.find(again)) == 50
    again.close()


def test_rows_written_as_the_file_goes_are_in_the_journal(opened: Database, settings: Settings, tmp_path: Path) -> None:
    writer = Writer(opened, Spool.open(opened, settings.data / "spool"))
    for number in range(300):
        writer.put(an_inference(f"inf-{number}"))
        if number == 150:
            for name in FILES:
                (settings.data / name).unlink(missing_ok=True)
    writer.close(timeout=0.2)
    kept = b"".join(path.read_bytes() for path in (settings.data / "spool").glob("*.journal"))
    assert all(b'"inf-%d"' % number in kept for number in range(151, 300))


def test_none_is_begun_anew_beside_the_data_of_one(settings: Settings) -> None:
    Database.open(settings).close()
    for name in FILES:
        (settings.data / name).unlink(missing_ok=True)
    with pytest.raises(StoreError, match=r"database\.id.* belongs to one: restore the database"):
        Database.open(settings)
    assert not (settings.data / "bessemer.db").exists()


@pytest.mark.parametrize("trace", ["journal.key", "admin.key", "spool/0.journal", "blobs/00/0", "plans/plan-1.json"])
def test_what_an_earlier_version_left_tells_as_well(settings: Settings, trace: str) -> None:
    path = settings.data / trace
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(StoreError, match="restore the database"):
        Database.open(settings)


def test_another_file_is_not_taken_for_the_database(opened: Database, settings: Settings, tmp_path: Path) -> None:
    path = settings.data / "bessemer.db"
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    path.rename(tmp_path / "old.db")
    copy.rename(path)
    assert not answers(opened)
    with pytest.raises(StoreError, match="replaced"):
        keep(opened, a_feedback("fb-1"))
    path.unlink()
    (tmp_path / "old.db").rename(path)
    assert answers(opened)


def test_the_database_of_another_folder_is_refused(settings: Settings, tmp_path: Path) -> None:
    Database.open(settings).close()
    other = Settings(data=tmp_path / "other")
    Database.open(other).close()
    shutil.copy(other.data / "bessemer.db", settings.data / "bessemer.db")
    with pytest.raises(StoreError, match="not the one"):
        Database.open(settings)


def damage(path: Path) -> None:
    """Overwrite a part of a file in place, behind what says which tables there are."""
    with path.open("r+b") as target:
        target.seek(path.stat().st_size * 2 // 3)
        target.write(os.urandom(60_000))
        target.flush()
        os.fsync(target.fileno())


def fill(database: Database) -> None:
    keep(database, *(an_inference(f"inf-{number}") for number in range(300)))
    database.forget()


def test_damage_is_found_at_start(settings: Settings) -> None:
    database = Database.open(settings)
    fill(database)
    database.close()
    damage(settings.data / "bessemer.db")
    again = Database.open(settings)
    assert not answers(again)
    with pytest.raises(StoreError, match="damaged"):
        keep(again, a_feedback("fb-1"))
    again.close()


def test_damage_is_found_while_it_runs_and_rows_wait_in_the_journal(opened: Database, settings: Settings) -> None:
    fill(opened)
    whole = (settings.data / "bessemer.db").read_bytes()
    writer = Writer(opened, Spool.open(opened, settings.data / "spool"))
    damage(settings.data / "bessemer.db")
    until(lambda: not answers(opened))
    writer.put(an_inference("inf-late"))
    assert asyncio.run(writer.commit(a_feedback("fb-late"))) is Durability.SPOOLED
    (settings.data / "bessemer.db").write_bytes(whole)
    until(lambda: answers(opened))
    assert writer.flush()
    writer.close()
    assert feedback.get(opened, "fb-late")


def execute(url: str, *statements: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


@pytest.mark.postgres
def test_a_postgresql_database_made_anew_under_the_old_name_is_noticed(postgres_url: str, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data", database_url=postgres_url)
    database = Database.open(settings)
    database.watch()
    writer = Writer(database, Spool.open(database, settings.data / "spool"))
    assert asyncio.run(writer.commit(a_feedback("fb-before"))) is Durability.COMMITTED
    execute(postgres_url, "ALTER SCHEMA public RENAME TO away", "CREATE SCHEMA public")
    try:
        for number in range(20):
            writer.put(an_inference(f"inf-{number}"))
        assert asyncio.run(writer.commit(a_feedback("fb-meanwhile"))) is Durability.SPOOLED
        until(lambda: not answers(database))
        with pytest.raises(StoreError, match="restore the database"):
            Database.open(settings)
    finally:
        execute(postgres_url, "DROP SCHEMA public CASCADE", "ALTER SCHEMA away RENAME TO public")
    until(lambda: answers(database))
    assert writer.flush()
    writer.close()
    assert writer.stats().rejected == 0
    assert {row.id for row in feedback.find(database)} == {"fb-before", "fb-meanwhile"}
    assert len(inferences.find(database)) == 20
    database.close()
