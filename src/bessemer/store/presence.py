"""Whether the database is still the one that was opened: its file in place, its identity unchanged, its pages whole.

SQLite goes on writing to a file that was deleted or moved, and makes an empty one where none is; a PostgreSQL database
may be dropped and made again under its name. What is written then is lost. So each database has an identity, which the
data folder remembers, and an opened one is checked: its file at every transaction, the rest each second.
"""

import contextlib
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from bessemer.core.errors import StoreError

_ID_FILE = "database.id"
"""In the data folder: the identity of the database that belongs to it."""
_TRACES = ("journal.key", "admin.key", "workflows.db", "spool/*.journal", "blobs/*/*", "plans/*.json")
"""What is in a data folder only when its database has been there."""


class Presence:
    """Of a SQLite file; of a PostgreSQL database (path None) only what `fault` says."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file = None if path is None else _identity(path)
        self.fault: str | None = None
        """Why nothing may be read or written."""
        self.damage: str | None = None
        """Why nothing may be written; what is whole can be read."""

    def check(self, *, writing: bool) -> None:
        """Raise StoreError unless the database may be used."""
        if self._path is not None:
            try:
                found = _identity(self._path)
            except OSError:
                raise StoreError(f"The database {str(self._path)!r} is gone: put the file back.") from None
            if found != self._file:
                raise StoreError(
                    f"The database {str(self._path)!r} was replaced by another file: put the old one back, or restart "
                    "to go on with this one."
                )
        if self.fault is not None:
            raise StoreError(self.fault)
        if writing and self.damage is not None:
            raise StoreError(f"The database is damaged ({self.damage}): stop, and restore it from a backup.")


def damage(path: Path, seconds: float, known: str | None = None) -> str | None:
    """Return what is wrong with the pages of a SQLite file, None when nothing is; what is `known` when time is out."""
    deadline = time.monotonic() + seconds
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=seconds)) as connection:
            connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
            found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError:
        return known  # out of time, locked, or gone: others say so
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == "ok" else found.replace("\n", " ")


def make_file(path: Path) -> None:
    """Make an empty file for a database, mode 600, where there is none. Nothing else makes one. Raises StoreError."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreError(
            f"The database cannot be used: {str(path)!r}: {error.strerror}. Check it and database_url."
        ) from None


def expect(folder: Path, *, empty: bool) -> str | None:
    """Return the identity that the database of a data folder must have; None when it may have any.

    Raises StoreError when the database is `empty` and the folder has had one: it is not begun anew beside its data.
    """
    remembered = folder / _ID_FILE
    expected = remembered.read_text().strip() if remembered.is_file() else None
    if empty:
        found = remembered if expected else next((one for glob in _TRACES for one in folder.glob(glob)), None)
        if found is not None:
            raise StoreError(
                f"The database is empty or gone, but {str(found)!r} belongs to one: restore the database, or begin "
                "anew with another data folder (--data)."
            )
    return expected


def remember(folder: Path, identity: str, expected: str | None) -> None:
    """Note which database belongs to a data folder. Raises StoreError when it is another one."""
    if expected is not None and identity != expected:
        raise StoreError(
            f"The database is not the one that {str(folder)!r} belongs to: check database_url, or delete "
            f"{str(folder / _ID_FILE)!r} to go on with this one."
        )
    if expected is None:
        new = folder / f".{_ID_FILE}.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as target:
            target.write(identity + "\n")
        new.replace(folder / _ID_FILE)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
