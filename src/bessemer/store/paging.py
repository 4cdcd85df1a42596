"""Pages of rows in order of creation, and nouns as JSON text."""

from itertools import accumulate
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, Row, Select, Table, func, select, true, tuple_

from bessemer.core import pieces
from bessemer.core.errors import InvalidRequest
from bessemer.store.database import Database, take_time

N = TypeVar("N", bound=msgspec.Struct)
ANSWER_CHARACTERS = 16 * 1024 * 1024
"""Of the bodies of one page: a client that sent large requests could otherwise have all of them answered at once."""
_LARGEST_PAGE = 10_001
"""What a list endpoint reads at most; whoever asks for more reads a table."""


def encode(noun: msgspec.Struct) -> str:
    """Return a noun as JSON text, the form of `body` columns.

    Raises InvalidRequest for one that would not come back: JSON has no infinity and no NaN.
    """
    body = msgspec.json.encode(noun)
    try:
        msgspec.json.decode(body, type=type(noun))
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{type(noun).__name__} cannot be kept: {error}. Are its numbers finite?") from error
    return body.decode()


def decode(kind: type[N], body: str) -> N:
    """Return the noun that `encode` wrote."""
    if len(body) <= pieces.PIECE:
        return msgspec.json.decode(body, type=kind)
    noun: N = pieces.decode(body.encode(), kind, msgspec.json.Decoder(kind).decode)
    return noun


def mine(database: Database, table: Table) -> ColumnElement[bool]:
    """Return the condition that a row of the table belongs to the project that the database is seen by."""
    return true() if database.project is None else table.c.project_id == database.project


def page(
    connection: Connection,
    table: Table,
    statement: Select[Any],
    *,
    within: ColumnElement[bool],
    after: str | None,
    limit: int | None,
    ascending: bool = False,
) -> list[Row[Any]]:
    """Run a select ordered by (created_at, id), newest first unless `ascending`, from behind the row with id `after`.

    `within` (`mine`) bounds rows and cursor alike. Raises InvalidRequest when `after` is not an id within it or the
    limit is negative.
    """
    created_at, identity = table.c.created_at, table.c.id
    if limit is not None and limit < 0:
        raise InvalidRequest(f"limit is {limit}: give a number from 0 up.", param="limit")
    if after is not None:
        start = connection.execute(select(created_at).where(identity == after, within)).scalar_one_or_none()
        if start is None:
            raise InvalidRequest(f"after is {after!r}, which is not an id of this list.", param="after")
        here, mark = tuple_(created_at, identity), tuple_(start, after)
        statement = statement.where(here > mark if ascending else here < mark)
    if limit is None or limit > _LARGEST_PAGE:
        take_time(connection)
    statement = statement.where(within)
    order: list[Any] = [_direction(created_at, ascending=ascending), _direction(identity, ascending=ascending)]
    return list(connection.execute(statement.order_by(*order).limit(limit)))


def fitting(
    connection: Connection,
    table: Table,
    statement: Select[Any],
    *,
    within: ColumnElement[bool],
    after: str | None,
    limit: int,
) -> int:
    """Return how many rows of a page, `limit` at most, go into one answer by the length of their `body`; the first
    always does. Raises as `page`."""
    lengths = statement.with_only_columns(func.length(table.c.body))
    rows = page(connection, table, lengths, within=within, after=after, limit=limit)
    fit = sum(total <= ANSWER_CHARACTERS for total in accumulate(row[0] for row in rows))
    return limit if fit == len(rows) else max(1, fit)


def _direction(column: Column[Any], *, ascending: bool) -> Any:
    return column.asc() if ascending else column.desc()
