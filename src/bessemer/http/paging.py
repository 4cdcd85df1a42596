"""OpenAI's list envelope and its cursor."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from bessemer.core.errors import InvalidRequest
from bessemer.core.paging import ListQuery, Page

T = TypeVar("T")
R = TypeVar("R")


def page_limit(limit: int, largest: int = 1000) -> int:
    """Return a valid page size. Raises InvalidRequest."""
    if not 1 <= limit <= largest:
        raise InvalidRequest(f"'limit' must be 1 to {largest}; got {limit}.", param="limit")
    return limit


def envelope(rows: Sequence[T], *, has_more: bool = False, ids: Sequence[str] = ()) -> Page[T]:
    """Return the list object of these rows."""
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    return Page(data=rows, first_id=first, last_id=last, has_more=has_more)


def page_of(rows: Sequence[T], query: ListQuery, id_of: Callable[[T], str]) -> Page[T]:
    """Return the list object of a page of rows that are in memory, in their order. Raises InvalidRequest."""
    limit, start = page_limit(query.limit), 0
    if query.after is not None:
        ids = [id_of(row) for row in rows]
        if query.after not in ids:
            raise InvalidRequest(f"after is {query.after!r}, which is not an id of this list.", param="after")
        start = ids.index(query.after) + 1
    return page(rows[start : start + limit + 1], limit, lambda row: row, id_of)


def page(rows: Sequence[T], limit: int, wire: Callable[[T], R], id_of: Callable[[T], str]) -> Page[R]:
    """Return the list object of at most `limit` rows out of `limit + 1` that were asked for."""
    shown = rows[:limit]
    return envelope([wire(row) for row in shown], has_more=len(rows) > limit, ids=[id_of(row) for row in shown])
