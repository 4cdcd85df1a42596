"""Change notices: what changes is told, to each subscriber, until it has taken it in."""

import threading
import time
from collections.abc import Callable

import pytest
from tests.store.forwarder import Forwarder

from bessemer.core.errors import StoreError
from bessemer.store import notices as notices_module
from bessemer.store import revisions
from bessemer.store.database import Database
from bessemer.store.notices import ChangeNotices, PolledNotices


def change(database: Database, name: str) -> None:
    database.write(lambda connection: revisions.bump(connection, name))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it was not told in time"
        time.sleep(0.005)


def test_a_change_is_told_to_those_whom_it_concerns(database: Database) -> None:
    notices: ChangeNotices = PolledNotices(database, 0.01)
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
def test_who_fails_is_told_again_and_holds_up_nobody(sqlite_database: Database, error: Exception) -> None:
    notices = PolledNotices(sqlite_database, 0.01)
    failures = 3
    tried, others = [], []

    def follow() -> None:
        tried.append(1)
        if len(tried) <= failures:
            raise error

    notices.subscribe("keys", follow)
    notices.subscribe("keys", lambda: others.append(1))
    notices.start()
    until(lambda: len(tried) == failures + 1)
    assert others == [1]
    change(sqlite_database, "keys")
    until(lambda: len(tried) == failures + 2 and others == [1, 1])
    notices.close()


def test_what_changed_while_the_database_was_down_is_told_afterwards(
    postgres_url: str, plug: Callable[[bool], None]
) -> None:
    database = Database.open_url(postgres_url)
    notices = PolledNotices(database, 0.01)
    told = []
    notices.subscribe("keys", lambda: told.append(1))
    notices.start()
    until(lambda: told == [1])
    plug(False)
    time.sleep(0.1)
    plug(True)
    assert told == [1]
    elsewhere = Database.open_url(postgres_url)
    change(elsewhere, "keys")
    until(lambda: told == [1, 1])
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
    monkeypatch.setattr(notices_module, "_CLOSE_S", 0.1)
    closing = threading.Thread(target=notices.close)
    closing.start()
    closing.join(5)
    assert not closing.is_alive()
    forwarder.thaw()
    database.close()
