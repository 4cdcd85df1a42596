"""Counters in the memory of one process."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from bessemer.store.counters import Reservation

_MOST_KEYS: Final = 10_000


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
