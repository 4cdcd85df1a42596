"""Counters: never more than the limit in any window, whoever asks at once; what is given back is free at once."""

import asyncio
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from bessemer.store.counters import Counters, Reservation
from bessemer.store.local_counters import LocalCounters

LIMIT, WINDOW_S = 10, 60.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class _Model:
    """What is taken, counted the slow way."""

    taken: list[tuple[float, int, Reservation]] = field(default_factory=list)

    def used(self, now: float) -> int:
        return sum(amount for at, amount, _ in self.taken if at > now - WINDOW_S)


step = st.tuples(st.integers(0, 40), st.integers(1, 12), st.none() | st.integers(0, 12))
"""Seconds that pass, an amount to reserve, and what the oldest reservation is settled with."""


@given(steps=st.lists(step, max_size=40))
def test_any_window_holds_no_more_than_the_limit(steps: list[tuple[int, int, int | None]]) -> None:
    clock, model = Clock(), _Model()
    counters: Counters = LocalCounters(clock)

    async def run() -> None:
        for seconds, amount, settled in steps:
            clock.now += seconds
            got = await counters.reserve("a", amount, limit=LIMIT, window_s=WINDOW_S)
            fits = model.used(clock.now) + amount <= LIMIT
            assert (got.wait_s == 0) == fits
            if fits:
                model.taken.append((clock.now, amount, got))
            elif amount <= LIMIT:
                assert model.used(clock.now + got.wait_s) + amount <= LIMIT, "the wait is enough"
                assert model.used(clock.now + got.wait_s - 1) + amount > LIMIT, "and no longer than it must be"
            if settled is not None and model.taken:
                at, _, first = model.taken.pop(0)
                await counters.settle(first, settled)
                if settled:  # with 0 it is settled for good
                    model.taken.insert(0, (at, settled, first))
            other = await counters.reserve(f"b{clock.now}-{len(model.taken)}-{amount}", 1, limit=1, window_s=WINDOW_S)
            assert other.key.startswith("b"), "keys have nothing to do with each other"

    asyncio.run(run())


async def test_of_two_hundred_at_once_the_one_that_fits_is_granted() -> None:
    counters = LocalCounters()
    asked = [counters.reserve("budget", 1.0, limit=1.0, window_s=60) for _ in range(200)]
    assert sum(got.wait_s == 0 for got in await asyncio.gather(*asked)) == 1


async def test_what_came_cheaper_leaves_room_and_what_came_dearer_takes_it() -> None:
    counters = LocalCounters()
    got = await counters.reserve("budget", 8, limit=LIMIT, window_s=WINDOW_S)
    assert (await counters.reserve("budget", 3, limit=LIMIT, window_s=WINDOW_S)).wait_s > 0
    await counters.settle(got, 7)
    assert (await counters.reserve("budget", 3, limit=LIMIT, window_s=WINDOW_S)).wait_s == 0
    await counters.settle(got, 9)
    assert (await counters.reserve("budget", 0, limit=LIMIT, window_s=WINDOW_S)).wait_s > 0
    await counters.settle(got, 0)
    await counters.settle(got, 5)  # settled for good
    assert (await counters.reserve("budget", 7, limit=LIMIT, window_s=WINDOW_S)).wait_s == 0


async def test_more_than_the_limit_never_fits() -> None:
    counters = LocalCounters()
    assert (await counters.reserve("budget", 11, limit=LIMIT, window_s=WINDOW_S)).wait_s == WINDOW_S
    assert (await counters.reserve("budget", 10, limit=LIMIT, window_s=WINDOW_S)).wait_s == 0
