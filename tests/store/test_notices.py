"""Change notices: what changes is told, to each subscriber, until it has taken it in."""

import threading
import time
from collections.abc import Callable

import pytest
from tests.store.forwarder import Forwarder
from tests.store.listening import ListeningNotices

from bessemer.core.errors import StoreError
from bessemer.store import polled_notices, revisions
from bessemer.store.database import Database
from bessemer.store.notices import ChangeNotices
from bessemer.store.polled_notices import PolledNotices


def change(database: Database, name: str) -> None:
    database.write(lambda connection: revisions.bump(connection, name))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it was not told in time"
        time.sleep(0.005)


Make = Callable[[Database], ChangeNotices]


def polled(database: Database) -> ChangeNotices:
    return PolledNotices(database, 0.01)


@pytest.fixture(params=["polled", pytest.param("listening", marks=pytest.mark.postgres)])
def make(request: pytest.FixtureRequest) -> Make:
    """Make change notices of each kind."""
    if request.param == "polled":
        return polled
    url = request.getfixturevalue("postgres_url")
    return lambda _: ListeningNotices(url)


@pytest.fixture
def told_of(request: pytest.FixtureRequest, make: Make) -> Database:
    """A database whose changes the kind tells of."""
    database: Database = request.getfixturevalue("sqlite_database")
    if make is not polled:
        database = Database.open_url(request.getfixturevalue("postgres_url"))
        request.addfinalizer(database.close)
    return database


def test_a_change_is_told_to_those_whom_it_concerns(told_of: Database, make: Make) -> None:
    database, notices = told_of, make(told_of)
    of_keys, of_registry = [], []
    notices.subscribe("keys", lambda: of_keys.append(revisions.current(database, "keys")))
    notices.subscribe("registry", lambda: of_registry.append(revisions.current(database, "registry")))
    change(database, "keys")
    notices.start()
    until(lambda: of_keys == [1] and of_registry == [0])
    change(database, "keys")
    until(lambda: of_keys == [1, 2])
    change(database, "registry")
    until(lambda: of_registry == [0, 1])
    assert of_keys == [1, 2]
    notices.close()
    change(database, "keys")
    time.sleep(0.1)
    assert of_keys == [1, 2]


@pytest.mark.parametrize("error", [StoreError("the database is down"), ValueError("a row that nobody can read")])
def test_who_fails_is_told_again_and_holds_up_nobody(told_of: Database, make: Make, error: Exception) -> None:
    notices = make(told_of)
    failures = 3
    tried, others = [], []

    def follow() -> None:
        tried.append(1)
        if len(tried) <= failures:
            raise error

    notices.subscribe("keys", follow)
    notices.subscribe("keys", lambda: others.append(1))
    notices.start()
    until(lambda: len(tried) == failures + 1 and others == [1])
    change(told_of, "keys")
    until(lambda: len(tried) == failures + 2 and others == [1, 1])
    notices.close()


def test_what_changed_while_the_database_was_down_is_told_afterwards(
    postgres_url: str, plug: Callable[[bool], None], make: Make
) -> None:
    database = Database.open_url(postgres_url)
    notices = make(database)
    told = []
    notices.subscribe("keys", lambda: told.append(revisions.current(database, "keys")))
    notices.start()
    until(lambda: told == [0])
    plug(False)
    time.sleep(0.1)
    plug(True)
    elsewhere = Database.open_url(postgres_url)
    change(elsewhere, "keys")
    until(lambda: told[-1] == 1)
    notices.close()
    elsewhere.close()
    database.close()


@pytest.mark.postgres
def test_closing_does_not_wait_for_a_database_that_does_not_answer(
    forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database.open_url(forwarder.url)
    notices = PolledNotices(database, 0.01)
    notices.start()
    forwarder.freeze()
    time.sleep(0.2)  # by now a thread waits for an answer
    monkeypatch.setattr(polled_notices, "_CLOSE_S", 0.1)
    closing = threading.Thread(target=notices.close)
    closing.start()
    closing.join(5)
    assert not closing.is_alive()
    forwarder.thaw()
    database.close()
