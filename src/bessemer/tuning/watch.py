"""What ends long work in its middle: a wish of the client, or the end of the run's time.

Everything that may take long calls the watch: between passes of the network, turns of the sampler and rows that are
read, and while a grader works.
"""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
_EVERY_S = 1.0
"""How often waiting work is interrupted for a look."""


class TimeUp(Exception):
    """The time that was left for the work is used up."""


class Watch:
    """Called often, raises what ends the work."""

    def __init__(self, heed: Callable[[], None] = lambda: None) -> None:
        """`heed` raises when somebody else wants the work to end."""
        self._heed = heed
        self._ends = math.inf

    def __call__(self) -> None:
        """Raise TimeUp when the time is used up, or what `heed` raises. Cheap enough for inner loops."""
        if time.monotonic() >= self._ends:
            raise TimeUp
        self._heed()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Give the work inside this many seconds, or what is left of those around it if that is less."""
        before, self._ends = self._ends, min(self._ends, time.monotonic() + seconds)
        try:
            yield
        finally:
            self._ends = before

    def wait(self, work: Coroutine[object, object, T]) -> T:
        """Run a coroutine to its end, watching; it is cancelled when the watch raises."""
        return asyncio.run(self._wait(work))

    async def _wait(self, work: Coroutine[object, object, T]) -> T:
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                left = self._ends - time.monotonic()
                await asyncio.wait({task}, timeout=max(0.0, min(_EVERY_S, left)))
                if not task.done():
                    self()
            return task.result()
        finally:
            task.cancel()
