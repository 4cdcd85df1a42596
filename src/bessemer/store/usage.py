"""What was used, added up by minute, hour and day as it is written: to read it takes no longer where many have asked.

Each request counts once, in the transaction that keeps it, at the time when it began: what a journal brings again is
known and left alone. Besides the rows of everything there are rows for each of a request's tags (`tag`, `tag_value`).
Erasing leaves the counts; what a tag said goes with the requests that said it.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from operator import add as add_up
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Connection, Row, Table, and_, delete, func, select, union_all
from sqlalchemy.dialects import postgresql, sqlite

from bessemer.core.errors import InvalidRequest
from bessemer.core.inferences import Inference
from bessemer.core.types import JSON
from bessemer.core.wire import UsageRow
from bessemer.store import paging
from bessemer.store.database import Database
from bessemer.store.schema import usage_days, usage_hours, usage_minutes

_MINUTE: Final = 60
_SPANS: Final = {86_400: usage_days, 3_600: usage_hours, _MINUTE: usage_minutes}
_NEVER: Final = 86_400 * 4_000_000
"""After every time there is."""
_IDS_PER_QUERY: Final = 500
_OF: Final = {"route": "route", "version": "version", "model": "model", "provider": "provider", "key": "key_id",
              "project": "project_id"}  # fmt: skip
"""What totals may be told apart by, and in which column it is."""
BY: Final = ("route", "version", "provider")
_SUMS: Final = (
    "requests",
    "calls",
    "unpriced_calls",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cost_usd",
    "saved_usd",
    "seconds",
)
K = TypeVar("K")


class _Place(NamedTuple):
    """Of one total, but for its span."""

    tag: str
    tag_value: str
    project_id: str
    start: int
    route: str
    version: str
    model: str
    provider: str
    key_id: str


def add(connection: Connection, rows: Sequence[Inference]) -> None:
    """Count requests that were not there before, within the transaction that keeps them."""
    _add(connection, rows, 1, tags_alone=False)


def forget_tags(connection: Connection, rows: Sequence[Inference]) -> None:
    """Take requests, with their calls, out of what their tags add up to: a value that only they have is gone."""
    for table, ids in _add(connection, rows, -1, tags_alone=True):
        gone = and_(table.c.requests <= 0, table.c.calls <= 0)
        for start in range(0, len(ids), _IDS_PER_QUERY):
            some = ids[start : start + _IDS_PER_QUERY]
            connection.execute(delete(table).where(table.c.id.in_(some), gone))


def parts(names: str | None) -> tuple[str, ...]:
    """Read what totals are told apart by. Raises InvalidRequest for a name that is none of those."""
    if names is None:
        return BY
    wanted = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    for name in wanted:
        if name not in _OF:
            raise InvalidRequest(f"`by` takes {', '.join(_OF)} with commas between them, not {name!r}.", param="by")
    return wanted


def find(
    database: Database,
    *,
    by: Sequence[str] = BY,
    since: float | None = None,
    until: float | None = None,
    route: str | None = None,
    model: str | None = None,
    key: str | None = None,
    tag: str | None = None,
) -> list[UsageRow]:
    """Return totals of the minutes between two times, whole ones: told apart by `by`, and by the values of `tag`.

    `by`: some of route, version, model, provider, key, project. With a tag only requests that have it count.
    """
    chosen = {"route": route, "model": model, "key_id": key}
    pieces = []
    for span, start, end in _cover(*_minutes(since, until)):
        c = _SPANS[span].c
        mine = paging.mine(database, _SPANS[span])
        wanted = [c[column] == value for column, value in chosen.items() if value is not None]
        pieces.append(
            select(*(c[name] for name in (*_OF.values(), "tag_value", *_SUMS))).where(
                mine, c.tag == _clean(tag or ""), c.start >= start, c.start < end, *wanted
            )
        )
    if not pieces:
        return []
    found = union_all(*pieces).subquery().c
    told = [found[_OF[name]] for name in by] + ([] if tag is None else [found.tag_value])
    statement = select(*told, *(func.sum(found[name]).label(name) for name in _SUMS)).group_by(*told).order_by(*told)
    rows = database.read(lambda connection: connection.execute(statement).all())
    return [_usage_row(row) for row in rows if row.requests is not None]


def _usage_row(row: Row[Any]) -> UsageRow:
    told = row._asdict()
    parts = {name: told[name] or None for name in _OF.values() if name in told}
    return UsageRow(
        **parts,
        tag=told.get("tag_value"),
        requests=int(row.requests),
        calls=int(row.calls),
        input_tokens=int(row.input_tokens),
        output_tokens=int(row.output_tokens),
        cached_tokens=int(row.cached_tokens),
        cost_usd=row.cost_usd if not row.calls or row.unpriced_calls < row.calls else None,
        unpriced_calls=int(row.unpriced_calls),
        seconds=row.seconds,
        saved_usd=row.saved_usd,
    )


def _minutes(since: float | None, until: float | None) -> tuple[int, int]:
    first = 0 if since is None else int(since // _MINUTE) * _MINUTE
    return first, _NEVER if until is None else -int(-until // _MINUTE) * _MINUTE


def _cover(first: int, end: int, spans: tuple[int, ...] = tuple(_SPANS)) -> Iterator[tuple[int, int, int]]:
    """Yield (span, from, to) that cover the whole minutes of [first, end) once, in the longest spans that fit."""
    if first >= end:
        return
    span, shorter = spans[0], spans[1:]
    a, b = -(-first // span) * span, end // span * span
    if a >= b:
        yield from _cover(first, end, shorter)
        return
    yield from _cover(first, a, shorter)
    yield span, a, b
    yield from _cover(b, end, shorter)


def _add(
    connection: Connection, rows: Sequence[Inference], sign: int, *, tags_alone: bool
) -> list[tuple[Table, list[str]]]:
    """Add to the totals; return the ids of each table's."""
    minutes: dict[_Place, list[float]] = {}
    for row in rows:
        tags = [(_clean(tag), _clean(value)) for tag, value in row.tags.items()]
        for place, figures in _of_request(row):
            for tag in tags if tags_alone else (("", ""), *tags):
                _sum(minutes, _Place(*tag, *place), figures)
    return [(table, _write(connection, table, span, minutes, sign)) for span, table in _SPANS.items()]


def _write(
    connection: Connection, table: Table, span: int, minutes: Mapping[_Place, Sequence[float]], sign: int
) -> list[str]:
    sums: dict[_Place, list[float]] = {}
    for minute, known in minutes.items():
        _sum(sums, minute._replace(start=minute.start // span * span), [sign * one for one in known])
    if not sums:
        return []
    values = [_columns(span, place, figures) for place, figures in sums.items()]
    values.sort(key=lambda one: str(one["id"]))  # in one order for all who write: no two wait for each other
    insert = (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(table)
    more = {name: table.c[name] + insert.excluded[name] for name in _SUMS}
    connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=more), values)
    return [str(one["id"]) for one in values]


def _columns(span: int, place: _Place, figures: Sequence[float]) -> JSON:
    # Texts together may be longer than an index of PostgreSQL takes.
    id_ = hashlib.blake2b(msgspec.json.encode((span, *place)), digest_size=16).hexdigest()
    return {"id": id_, **place._asdict(), **dict(zip(_SUMS, figures, strict=True))}


def _sum(sums: dict[K, list[float]], at: K, figures: Sequence[float]) -> None:
    known = sums.get(at)
    sums[at] = list(figures) if known is None else [*map(add_up, known, figures)]


def _clean(text: str) -> str:
    """Return a text as both databases can hold it: PostgreSQL takes no NUL."""
    return text.replace("\0", "")


def _of_request(row: Inference) -> Iterator[tuple[tuple[Any, ...], tuple[float, ...]]]:
    """Yield what a request adds, in the order of `_SUMS`, and where, without a tag: each call, and the request itself
    beside the call that answered last.
    """
    minute = int(row.created_at) // _MINUTE * _MINUTE
    answered = next((call for call in reversed(row.calls) if call.accepted), row.calls[-1] if row.calls else None)
    if answered is None:
        version = row.version or ""
        place = row.project_id, minute, row.route, version, version.partition("@")[0], "", row.key_id
        yield place, (1, 0, 0, 0, 0, 0, 0.0, row.saved_usd or 0.0, 0.0)
    for call in row.calls:
        yield (
            (
                row.project_id,
                minute,
                row.route,
                call.version,
                call.version.partition("@")[0],
                call.provider,
                row.key_id,
            ),
            (
                call is answered,
                1,
                call.cost_usd is None,
                call.input_tokens or 0,
                call.output_tokens or 0,
                call.cached_tokens or 0,
                call.cost_usd or 0.0,
                (row.saved_usd or 0.0) if call is answered else 0.0,
                call.latency_s,
            ),
        )
