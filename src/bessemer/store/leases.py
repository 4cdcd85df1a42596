"""Counts of limits that several processes share, without asking the database for each request.

A process takes a hundredth of a limit at a time and grants from it in memory: all together never grant more than the
limit, and what one process holds unused is a hundredth at most. A window is a minute, a day or a month of UTC. While
the database is down each process grants up to the limit on its own: requests go on.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

from bessemer.core.errors import StoreError
from bessemer.core.limits import Window
from bessemer.store import limit_counts
from bessemer.store.database import Database

_SHARE: Final = 100
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Lease:
    """What this process may still grant of a window."""

    name: str
    ends_at: float
    free: float = 0.0
    used: float = 0.0
    spent: bool = False
    """The last time it was asked, the database had nothing left."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Grant(NamedTuple):
    """A part of a limit that is taken, or not."""

    lease: _Lease
    amount: float
    granted: bool
    remaining: float
    """Of the limit, as far as this process knows."""
    reset_s: float
    """Until the window is over."""


class Leases:
    """Grants parts of limits. Used on one event loop alone."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._leases: dict[str, _Lease] = {}

    async def reserve(self, name: str, amount: float, *, limit: float, window: Window) -> Grant:
        """Take an amount (at most the whole limit counts) unless the window has less left: then nothing is taken."""
        now, amount = self._clock(), min(amount, limit)
        lease = self._leases.get(name)
        if lease is None or now >= lease.ends_at:
            lease = self._leases[name] = self._begin(name, window, now)
        if lease.free < amount:
            async with lease.lock:  # those who wait find what the first of them brought
                if lease.free < amount:
                    await self._more(lease, amount - lease.free, limit)
        granted = lease.free >= amount
        if granted:
            lease.free -= amount
            lease.used += amount
        remaining = lease.free if lease.spent else max(lease.free, limit - lease.used)
        return Grant(lease, amount, granted, remaining, max(0.0, lease.ends_at - now))

    def settle(self, grant: Grant, amount: float) -> None:
        """Put what it came to in the place of what was reserved."""
        if grant.granted:
            grant.lease.free += grant.amount - amount
            grant.lease.used += amount - grant.amount

    async def close(self) -> None:
        """Give back what is held and not used."""
        leases, self._leases = list(self._leases.values()), {}
        for lease in leases:
            if lease.free and lease.ends_at > self._clock():
                try:
                    await asyncio.to_thread(limit_counts.give_back, self._database, lease.name, lease.free)
                except StoreError as error:
                    _log.warning("a part of a limit that was not used stays taken: %s", error.message)

    def _begin(self, name: str, window: Window, now: float) -> _Lease:
        start, end = bounds(window, now)
        for old in [old for old, lease in self._leases.items() if lease.ends_at <= now]:
            del self._leases[old]
        return _Lease(name=f"{name}|{window}|{start:.0f}", ends_at=end)

    async def _more(self, lease: _Lease, needed: float, limit: float) -> None:
        amounts = (max(needed, limit / _SHARE), needed)
        try:
            taken = await asyncio.to_thread(
                limit_counts.take, self._database, lease.name, amounts, limit, ends=lease.ends_at, now=self._clock()
            )
        except StoreError as error:
            _log.error("limits hold for this process alone: %s", error.message)
            taken = max(0.0, min(needed, limit - lease.used - lease.free))
        lease.free += taken
        lease.spent = taken < needed


def bounds(window: Window, now: float) -> tuple[float, float]:
    """Return when the window of UTC that a moment lies in begins and ends, Unix seconds."""
    if window == "month":
        begin = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        month = begin.month % 12 + 1
        return begin.timestamp(), begin.replace(year=begin.year + (month == 1), month=month).timestamp()
    seconds = 60 if window == "minute" else 86_400
    start = now // seconds * seconds
    return start, start + seconds
