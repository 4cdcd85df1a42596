"""Keys: only those that were made and not revoked open anything."""

import time
from collections.abc import Callable

import pytest
from sqlalchemy import text
from tests.store.forwarder import Forwarder

from bessemer.core.errors import InvalidRequest, NotFound, StoreError, Unauthorized
from bessemer.core.types import Principal, Role
from bessemer.governance import keys as governance
from bessemer.governance.keys import Keys
from bessemer.store.database import Database


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database)


def test_a_key_says_who_asks(keys: Keys) -> None:
    created = keys.create("app", Role.APP)
    assert created.plaintext.startswith("bsm-")
    assert keys.authenticate(f"Bearer {created.plaintext}") == Principal(
        key_id=created.info.id, name="app", role=Role.APP
    )
    assert keys.authenticate(f"bearer  {created.plaintext} ").key_id == created.info.id
    assert keys.list() == [created.info]


def test_the_database_holds_no_key(keys: Keys, database: Database) -> None:
    plaintext = keys.create("app", Role.MEMBER).plaintext
    rows = database.read(lambda c: c.execute(text("SELECT * FROM api_keys")).all())
    assert plaintext not in repr(rows)
    assert plaintext[4:] not in repr(rows)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer bsm-wrong", "bsm-wrong", "Bearer \ud800"]
)
def test_anything_else_is_refused(keys: Keys, header: str | None) -> None:
    keys.create("app", Role.MEMBER)
    with pytest.raises(Unauthorized):
        keys.authenticate(header)


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether something that another thread does happens in so many seconds."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_a_revoked_key_is_refused_here_at_once_and_elsewhere_soon(keys: Keys, database: Database) -> None:
    elsewhere = Keys(database)
    elsewhere.watch(0.01)
    created = keys.create("app", Role.MEMBER)
    header = f"Bearer {created.plaintext}"
    assert within(10, lambda: elsewhere.known(header) is not None)
    revoked = keys.revoke(created.info.id)
    assert revoked.revoked_at is not None
    assert keys.revoke(created.info.id) == revoked
    with pytest.raises(Unauthorized):
        keys.authenticate(header)
    assert within(10, lambda: elsewhere.known(header) is None)
    with pytest.raises(Unauthorized):
        elsewhere.authenticate(header)
    with pytest.raises(NotFound):
        keys.revoke("key-none")
    elsewhere.close()


def test_a_key_made_elsewhere_is_known_soon(keys: Keys, database: Database) -> None:
    elsewhere = Keys(database)
    with pytest.raises(Unauthorized):
        elsewhere.authenticate("Bearer bsm-none")
    created = keys.create("app", Role.MEMBER)
    time.sleep(0.06)
    assert elsewhere.authenticate(f"Bearer {created.plaintext}").name == "app"


def test_the_first_admin_key_is_made_once(keys: Keys, database: Database) -> None:
    kept: list[str] = []
    plaintext = keys.ensure_admin(kept.append)
    assert kept == [plaintext]
    assert keys.authenticate(f"Bearer {plaintext}").role is Role.OWNER
    assert keys.ensure_admin(kept.append) is None
    assert Keys(database).ensure_admin(kept.append) is None
    assert len(kept) == 1


def test_an_admin_key_that_cannot_be_kept_is_not_made(keys: Keys, database: Database) -> None:
    def killed(_: str) -> None:
        raise OSError("killed while writing")

    with pytest.raises(OSError, match="killed"):
        keys.ensure_admin(killed)
    kept: list[str] = []
    assert Keys(database).ensure_admin(kept.append) == kept[0]


def test_known_keys_work_while_the_database_is_down(postgres_url: str, plug: Callable[[bool], None]) -> None:
    database = Database.open_url(postgres_url)
    keys = Keys(database)
    header = f"Bearer {keys.create('app', Role.MEMBER).plaintext}"
    keys.watch(0.01)
    plug(False)
    time.sleep(0.1)  # the watcher meets a database that is down, and goes on
    assert keys.authenticate(header).name == "app"
    with pytest.raises(StoreError):
        Keys(database).authenticate(header)
    plug(True)
    revoker = Database.open_url(postgres_url)
    Keys(revoker).revoke(keys.list()[0].id)
    assert within(10, lambda: keys.known(header) is None)
    keys.close()
    revoker.close()
    database.close()


@pytest.mark.postgres
def test_known_keys_work_while_the_database_does_not_answer(
    forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database.open_url(forwarder.url)
    keys = Keys(database)
    header = f"Bearer {keys.create('app', Role.MEMBER).plaintext}"
    keys.watch(0.01)
    forwarder.freeze()
    time.sleep(0.2)  # the watcher waits for an answer, for good
    assert keys.authenticate(header).name == "app"
    with pytest.raises(StoreError, match="does not answer"):  # not Unauthorized: it may be a new key
        keys.authenticate("Bearer bsm-unknown")
    with monkeypatch.context() as hurried:
        hurried.setattr(governance, "_CLOSE_S", 0.1)
        keys.close()  # without waiting for an answer
    forwarder.thaw()
    keys.close()
    database.close()


@pytest.mark.parametrize("name", ["", "  ", "a" * 201, "a\nb"])
def test_a_name_must_be_readable(keys: Keys, name: str) -> None:
    with pytest.raises(InvalidRequest, match="name"):
        keys.create(name, Role.MEMBER)


@pytest.mark.parametrize(("old", "role"), [("inference", Role.APP), ("admin", Role.OWNER), ("member", Role.MEMBER)])
def test_keys_of_earlier_releases_keep_their_rights(keys: Keys, database: Database, old: str, role: Role) -> None:
    created = keys.create("old", Role.VIEWER)
    database.write(lambda c: c.execute(text("UPDATE api_keys SET role = :old"), {"old": old}))
    assert Keys(database).authenticate(f"Bearer {created.plaintext}").role is role
