"""Totals of usage: each request counts once, whatever brings it, and by whatever it is asked about."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from tests.store.samples import a_call, an_inference, keep

from bessemer.core.errors import InvalidRequest
from bessemer.core.inferences import Inference
from bessemer.store import erasure, usage
from bessemer.store.database import Database
from bessemer.store.migrations import migrate
from bessemer.store.spool import Spool
from bessemer.store.usage_backlog import count_backlog
from bessemer.store.writer import Writer


def at(moment: float, name: str, **changes: object) -> Inference:
    return msgspec.structs.replace(an_inference(name, created_at=moment), **changes)


def requests(database: Database, since: float | None = None, until: float | None = None) -> int:
    return sum(row.requests for row in usage.find(database, by=(), since=since, until=until))


_DAYS = 40 * 86_400.0
moments = st.floats(0, _DAYS)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(moments, max_size=20), window=st.tuples(st.none() | moments, st.none() | moments))
def test_any_window_counts_the_minutes_that_it_touches(
    tmp_path_factory: pytest.TempPathFactory, asked: Sequence[float], window: tuple[float | None, float | None]
) -> None:
    database = Database.open_url(f"sqlite:///{tmp_path_factory.mktemp('usage') / 'b.db'}")
    keep(database, *(at(moment, f"inf-{number}") for number, moment in enumerate(asked)))
    since, until = window
    first = 0 if since is None else since // 60
    last = _DAYS if until is None else -(-until // 60)
    assert requests(database, since, until) == sum(first <= moment // 60 < last for moment in asked)
    database.close()


def test_it_is_told_apart_by_what_is_asked(database: Database) -> None:
    calls = (a_call("call-1", "inf-1"), a_call("call-2", "inf-1", cost=None, step=1))
    large = msgspec.structs.replace(calls[1], version="large@1", provider="openai")
    keep(
        database,
        msgspec.structs.replace(an_inference("inf-1"), calls=(calls[0], large)),
        at(100.0, "inf-2", key_id="key-2", route="other"),
        at(100.0, "inf-3", calls=(), saved_usd=0.5, version="small@0123456789ab"),
    )
    by_model = usage.find(database, by=("model",))
    assert [(row.model, row.requests, row.calls, row.cost_usd) for row in by_model] == [
        ("large", 1, 1, None),
        ("small", 2, 2, pytest.approx(0.002)),
    ]
    assert by_model[1].saved_usd == 0.5
    assert by_model[1].route is None
    assert [(row.key_id, row.requests) for row in usage.find(database, by=("key",))] == [("key-1", 2), ("key-2", 1)]
    assert [row.requests for row in usage.find(database, by=("project",), key="key-2")] == [1]
    assert usage.find(database, by=("route",), model="large")[0].route == "matching"
    assert usage.find(database, by=(), route="none") == []
    with pytest.raises(InvalidRequest, match="by"):
        usage.parts("route,colour")


def test_a_tag_has_a_row_for_each_value_and_erasing_leaves_counts_alone(database: Database) -> None:
    keep(
        database,
        at(100.0, "inf-1", tags={"team": "one", "who": "jo\0"}),
        at(100.0, "inf-2", tags={"team": "one"}),
        at(100.0, "inf-3", tags={"team": "two"}),
    )
    assert [(row.tag, row.requests, row.calls) for row in usage.find(database, by=(), tag="team")] == [
        ("one", 2, 2),
        ("two", 1, 1),
    ]
    before = usage.find(database)
    erasure.erase(database, [an_inference("inf-1"), an_inference("inf-none")])
    assert usage.find(database) == before
    assert [(row.tag, row.requests) for row in usage.find(database, by=(), tag="team")] == [("one", 1), ("two", 1)]
    assert usage.find(database, by=(), tag="who") == []
    assert not database.read(lambda c: c.execute(text("SELECT 1 FROM usage_days WHERE tag_value = 'jo'")).all())


def test_what_comes_again_is_not_counted_again(database: Database, tmp_path: Path) -> None:
    row, other = an_inference("inf-1"), an_inference("inf-2")
    keep(database, row, row)
    writer = Writer(database, Spool.open(database, tmp_path / "spool"))
    for one in (row, other, other):
        writer.put(one)
    assert writer.flush(10)
    writer.close()
    assert requests(database) == 2


def test_requests_from_before_are_counted_once(empty_database_url: str) -> None:
    opened = Database.open_url(empty_database_url)
    rows = [at(100.0 * number, f"inf-{number}") for number in range(7)]
    keep(opened, *rows)
    counted = usage.find(opened), usage.find(opened, by=(), tag="team")
    opened.close()
    engine = create_engine(empty_database_url)
    with engine.begin() as connection:  # as a release without totals left it
        for name in ("usage_minutes", "usage_hours", "usage_days", "usage_uncounted", "limit_counts"):
            connection.execute(text(f"DROP TABLE {name}"))
        connection.execute(text("ALTER TABLE files DROP COLUMN expires_at"))
        connection.execute(text("DELETE FROM schema_version WHERE version >= 8"))
        migrate(connection, target=8)
        connection.execute(text("UPDATE inferences SET body = '{' WHERE id = 'inf-0'"))
    engine.dispose()
    again = Database.open_url(empty_database_url)
    keep(again, rows[1], at(100.0, "inf-new"))
    assert requests(again) == 1
    assert count_backlog(again) == 7
    assert count_backlog(again) == 0
    assert requests(again) == 7, "all but the one that cannot be read, and the new one"
    keep(again, at(0.0, "inf-0b"))
    assert usage.find(again)[0].requests == counted[0][0].requests + 1
    assert usage.find(again, by=(), tag="team")[0].requests == counted[1][0].requests + 1
    again.close()
