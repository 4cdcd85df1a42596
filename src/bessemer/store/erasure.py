"""Erasing: inferences, their calls and their feedback are deleted for good, and never come back from a journal.

What is erased leaves its id alone as a tombstone, in the transaction that deletes it: a journal that is replayed after
a crash would bring the row again. SQLite overwrites deleted rows (`secure_delete`, database.py); PostgreSQL keeps dead
rows until it vacuums.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, delete, func, select, tuple_

from bessemer.core.inferences import INTERNAL_KEY, Inference
from bessemer.store import paging, usage
from bessemer.store.database import Database, insert_new
from bessemer.store.inferences import get_many
from bessemer.store.schema import erased_records, feedback, inferences, model_calls

_IDS_PER_QUERY = 500
_PAGE = 1000


class Erased(NamedTuple):
    """How many rows an erasure deleted."""

    inferences: int
    model_calls: int
    feedback: int


def matching(
    database: Database,
    *,
    ids: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    route: str | None = None,
    since: float | None = None,
    until: float | None = None,
) -> Iterator[Inference]:
    """Yield the inferences, without their calls, that meet every condition given, oldest first.

    `ids`: one of these; `tags`: all of these; `since` is inclusive, `until` exclusive.
    """
    c = inferences.c
    statement = select(c.created_at, c.id, c.body).order_by(c.created_at, c.id).limit(_PAGE)
    statement = statement.where(paging.mine(database, inferences))
    if ids:
        statement = statement.where(c.id.in_(ids))
    if route is not None:
        statement = statement.where(c.route == route)
    if since is not None:
        statement = statement.where(c.created_at >= since)
    if until is not None:
        statement = statement.where(c.created_at < until)
    wanted = dict(tags or {})
    for pair in wanted.items():  # bodies are written without blanks; whether it is a tag is looked at below
        said = ":".join(msgspec.json.encode(part).decode() for part in pair)
        statement = statement.where(c.body.contains(said, autoescape=True))
    mark: tuple[float, str] | None = None
    while True:
        page = statement if mark is None else statement.where(tuple_(c.created_at, c.id) > mark)
        rows = database.read(lambda connection, page=page: connection.execute(page).all())  # type: ignore[misc]
        for row in rows:
            found = paging.decode(Inference, row.body)
            if found.has_tags(wanted):
                yield found
        if len(rows) < _PAGE:
            return
        mark = (rows[-1].created_at, rows[-1].id)


def copies(database: Database, found: Sequence[Inference]) -> list[Inference]:
    """Return the inferences, without their calls, in which Bessemer itself asked what these asked, to evaluate it."""
    known, c = {row.id for row in found}, inferences.c
    statement = select(c.body).where(c.key_id == INTERNAL_KEY, paging.mine(database, inferences))

    def work(connection: Connection) -> list[str]:
        return [
            body
            for some in _chunks({row.input_sha256 for row in found})
            for body in connection.execute(statement.where(c.input_sha256.in_(some))).scalars()
        ]

    rows = (paging.decode(Inference, body) for body in database.read(work))
    return [row for row in rows if row.id not in known]


def erase(database: Database, found: Sequence[Inference], feedback_ids: Sequence[str] = ()) -> Erased:
    """Delete inferences with their calls and feedback, and single feedback by id, in one transaction.

    Feedback on an episode goes when none of the episode's inferences is left.
    """
    ids = [row.id for row in found]
    episodes = {row.episode_id for row in found if row.episode_id is not None}

    def work(connection: Connection) -> Erased:
        of_feedback = paging.mine(database, feedback)
        foreign = set(_ids(connection, inferences, "id", ids, ~paging.mine(database, inferences)))
        own = [one for one in ids if one not in foreign]  # one that is not there is in a journal, perhaps
        about = [
            *_ids(connection, feedback, "inference_id", own, of_feedback),
            *_ids(connection, feedback, "id", feedback_ids, of_feedback),
        ]
        usage.forget_tags(connection, list(get_many(database, own).values()))
        calls = _delete(connection, model_calls, "inference_id", own)
        rows = _delete(connection, inferences, "id", own)
        left = set(_values(connection, inferences, "episode_id", episodes, paging.mine(database, inferences)))
        about += _ids(connection, feedback, "episode_id", episodes - left, of_feedback)
        said = _delete(connection, feedback, "id", about)
        gone = {"erased_at": time.time(), "project_id": database.owner}
        insert_new(connection, erased_records, [{"id": one} | gone for one in {*own, *about}])
        return Erased(rows, calls, said)

    return database.write(work)


def erased(database: Database, ids: Sequence[str]) -> set[str]:
    """Return those of the ids that were erased."""
    mine = paging.mine(database, erased_records)
    return set(database.read(lambda connection: _ids(connection, erased_records, "id", ids, mine)))


def known_feedback(database: Database, ids: Sequence[str]) -> list[str]:
    """Return those of the ids that feedback has."""
    mine = paging.mine(database, feedback)
    return database.read(lambda connection: _ids(connection, feedback, "id", ids, mine))


def count_feedback(database: Database, ids: Sequence[str]) -> tuple[int, int]:
    """Return how many model calls and how much feedback inferences have."""

    def work(connection: Connection) -> tuple[int, int]:
        calls = said = 0
        for some in _chunks(ids):
            of_calls = select(func.count()).where(
                model_calls.c.inference_id.in_(some), paging.mine(database, model_calls)
            )
            of_feedback = select(func.count()).where(feedback.c.inference_id.in_(some), paging.mine(database, feedback))
            calls += connection.execute(of_calls).scalar_one()
            said += connection.execute(of_feedback).scalar_one()
        return calls, said

    return database.read(work)


def _ids(
    connection: Connection, table: Table, column: str, values: Iterable[str], within: ColumnElement[bool]
) -> list[str]:
    statement = select(table.c.id).where(within)
    return [
        one
        for some in _chunks(values)
        for one in connection.execute(statement.where(table.c[column].in_(some))).scalars()
    ]


def _values(
    connection: Connection, table: Table, column: str, values: Iterable[str], within: ColumnElement[bool]
) -> list[str]:
    statement = select(table.c[column]).where(within).distinct()
    return [
        one
        for some in _chunks(values)
        for one in connection.execute(statement.where(table.c[column].in_(some))).scalars()
    ]


def _delete(connection: Connection, table: Table, column: str, values: Iterable[str]) -> int:
    return sum(connection.execute(delete(table).where(table.c[column].in_(some))).rowcount for some in _chunks(values))


def _chunks(values: Iterable[str]) -> Iterator[list[str]]:
    every = list(values)
    for start in range(0, len(every), _IDS_PER_QUERY):
        yield every[start : start + _IDS_PER_QUERY]
