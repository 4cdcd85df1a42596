"""API keys: who asks. Only a hash is kept; a key is 256 random bits, so a plain hash is as good as a slow one.

Known keys are checked in memory, which a thread keeps up to date: whoever is known stays so while the database is down
or does not answer.
"""

import contextlib
import hashlib
import hmac
import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from bessemer.core.errors import InvalidRequest, StoreError, Unauthorized
from bessemer.core.ids import new_id
from bessemer.core.types import Frozen, Principal, Role
from bessemer.store import keys, revisions
from bessemer.store.database import Database
from bessemer.store.keys import KeyRow

_log = logging.getLogger(__name__)
PREFIX = "bsm-"
_MISS_REFRESH_S = 0.05
"""Unknown keys make the table be read at most this often."""
_PATIENCE_S = 1.0
"""How long an unknown key waits for a reading that another one has begun."""
_CLOSE_S = 5.0


class KeyInfo(Frozen, frozen=True):
    """A key without its secret."""

    id: str
    name: str
    role: Role
    created_at: float
    hint: str
    """The key's last four characters."""
    revoked_at: float | None = None


class CreatedKey(NamedTuple):
    """A new key; the plaintext is shown this once."""

    plaintext: str
    info: KeyInfo


class Keys:
    """Makes, checks and revokes keys. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reading = threading.Lock()
        """Held by the one who reads the table; who finds a key in memory never asks for it."""
        self._principals: dict[str, Principal] = {}
        self._revision = -1
        self._checked_at = float("-inf")
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None

    def create(self, name: str, role: Role) -> CreatedKey:
        """Make a key. Raises InvalidRequest for a name that is empty or too long."""
        plaintext, row = _new_key(name, role)
        keys.insert(self._database, row)
        self._database.on_commit(self._follow)
        return CreatedKey(plaintext, _info(row))

    def ensure_admin(self, keep: Callable[[str], None]) -> str | None:
        """Make the first admin key of an installation without keys and return it; None when there are keys.

        `keep` stores the key before it becomes valid: a process killed in between leaves a key that the next start
        replaces, never a valid one that nobody knows.
        """
        if keys.find(self._database):
            return None
        plaintext, row = _new_key("admin", Role.OWNER)
        keep(plaintext)
        if not keys.insert_first(self._database, row):
            return None
        self._follow()
        return plaintext

    def known(self, authorization: str | None) -> Principal | None:
        """Return who sends an Authorization header, None when memory does not know the key. Never waits.

        Raises Unauthorized for a header that holds no key.
        """
        scheme, _, key = (authorization or "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise Unauthorized("Send an API key: the header 'Authorization: Bearer bsm-…'.", param="Authorization")
        return self._find(_hash(key))

    def authenticate(self, authorization: str | None) -> Principal:
        """Return who sends an Authorization header; a key that is not known may be new, so the table is read. Blocking.

        Raises Unauthorized, StoreError when the table cannot be read.
        """
        principal = self.known(authorization)
        if principal is None:
            self._refresh(_MISS_REFRESH_S)
            principal = self.known(authorization)
        if principal is None:
            raise Unauthorized("The API key is not valid: check it, or ask for a new one.", param="Authorization")
        return principal

    def list(self) -> list[KeyInfo]:
        """Return every key, revoked ones included, oldest first."""
        return [_info(row) for row in keys.find(self._database)]

    def revoke(self, key_id: str) -> KeyInfo:
        """Make a key invalid: at once here, within seconds in other processes. Raises NotFound."""
        row = keys.revoke(self._database, key_id, time.time())
        self._database.on_commit(lambda: self._forget(row.key_hash))
        return _info(row)

    def watch(self, interval_s: float = 1.0) -> None:
        """Follow what other processes change, until `close`; while the database is down the last keys seen stay."""
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, args=(interval_s,), name="bessemer-keys", daemon=True)
            self._watcher.start()

    def close(self) -> None:
        """Stop watching, without waiting for a database that does not answer."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join(_CLOSE_S)

    def _find(self, key_hash: str) -> Principal | None:
        # The table is looked up by hash; comparing again in constant time leaves nothing to measure.
        principal = self._principals.get(key_hash)
        known = key_hash if principal is not None else "0" * len(key_hash)
        return principal if hmac.compare_digest(known, key_hash) else None

    def _watch(self, interval_s: float) -> None:
        while not self._stop.wait(interval_s):
            try:
                self._refresh(0.0)
            except StoreError:
                continue  # the catalog, which reads the same database as often, says so
            except Exception:  # without this thread, revoked keys would stay valid
                _log.exception("the keys could not be read")

    def _forget(self, key_hash: str) -> None:
        self._follow()
        self._principals.pop(key_hash, None)  # the database may have left before it could be read again

    def _follow(self) -> None:
        """Bring a change made here into memory at once; if the database has left since, the watcher does it later."""
        with contextlib.suppress(StoreError):
            self._refresh(0.0)

    def _refresh(self, after_s: float) -> None:
        """Read what changed, unless a reading began less than `after_s` ago, or since this was asked for.

        Raises StoreError; what was seen last stays.
        """
        asked = time.monotonic()
        if not self._reading.acquire(timeout=_PATIENCE_S):
            raise StoreError("The keys cannot be read: the database does not answer. Try again.")
        try:
            if asked - self._checked_at < after_s:
                return
            began = time.monotonic()
            # The revision is read first: a change that comes in between is loaded now and once more later.
            revision = revisions.current(self._database, revisions.KEYS)
            if revision != self._revision:
                rows = keys.find(self._database)
                self._principals = {row.key_hash: _principal(row) for row in rows if row.revoked_at is None}
                self._revision = revision
            self._checked_at = began
        finally:
            self._reading.release()


def _new_key(name: str, role: Role) -> tuple[str, KeyRow]:
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise InvalidRequest("name: give the key a name of 1 to 200 printable characters.", param="name")
    plaintext = PREFIX + secrets.token_urlsafe(32)
    row = KeyRow(
        id=new_id("key"),
        key_hash=_hash(plaintext),
        name=name,
        role=role,
        hint=plaintext[-4:],
        created_at=time.time(),
    )
    return plaintext, row


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def _principal(row: KeyRow) -> Principal:
    return Principal(key_id=row.id, name=row.name, role=row.role)


def _info(row: KeyRow) -> KeyInfo:
    return KeyInfo(
        id=row.id,
        name=row.name,
        role=row.role,
        created_at=row.created_at,
        hint=row.hint,
        revoked_at=row.revoked_at,
    )
