"""Change notices on every database: the counts of changes are compared each second."""

import logging
import threading
from collections.abc import Callable
from typing import Final

from bessemer.core.errors import StoreError
from bessemer.store import revisions
from bessemer.store.database import Database

_log = logging.getLogger(__name__)
_INTERVAL_S: Final = 1.0
_CLOSE_S: Final = 5.0


class _Subscription:
    def __init__(self, name: str, follow: Callable[[], object]) -> None:
        self.name = name
        self.follow = follow
        self.told: int | None = None
        """The count that `follow` was called for last; None: it was not called yet."""


class PolledNotices:
    """`ChangeNotices` by one small query a second for everybody who subscribed."""

    def __init__(self, database: Database, interval_s: float = _INTERVAL_S) -> None:
        self._database = database
        self._interval_s = interval_s
        self._subscriptions: list[_Subscription] = []
        self._down = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bessemer-notices", daemon=True)

    def subscribe(self, name: str, follow: Callable[[], object]) -> None:
        """See `ChangeNotices`."""
        self._subscriptions.append(_Subscription(name, follow))

    def start(self) -> None:
        """See `ChangeNotices`."""
        self._thread.start()

    def close(self) -> None:
        """See `ChangeNotices`."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                counts = revisions.counts(self._database)
            except Exception as error:  # without this thread a revoked key would stay valid
                self._say_down(error)
                continue
            self._down = False
            for subscription in self._subscriptions:
                self._tell(subscription, counts.get(subscription.name, 0))

    def _tell(self, subscription: _Subscription, count: int) -> None:
        # The count was read first: a change that comes in between is told now and once more later, never missed.
        if count == subscription.told:
            return
        try:
            subscription.follow()
        except Exception as error:  # as above
            self._say_down(error)
        else:
            subscription.told = count

    def _say_down(self, error: Exception) -> None:
        """Log why nothing is heard, once until it is heard again."""
        if not self._down:
            self._down = True
            told = error.message if isinstance(error, StoreError) else None
            _log.warning("changes are not seen, what was seen last stays: %s", told, exc_info=told is None)
