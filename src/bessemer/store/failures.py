"""What a database raises, in the errors of this boundary."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
from sqlalchemy import exc

from bessemer.core.errors import InvalidRequest, StoreError

_NO_TABLE: Final = {"42P01", "3F000"}
"""PostgreSQL: there is no such table, no such schema."""


@contextmanager
def boundary() -> Iterator[None]:
    """Turn failures of the database itself into StoreError, and values that it cannot hold into InvalidRequest."""
    try:
        yield
    except exc.OperationalError as error:
        # Class 54, limits of the program: an index entry that is too long says nothing about the server's health.
        if str(getattr(error.orig, "sqlstate", None)).startswith("54"):
            raise InvalidRequest(f"The database cannot hold such a value: {cause(error)}.") from error
        raise StoreError(f"The database is unavailable: {cause(error)}. Check that it runs.") from error
    except (exc.InterfaceError, exc.InternalError, exc.TimeoutError) as error:
        raise StoreError(f"The database is unavailable: {cause(error)}. Check that it runs.") from error
    except (exc.DataError, UnicodeError) as error:
        raise InvalidRequest(f"The database cannot hold such a value: {cause(error)}.") from error
    except exc.DBAPIError as error:
        if without_tables(error):
            raise StoreError(f"The database has lost its tables: {cause(error)}.") from error
        if error.connection_invalidated:
            raise StoreError(f"The database connection was lost: {cause(error)}.") from error
        # Without a statement it failed to connect; of no kind in particular, the file is not SQLite's, or damaged.
        if error.statement is None or type(error) is exc.DatabaseError:
            raise StoreError(f"The database cannot be used: {cause(error)}. Check it and database_url.") from error
        raise


def without_tables(error: BaseException | None) -> bool:
    """Return whether the database has lost its tables."""
    said = getattr(error, "orig", None)
    return getattr(said, "sqlstate", None) in _NO_TABLE or str(said).startswith("no such table")


def cause(error: Exception) -> str:
    """Return what the database said, in one line, without the statement and its values; of a row that cannot be read
    the kind of error alone, since its text quotes what stands there."""
    if isinstance(error, msgspec.MsgspecError):
        return type(error).__name__
    said = getattr(error, "orig", None) or error
    return str(said).strip().split("\n", 1)[0]
