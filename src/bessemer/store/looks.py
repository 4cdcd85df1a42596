"""The ledger of looks: how often the same items were asked to decide something, which is what each answer may cost.

A gate or a cascade that looks at items for the k-th time may spend less of its error than the first (`paired.spent`).
Items are the same by the hash of their input, whichever dataset they stand in: building the same records once more
opens no new line, fresh records do. One candidate's gates are one line on any items: else it could be tried on slice
after slice of them until it passes.
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec
from sqlalchemy import Connection, select
from sqlalchemy import insert as sql_insert

from bessemer.core.types import Frozen
from bessemer.store import paging
from bessemer.store.database import Database, insert_new, lock
from bessemer.store.schema import look_items, looks

_SHARED = 0.05
"""Two looks are at the same items when more than this share of the later one's was in the earlier."""
_CHUNK = 500


class Purpose(StrEnum):
    """What the items were asked for."""

    GATE = "gate"
    CASCADE = "cascade"
    SCORES = "scores"
    """An evaluation of these items without a gate: whoever read it may choose by it what to gate, or to calibrate."""


class Look(Frozen, frozen=True):
    """One look at a set of items."""

    id: str
    """Of the job that looked; a job looks once, however often it is killed and repeated."""
    created_at: float
    purpose: Purpose
    subject: str | None
    """What the gate or cascade is about."""
    others: tuple[str, ...] = ()
    """What else was scored, and could be chosen by its score."""


def number(database: Database, look: Look, items: Sequence[str]) -> int:
    """Record a look at items (hashes of their inputs) and return its number, from 1; the first one of an id stands.

    To be recorded before anything of it can be read: a look that is broken off is spent.

    Counted are the gates and cascades that looked at these items before, the candidate's gates on other items, and each
    system beside `subject` whose score on these was read without a gate, at once or piece by piece.
    """

    def work(connection: Connection) -> int:
        lock(connection, "looks")
        known = select(looks.c.number).where(looks.c.id == look.id, looks.c.project_id == database.owner)
        found = connection.execute(known).scalar_one_or_none()
        if found is not None:
            return int(found)
        counted = _count(look, *_earlier(database, connection, look, set(items)))
        values = {
            "id": look.id,
            "created_at": look.created_at,
            "number": counted,
            "body": paging.encode(look),
            "project_id": database.owner,
        }
        connection.execute(sql_insert(looks).values(values))
        part = {"look": look.id, "project_id": database.owner}
        insert_new(connection, look_items, [{"item": item} | part for item in sorted(set(items))])
        return counted

    return database.write(work)


def _count(look: Look, earlier: Sequence[Look], in_pieces: set[str]) -> int:
    decided = [one for one in earlier if one.purpose is not Purpose.SCORES]
    read = {system for one in (*earlier, look) for system in one.others} | in_pieces
    gated = {one.subject for one in decided}
    return 1 + len(decided) + len(read - gated - {look.subject})


def _earlier(database: Database, connection: Connection, look: Look, items: set[str]) -> tuple[list[Look], set[str]]:
    """Return the project's looks that share enough of the items, and the gates about the same candidate; and the
    systems that were scored on enough of the items only by several looks together.
    """
    seen: dict[str, set[str]] = {}
    ordered = sorted(items)
    for start in range(0, len(ordered), _CHUNK):
        within = select(look_items.c.look, look_items.c.item).where(
            look_items.c.item.in_(ordered[start : start + _CHUNK]), look_items.c.project_id == database.owner
        )
        for name, item in connection.execute(within):
            seen.setdefault(name, set()).add(item)
    found: dict[str, Look] = {}
    ids = sorted(seen)
    for start in range(0, len(ids), _CHUNK):
        statement = select(looks.c.body).where(
            looks.c.id.in_(ids[start : start + _CHUNK]), looks.c.project_id == database.owner
        )
        for body in connection.execute(statement).scalars():
            one = paging.decode(Look, body)
            found[one.id] = one
    enough = _SHARED * len(items)
    pieces: dict[str, set[str]] = {}
    for one in found.values():
        for system in (*one.others, *([] if one.subject is None else [one.subject])):
            pieces.setdefault(system, set()).update(seen[one.id])
    whole = {name: one for name, one in found.items() if len(seen[name]) > enough}
    by_whole = {system for one in whole.values() for system in (*one.others, one.subject)}
    if look.purpose is Purpose.GATE:
        whole |= {one.id: one for one in _gates_about(database, connection, look.subject)}
    return list(whole.values()), {name for name, part in pieces.items() if len(part) > enough} - by_whole


def _gates_about(database: Database, connection: Connection, subject: str | None) -> list[Look]:
    said = f'"subject":{msgspec.json.encode(subject).decode()}'  # bodies are written without blanks
    about = select(looks.c.body).where(
        looks.c.body.contains(said, autoescape=True), looks.c.project_id == database.owner
    )
    same = (paging.decode(Look, body) for body in connection.execute(about).scalars())
    return [one for one in same if one.purpose is Purpose.GATE and one.subject == subject]
