"""Keys: only those that were made and not revoked open anything."""

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from sqlalchemy import text
from tests.store.forwarder import Forwarder

from bessemer.core.access import Principal, Role
from bessemer.core.errors import Conflict, InvalidRequest, NotFound, StoreError, Unauthorized
from bessemer.identity import keys as identity
from bessemer.identity.keys import Keys
from bessemer.store import revisions
from bessemer.store.database import Database
from bessemer.store.polled_notices import PolledNotices


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
    assert [msgspec.structs.replace(key, last_used_at=None) for key in keys.list()] == [created.info]


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


def follow(keys: Keys, database: Database) -> PolledNotices:
    """Let changes that others make come to keys."""
    notices = PolledNotices(database, 0.01)
    notices.subscribe(revisions.KEYS, keys.refresh)
    notices.start()
    return notices


def ignored(work: Callable[[], object]) -> None:
    """Do something, whether or not the database answers."""
    with contextlib.suppress(StoreError):
        work()


def test_a_revoked_key_is_refused_here_at_once_and_elsewhere_soon(keys: Keys, database: Database) -> None:
    elsewhere = Keys(database)
    notices = follow(elsewhere, database)
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
    notices.close()


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
    notices = follow(keys, database)
    plug(False)
    time.sleep(0.1)  # the notices meet a database that is down, and go on
    assert keys.authenticate(header).name == "app"
    with pytest.raises(StoreError):
        Keys(database).authenticate(header)
    plug(True)
    revoker = Database.open_url(postgres_url)
    Keys(revoker).revoke(keys.list()[0].id)
    assert within(10, lambda: keys.known(header) is None)
    notices.close()
    revoker.close()
    database.close()


@pytest.mark.postgres
def test_known_keys_work_while_the_database_does_not_answer(
    forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database.open_url(forwarder.url)
    keys = Keys(database)
    header = f"Bearer {keys.create('app', Role.MEMBER).plaintext}"
    keys.refresh()
    forwarder.freeze()
    waiting = threading.Thread(target=lambda: ignored(keys.refresh))
    waiting.start()
    time.sleep(0.2)  # it waits for an answer, for good
    assert keys.authenticate(header).name == "app"
    with pytest.raises(StoreError, match="does not answer"):  # not Unauthorized: it may be a new key
        keys.authenticate("Bearer bsm-unknown")
    keys.note_uses()
    with monkeypatch.context() as hurried:
        hurried.setattr(identity, "_CLOSE_S", 0.1)
        keys.close()  # without waiting for an answer
    forwarder.thaw()
    waiting.join(20)
    keys.close()
    assert Keys(database).list()[0].last_used_at is not None, "what could not be written at once was written then"
    database.close()


@pytest.mark.parametrize("name", ["", "  ", "a" * 65, "a\nb", "\u202eevil"])
def test_a_name_must_be_readable(keys: Keys, name: str) -> None:
    with pytest.raises(InvalidRequest, match="name"):
        keys.create(name, Role.MEMBER)


@pytest.mark.parametrize(("old", "role"), [("inference", Role.APP), ("admin", Role.OWNER), ("member", Role.MEMBER)])
def test_keys_of_earlier_releases_keep_their_rights(keys: Keys, database: Database, old: str, role: Role) -> None:
    created = keys.create("old", Role.VIEWER)
    database.write(lambda c: c.execute(text("UPDATE api_keys SET role = :old"), {"old": old}))
    assert Keys(database).authenticate(f"Bearer {created.plaintext}").role is role


def test_an_expired_key_is_refused_from_then_on(keys: Keys) -> None:
    created = keys.create("short", Role.MEMBER, expires_at=time.time() + 0.3)
    header = f"Bearer {created.plaintext}"
    assert keys.authenticate(header).name == "short"
    assert within(10, lambda: time.time() > (created.info.expires_at or 0))
    with pytest.raises(Unauthorized, match="expired"):
        keys.known(header)
    with pytest.raises(Unauthorized, match="expired"):
        keys.authenticate(header)
    assert [key.expires_at for key in keys.list()] == [created.info.expires_at]


@pytest.mark.parametrize("at", [0.0, -1.0, float("nan"), float("inf"), 1.8e12])
def test_an_expiry_is_a_time_to_come_in_seconds(keys: Keys, at: float) -> None:
    with pytest.raises(InvalidRequest, match="expires_at"):
        keys.create("odd", Role.MEMBER, expires_at=at)


def test_the_last_owner_cannot_be_revoked(keys: Keys) -> None:
    first = keys.create("first", Role.OWNER).info
    keys.create("not for good", Role.OWNER, expires_at=time.time() + 1000)
    keys.create("elsewhere", Role.OWNER, project_id="claims")
    keys.create("no owner", Role.MEMBER)
    with pytest.raises(Conflict, match="last owner"):
        keys.revoke(first.id)
    second = keys.create("second", Role.OWNER).info
    assert keys.revoke(first.id).revoked_at is not None
    with pytest.raises(Conflict, match="last owner"):
        keys.revoke(second.id)


def test_of_two_owners_that_are_revoked_at_once_one_stays(keys: Keys) -> None:
    owners = [keys.create(name, Role.OWNER).info for name in ("one", "two")]

    def revoke(key_id: str) -> bool:
        try:
            keys.revoke(key_id)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(revoke, [owner.id for owner in owners])) == [False, True]


def test_it_is_told_when_a_key_was_last_used(keys: Keys, database: Database) -> None:
    created = keys.create("app", Role.APP)
    assert keys.list()[0].last_used_at is None
    keys.authenticate(f"Bearer {created.plaintext}")
    told = keys.list()[0].last_used_at
    assert told is not None
    assert abs(told - time.time()) < 60
    keys.note_uses()
    keys.close()
    assert Keys(database).list()[0].last_used_at == told
