"""Denials in the audit trail: bounded, and none of them uncounted."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bessemer.core.errors import Forbidden, Unauthorized
from bessemer.core.wire import AuditEvent
from bessemer.identity.denials import SEVERAL, Denials
from bessemer.store import audit
from bessemer.store.database import Database
from bessemer.store.spool import Spool
from bessemer.store.writer import Writer

DAY_S = 86_400.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def writer(database: Database, tmp_path: Path) -> Iterator[Writer]:
    opened = Writer(database, Spool.open(database, tmp_path / "spool"))
    yield opened
    opened.close()


def written(database: Database, writer: Writer) -> list[AuditEvent]:
    assert writer.flush()
    return audit.find(database, limit=None)


def counted(events: list[AuditEvent]) -> int:
    return sum(int(event.detail.get("suppressed", 1)) for event in events)


async def test_the_first_of_a_minute_are_told_singly_and_the_others_counted(database: Database, writer: Writer) -> None:
    denials = Denials(writer)
    for _ in range(500):
        denials.denied("key-1", "proj_default", "GET /v1/keys", Forbidden("no"))
    denials.denied("address 192.0.2.7", "proj_default", "", Unauthorized("no"))
    denials.tell_rest()
    events = written(database, writer)
    assert counted(events) == 501
    own = [event for event in events if event.actor == "key-1"]
    assert sorted(event.subject for event in own) == ["", *["GET /v1/keys"] * 3]
    assert {event.action for event in own} == {"authorization.denied"}
    assert [event.action for event in events if event not in own] == ["authentication.failed"]
    denials.tell_rest()
    assert len(written(database, writer)) == 5, "nothing is told twice"


async def test_a_day_of_denials_from_everywhere_is_bounded_and_none_uncounted(
    database: Database, writer: Writer
) -> None:
    clock, draw, sent = Clock(), random.Random(0), 0
    denials = Denials(writer, clock)
    while clock.now < DAY_S:
        for _ in range(40):
            caller = f"address 2001:db8:{draw.randrange(65536):x}::/64"
            denials.denied(caller, "proj_default", "", Unauthorized("no"))
            sent += 1
        clock.now += 60
        denials.tell_rest()
    events = written(database, writer)
    assert counted(events) == sent
    assert any(event.actor == SEVERAL for event in events)
    assert len(events) <= 200 + 1440 * (10 + 1)


async def test_more_callers_than_are_told_apart_are_counted(database: Database, writer: Writer) -> None:
    denials = Denials(writer)
    for number in range(12_000):
        denials.denied(f"address {number}", "proj_default", "", Unauthorized("no"))
    denials.tell_rest()
    events = written(database, writer)
    assert counted(events) == 12_000
    assert len(events) <= 201
