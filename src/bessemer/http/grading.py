"""Where the API runs callers' graders: threads of their own for each kind, and a bound for each key.

A grader may sleep, spin or ask a slow judge. It then holds a thread that no file, no job and no other kind of grader
waits for; who sends more than the bound is told so at once.
"""

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Literal, TypeVar

from bessemer.core.errors import RateLimited
from bessemer.core.types import JSON
from bessemer.evals.apart import TEXT_KINDS, TextProcesses

T = TypeVar("T")
GradedKind = Literal["text", "model", "code"]
_THREADS: Final[dict[GradedKind, int]] = {"text": 4, "model": 16, "code": 8}
OF_ONE_KEY: Final = 4
OF_ALL_KEYS: Final = 32
"""Requests of one kind, running and waiting."""


def kind_of(grader: JSON) -> GradedKind:
    """Return what a grader costs: a measure of text, waiting for a judge, or code (a multi grader may have all)."""
    kind = grader.get("type")
    if kind == "score_model":
        return "model"
    return "text" if isinstance(kind, str) and kind in TEXT_KINDS else "code"


class Grading:
    """Runs the work of grader requests."""

    def __init__(self) -> None:
        self.texts = TextProcesses()
        """Where measures of text compute, behind a deadline: they would hold up the event loop here."""
        self._threads = {
            kind: ThreadPoolExecutor(count, thread_name_prefix=f"graders-{kind}") for kind, count in _THREADS.items()
        }
        self._held: Counter[tuple[GradedKind, str]] = Counter()

    async def run(self, key_id: str, kind: GradedKind, work: Callable[[], T]) -> T:
        """Run blocking work in a thread of its kind. Raises RateLimited when the key, or all of them, have too much."""
        if self._held[kind, key_id] >= OF_ONE_KEY:
            raise RateLimited(f"{OF_ONE_KEY} grader requests of this key ({kind}) are running; wait for one to end.")
        if sum(count for (other, _), count in self._held.items() if other == kind) >= OF_ALL_KEYS:
            raise RateLimited(f"{OF_ALL_KEYS} grader requests ({kind}) are running or waiting; try again later.")
        loop = asyncio.get_running_loop()
        self._held[kind, key_id] += 1

        def release(_: Future[T]) -> None:
            # When the thread is done, not when the client has left: until then it is in use.
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._release, kind, key_id)

        future = self._threads[kind].submit(contextvars.copy_context().run, work)
        future.add_done_callback(release)
        return await asyncio.wrap_future(future)

    def _release(self, kind: GradedKind, key_id: str) -> None:
        self._held[kind, key_id] -= 1
        if not self._held[kind, key_id]:
            del self._held[kind, key_id]

    def close(self) -> None:
        """Take no more work; what runs ends by its own deadlines."""
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)
        self.texts.close()
