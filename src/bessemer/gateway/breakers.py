"""Which models fail now: a circuit breaker for each, so that others are asked in their place as long as there are any.

A breaker refuses nothing. It opens after a few failures in a row, when half of the latest requests fail, or for as long
as an upstream says with Retry-After; then targets of the same step, and fallbacks, whose breaker is closed are asked
instead. After a while one request may try again: it closes the breaker, or opens it for twice as long.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bessemer.core.errors import EngineError, ProviderError, RateLimited
from bessemer.telemetry.logs import get_logger

FAILURES: Final = 5
"""In a row, after which a breaker opens."""
SHARE: Final = 0.5
"""Of the requests since the first failure of the last `WINDOW_S` that fail, at `LEAST` of them: it opens as well."""
LEAST: Final = 20
WINDOW_S: Final = 30.0
OPEN_S: Final = 5.0
"""Seconds until the first trial; each trial that fails doubles them."""
LONGEST_S: Final = 60.0
_TRIAL_S: Final = 60.0
"""A trial that has not ended by then is no longer waited for."""
_log = get_logger("bessemer.gateway")


@dataclass(slots=True)
class _Breaker:
    failures: int = 0
    """In a row."""
    until: float = 0.0
    """On the timer's clock; open where it lies ahead."""
    opened: float = -math.inf
    """When it opened last, on the same clock."""
    trial: float | None = None
    """When the one request began that tries again."""
    told: bool = False
    since: float = 0.0
    """When the window began in which the next two are counted."""
    asked: int = 0
    failed: int = 0


class Breakers:
    """The breakers of all models of one process, closed until something fails. Used on one event loop."""

    def __init__(
        self,
        timer: Callable[[], float] = time.monotonic,
        observe: Callable[[str, int], None] | None = None,
    ) -> None:
        """`observe` is told 1 when one opens, 0 when it closes."""
        self._timer = timer
        self._observe = observe
        self._unwell: dict[str, _Breaker] = {}
        """Those with a failure in their window."""

    @property
    def quiet(self) -> bool:
        """Whether nothing has failed: then everything is ready."""
        return not self._unwell

    def ready(self, model: str) -> bool:
        """Say whether a model may be asked in preference to others."""
        breaker = self._unwell.get(model)
        if breaker is None:
            return True
        now = self._timer()
        tried = breaker.trial is not None and now - breaker.trial < _TRIAL_S
        return now >= breaker.until and (breaker.failures < FAILURES or not tried)

    def begin(self, model: str) -> None:
        """Note that a model is asked."""
        if self._unwell and (breaker := self._unwell.get(model)) is not None:
            breaker.trial = self._timer()

    def end(self, model: str, error: BaseException | None, began: float) -> None:
        """Note how that ended, and when it began on the timer's clock.

        What the request or its client is to blame for says nothing of the model, and what began before a breaker opened
        says nothing new of it.
        """
        breaker = self._unwell.get(model) if self._unwell else None
        if breaker is not None and began < breaker.opened:
            return
        if error is None:
            if breaker is not None:
                self._answered(breaker, model)
            return
        if not _tells_of_model(error):
            if breaker is not None:
                breaker.trial = None
            return
        self._failed(self._unwell.setdefault(model, _Breaker()), model, error)

    def _answered(self, breaker: _Breaker, model: str) -> None:
        breaker.failures, breaker.until, breaker.trial = 0, 0.0, None
        breaker.asked += 1
        if breaker.told or self._timer() - breaker.since >= WINDOW_S:
            del self._unwell[model]
        if breaker.told:
            _log.info("model_answers_again", model=model)
            self._tell(model, 0)

    def _failed(self, breaker: _Breaker, model: str, error: BaseException) -> None:
        breaker.failures, breaker.trial = breaker.failures + 1, None
        if (now := self._timer()) - breaker.since >= WINDOW_S:
            breaker.since, breaker.asked, breaker.failed = now, 0, 0
        breaker.asked, breaker.failed = breaker.asked + 1, breaker.failed + 1
        wait = error.retry_after if isinstance(error, RateLimited | ProviderError) else None
        seconds = 0.0 if wait is None else min(float(wait), LONGEST_S)
        if breaker.failures >= FAILURES:
            seconds = max(seconds, min(LONGEST_S, OPEN_S * 2.0 ** min(breaker.failures - FAILURES, 10)))
        elif breaker.asked >= LEAST and breaker.failed >= SHARE * breaker.asked:
            seconds = max(seconds, OPEN_S)
            breaker.failures = FAILURES  # from here on it is open like any other, and one request tries it
        breaker.until = max(breaker.until, now + seconds)
        if seconds:
            breaker.opened = now
        if seconds and not breaker.told:
            breaker.told = True
            _log.warning("model_avoided", model=model, failures=breaker.failures, seconds=seconds)
            self._tell(model, 1)

    def _tell(self, model: str, avoided: int) -> None:
        if self._observe is not None:
            self._observe(model, avoided)


def _tells_of_model(error: BaseException) -> bool:
    return isinstance(error, RateLimited | EngineError) or (isinstance(error, ProviderError) and error.retryable)
