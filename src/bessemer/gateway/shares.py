"""Processor-shared seconds: what an hourly price charges when calls overlap.

While n calls are in flight, each is charged 1/n of the time, so the charges add up to the time the machine was busy and
batching is not billed twice.
"""

from collections.abc import Callable


class TimeShares:
    """Splits busy wall time between the calls in flight. One per machine; used from one thread."""

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._running = 0
        self._virtual = 0.0
        """Integral of dt / calls in flight: a call's share is its growth between start and stop."""
        self._updated = 0.0

    def _advance(self) -> None:
        now = self._timer()
        if self._running:
            self._virtual += (now - self._updated) / self._running
        self._updated = now

    def start(self) -> float:
        """Begin a call; returns the mark to give to `stop`."""
        self._advance()
        self._running += 1
        return self._virtual

    def stop(self, mark: float) -> float:
        """End a call; returns its seconds."""
        self._advance()
        self._running -= 1
        return self._virtual - mark
