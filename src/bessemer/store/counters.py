"""Counters of limits: what was taken within a window of time, asked and counted in one step."""

from typing import NamedTuple, Protocol


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
