"""Leases: of many who ask at once, in however many processes, only as many are granted as fit."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from bessemer.store import leases
from bessemer.store.database import Database
from bessemer.store.leases import Grant, Leases, bounds

NOW = 1_000_000_000.0


def at(now: list[float], database: Database) -> Leases:
    return Leases(database, lambda: now[0])


async def ask(counter: Leases, amount: float, limit: float, window: leases.Window = "minute") -> Grant:
    return await counter.reserve("one", amount, limit=limit, window=window)


@settings(max_examples=15)
@given(
    amounts=st.lists(st.integers(1, 40), min_size=1, max_size=40),
    limit=st.integers(1, 300),
    processes=st.integers(1, 3),
    spent=st.integers(0, 40),
)
def test_all_together_never_exceed(
    tmp_path_factory: pytest.TempPathFactory, amounts: list[int], limit: int, processes: int, spent: int
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('leases') / 'b.db'}"
    databases = [Database.open_url(url) for _ in range(processes)]

    async def run() -> None:
        counters = [at([NOW], one) for one in databases]
        asked = [ask(counters[number % processes], amount, limit) for number, amount in enumerate(amounts)]
        grants = await asyncio.gather(*asked)
        taken = sum(grant.amount for grant in grants if grant.granted)
        assert taken <= limit
        refused = [grant.amount for grant in grants if not grant.granted]
        held = processes * limit / 100
        assert all(taken + amount > limit - held for amount in refused), "nothing is refused that fits"
        for number, grant in enumerate(grants):
            counters[number % processes].settle(grant, min(spent, grant.amount))
        used = sum(min(spent, grant.amount) for grant in grants if grant.granted)
        for counter in counters:
            await counter.close()
        last = at([NOW], databases[0])  # two would hold a part of the limit each
        rest = [await ask(last, 1, limit) for _ in range(2)]
        assert all(grant.granted for grant in rest) == (limit - used >= 2)

    asyncio.run(run())
    for database in databases:
        database.close()


async def test_two_hundred_at_once_for_what_one_may_have(database: Database) -> None:
    counter = at([NOW], database)
    grants = await asyncio.gather(*(ask(counter, 1, 1) for _ in range(200)))
    assert sum(grant.granted for grant in grants) == 1
    refused = next(grant for grant in grants if not grant.granted)
    assert refused.remaining == 0
    assert 0 < refused.reset_s <= 60


async def test_a_new_window_is_empty_and_the_old_count_goes(database: Database) -> None:
    now = [NOW]
    counter = at(now, database)
    first = await ask(counter, 5, 5)
    assert not (await ask(counter, 1, 5)).granted
    now[0] += 60
    assert (await ask(counter, 5, 5)).granted
    counter.settle(first, 0)
    assert not (await ask(counter, 1, 5)).granted, "what an old window gives back is not the new one's"
    rows = database.read(lambda c: c.execute(text("SELECT COUNT(*) FROM limit_counts")).scalar_one())
    assert rows == 1


async def test_what_it_came_to_above_what_was_taken_is_owed(database: Database) -> None:
    counter = at([NOW], database)
    counter.settle(await ask(counter, 10, 100), 60)
    assert not (await ask(counter, 50, 100)).granted
    assert (await ask(counter, 40, 100)).granted


async def test_a_restart_within_the_window_remembers(database: Database) -> None:
    first = at([NOW], database)
    counter = await first.reserve("budget", 3.0, limit=10.0, window="month")
    first.settle(counter, 2.5)
    await first.close()
    second = at([NOW + 86_400], database)
    assert not (await second.reserve("budget", 7.6, limit=10.0, window="month")).granted
    assert (await second.reserve("budget", 7.5, limit=10.0, window="month")).granted


@pytest.mark.postgres
async def test_without_a_database_the_limit_holds_for_the_process(
    postgres_url: str, plug: Callable[[bool], None]
) -> None:
    opened = Database.open_url(postgres_url)
    counter = at([NOW], opened)
    assert (await ask(counter, 1, 5)).granted
    plug(False)
    assert [(await ask(counter, 1, 5)).granted for _ in range(6)].count(True) == 4
    plug(True)
    opened.close()


@pytest.mark.parametrize(
    ("window", "begin", "end"),
    [
        ("minute", "2026-12-01T12:34", "2026-12-01T12:35"),
        ("day", "2026-12-01", "2026-12-02"),
        ("month", "2026-12-01", "2027-01-01"),
    ],
)
def test_windows_are_those_of_utc(window: leases.Window, begin: str, end: str) -> None:
    moment = datetime(2026, 12, 1, 12, 34, 56, tzinfo=UTC).timestamp()
    told = tuple(datetime.fromisoformat(one).replace(tzinfo=UTC).timestamp() for one in (begin, end))
    assert bounds(window, moment) == told
