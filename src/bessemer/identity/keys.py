"""API keys: who asks. Only a hash is kept; a key is 256 random bits, so a plain hash is as good as a slow one.

Known keys are checked in memory, which change notices keep up to date (`refresh`): whoever is known stays so while the
database is down or does not answer.
"""

import contextlib
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from bessemer.core.access import Principal, Role
from bessemer.core.errors import InvalidRequest, StoreError, Unauthorized
from bessemer.core.ids import new_id
from bessemer.core.types import DEFAULT_PROJECT
from bessemer.core.wire import KeyInfo
from bessemer.store import audit, keys, revisions
from bessemer.store.database import Database
from bessemer.store.keys import KeyRow

PREFIX = "bsm-"
_MISS_REFRESH_S = 0.05
"""Unknown keys make the table be read at most this often."""
_PATIENCE_S = 1.0
"""How long an unknown key waits for a reading that another one has begun."""
_CLOSE_S = 5.0
_USED_S = 60.0
"""Uses of keys are written this often."""
_NAME_CHARACTERS = 64
_MODELS = 1000
_LATEST = 253_402_300_800.0
"""The year 10000, which no calendar of Python's reaches: milliseconds sent as seconds are found out."""
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class CreatedKey(NamedTuple):
    """A new key; the plaintext is shown this once."""

    plaintext: str
    info: KeyInfo


class _Known(NamedTuple):
    principal: Principal
    expires_at: float | None


class Keys:
    """Makes, checks and revokes keys. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reading = threading.Lock()
        """Held by the one who reads the table; who finds a key in memory never asks for it."""
        self._known: dict[str, _Known] = {}
        self._used: dict[str, float] = {}
        """When keys were last used, by id, since this was last written."""
        self._revision = -1
        self._checked_at = float("-inf")
        self._stop = threading.Event()
        self._noting: threading.Thread | None = None

    def create(
        self,
        name: str,
        role: Role,
        *,
        project_id: str = DEFAULT_PROJECT,
        expires_at: float | None = None,
        models: Sequence[str] | None = None,
        trust: float = 1.0,
    ) -> CreatedKey:
        """Make a key; see KeyInfo. Raises InvalidRequest that names the field."""
        plaintext, row = _new_key(name, role)
        row = msgspec.structs.replace(
            row,
            project_id=_checked_project(project_id),
            expires_at=_checked_expiry(expires_at),
            models=_checked_models(models),
            trust=_checked_trust(trust),
        )
        keys.insert(self._database, row)
        self._database.on_commit(self._follow)
        return CreatedKey(plaintext, _info(row))

    def ensure_admin(self, keep: Callable[[str], object]) -> str | None:
        """Make the first admin key of an installation without keys and return it; None when there are keys.

        `keep` stores the key before it becomes valid: a process killed in between leaves a key that the next start
        replaces, never a valid one that nobody knows.
        """
        if keys.find(self._database):
            return None
        plaintext, row = _new_key("admin", Role.OWNER)
        keep(plaintext)
        with self._database.transaction():
            if not keys.insert_first(self._database, row):
                return None
            audit.append(self._database, audit.SYSTEM, "api_key.created", row.id, {"name": row.name, "role": row.role})
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

    def id_of(self, plaintext: str) -> str | None:
        """Return the id of a key, revoked ones included; None for what was never one. Reads the database."""
        key_hash = _hash(plaintext)
        return next((row.id for row in keys.find(self._database) if row.key_hash == key_hash), None)

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

    def list(self, project: str | None = None, *, limit: int | None = None, after: str | None = None) -> list[KeyInfo]:
        """Return the keys of a project (None: of all) after the cursor, revoked and expired ones too, newest first."""
        used = dict(self._used)
        rows = [_info(row) for row in keys.find(self._of(project), limit=limit, after=after)]
        return [msgspec.structs.replace(row, last_used_at=used.get(row.id, row.last_used_at)) for row in rows]

    def get(self, key_id: str, project: str | None = None) -> KeyInfo:
        """Return a key of a project (None: of any), revoked or not. Raises NotFound."""
        return _info(keys.get(self._of(project), key_id))

    def revoke(self, key_id: str, project: str | None = None) -> KeyInfo:
        """Make a key of a project (None: of any) invalid: at once here, within seconds in other processes.

        Raises NotFound, Conflict for the last owner.
        """
        row = keys.revoke(self._of(project), key_id, time.time())
        self._database.on_commit(lambda: self._forget(row.key_hash))
        return _info(row)

    def refresh(self) -> None:
        """Load what other processes changed; reads one row when nothing did. Raises StoreError: what was seen stays."""
        self._refresh(0.0)

    def note_uses(self) -> None:
        """Write each minute, until `close`, when keys were used last."""
        if self._noting is None:
            self._noting = threading.Thread(target=self._note_uses, name="bessemer-key-uses", daemon=True)
            self._noting.start()

    def close(self) -> None:
        """Write when keys were used last and stop, without waiting for a database that does not answer."""
        self._stop.set()
        if self._noting is not None:
            self._noting.join(_CLOSE_S)

    def _of(self, project: str | None) -> Database:
        return self._database if project is None else self._database.within(project)

    def _find(self, key_hash: str) -> Principal | None:
        # The table is looked up by hash; comparing again in constant time leaves nothing to measure.
        found = self._known.get(key_hash)
        known = key_hash if found is not None else "0" * len(key_hash)
        if not hmac.compare_digest(known, key_hash) or found is None:
            return None
        now = time.time()
        if found.expires_at is not None and found.expires_at <= now:
            raise Unauthorized("The API key has expired: ask for a new one.", param="Authorization", code="expired_key")
        self._used[found.principal.key_id] = now
        return found.principal

    def _write_used(self) -> None:
        used, self._used = self._used, {}
        if used:
            try:
                keys.touch(self._database, used)
            except StoreError:
                self._used = used | self._used
                raise

    def _note_uses(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._stop.wait(_USED_S)
            with contextlib.suppress(StoreError):  # it is tried again
                self._write_used()

    def _forget(self, key_hash: str) -> None:
        self._follow()
        self._known.pop(key_hash, None)  # the database may have left before it could be read again

    def _follow(self) -> None:
        """Bring a change made here into memory at once; if the database has left since, change notices do it later."""
        with contextlib.suppress(StoreError):
            self.refresh()

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
                self._known = {
                    row.key_hash: _Known(principal_of(row), row.expires_at) for row in rows if row.revoked_at is None
                }
                self._revision = revision
            self._checked_at = began
        finally:
            self._reading.release()


def _new_key(name: str, role: Role) -> tuple[str, KeyRow]:
    if not name.strip() or len(name) > _NAME_CHARACTERS or not name.isprintable():
        raise InvalidRequest(
            f"'name' must have 1 to {_NAME_CHARACTERS} printable characters, not blanks alone.", param="name"
        )
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


def _checked_project(project_id: str) -> str:
    if not _PROJECT.fullmatch(project_id):
        raise InvalidRequest(
            f"'project' is {project_id!r}: use 1 to 64 small letters, digits, '_' and '-', a letter or digit first.",
            param="project",
        )
    return project_id


def _checked_expiry(expires_at: float | None) -> float | None:
    if expires_at is not None and not time.time() < expires_at < _LATEST:
        raise InvalidRequest(
            "'expires_at' must be Unix seconds of a time to come; leave it out for a key that does not expire.",
            param="expires_at",
        )
    return expires_at


def _checked_models(models: Sequence[str] | None) -> tuple[str, ...] | None:
    if models is None:
        return None
    if not 1 <= len(models) <= _MODELS or any(not 1 <= len(name) <= 200 for name in models):
        raise InvalidRequest(
            f"'models' must list 1 to {_MODELS} names of routes or models; leave it out for all.", param="models"
        )
    return tuple(dict.fromkeys(models))


def _checked_trust(trust: float) -> float:
    if not 0 <= trust <= 1:
        raise InvalidRequest(f"'trust' must be between 0 and 1, not {trust:g}.", param="trust")
    return trust


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def principal_of(row: KeyRow) -> Principal:
    """Return who asks with a key."""
    return Principal(
        key_id=row.id, name=row.name, role=row.role, project_id=row.project_id, trust=row.trust, models=row.models
    )


def _info(row: KeyRow) -> KeyInfo:
    return KeyInfo(
        id=row.id,
        name=row.name,
        role=row.role,
        created_at=row.created_at,
        hint=row.hint,
        revoked_at=row.revoked_at,
        project_id=row.project_id,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        trust=row.trust,
        models=row.models,
    )
