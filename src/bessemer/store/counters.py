"""Counters of limits: what was taken within a window of time, asked and counted in one step."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple, Protocol

_MOST_KEYS: Final = 10_000


class Reservation(NamedTuple):
    """What came of asking for a part of a limit."""

    key: str
    id: int
    wait_s: float
    """0 where it was granted; else nothing was taken, and after so many seconds there is room unless others take it."""


class Counters(Protocol):
    """Counts for every process that uses them, so that a limit holds for all of these together.

    Raises StoreError when the counts cannot be reached.
    """

    async def reserve(self, key: str, amount: float, *, limit: float, window_s: float) -> Reservation:
        """Take an amount, unless those of the last `window_s` seconds come to more than `limit` with it.

        Of many who ask at once only as many are granted as fit: nothing passes between asking and taking.
        """

    async def settle(self, reservation: Reservation, amount: float) -> None:
        """Put what it came to in the place of what was reserved (0: it is given back), as of then."""


@dataclass
class _Window:
    used: float = 0.0
    taken: "OrderedDict[int, tuple[float, float]]" = field(default_factory=OrderedDict)
    """When and how much, by the reservation's id."""


class LocalCounters:
    """`Counters` of one process, on its event loop alone.

    Of more than `most_keys` the longest silent is forgotten, so that keys which strangers choose fill no memory.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, most_keys: int = _MOST_KEYS) -> None:
        self._clock = clock
        self._most_keys = most_keys
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._ids = count()

    async def reserve(self, key: str, amount: float, *, limit: float, window_s: float) -> Reservation:
        """See `Counters`."""
        now = self._clock()
        window = self._window(key)
        while window.taken:
            at, oldest = next(iter(window.taken.values()))
            if at > now - window_s:
                break
            window.taken.popitem(last=False)
            window.used = window.used - oldest if window.taken else 0.0
        id_ = next(self._ids)
        if window.used + amount > limit:
            return Reservation(key, id_, _wait(window, window.used + amount - limit, window_s, now))
        window.taken[id_] = now, amount
        window.used += amount
        return Reservation(key, id_, 0.0)

    async def settle(self, reservation: Reservation, amount: float) -> None:
        """See `Counters`."""
        window = self._windows.get(reservation.key)
        if window is None or reservation.id not in window.taken:
            return
        at, reserved = window.taken[reservation.id]
        window.used += amount - reserved
        if amount:
            window.taken[reservation.id] = at, amount
        else:
            del window.taken[reservation.id]

    def _window(self, key: str) -> _Window:
        window = self._windows.pop(key, None) or _Window()
        self._windows[key] = window
        if len(self._windows) > self._most_keys:
            self._windows.popitem(last=False)
        return window


def _wait(window: _Window, excess: float, window_s: float, now: float) -> float:
    """Return after how many seconds so much is free again; a window, for more than the limit itself."""
    for at, amount in window.taken.values():
        excess -= amount
        if excess <= 0:
            return at + window_s - now
    return window_s
