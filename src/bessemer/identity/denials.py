"""Denials in the audit trail: the first few of each caller and minute singly, of the rest how many there were.

What can be written is bounded, whoever asks how often: a caller has `_SINGLY` rows a minute and one with the count of
its others; all callers together have `_AT_ONCE` rows and `_PER_MINUTE` more each minute (14,600 on the worst day).
Beyond that a project's denials of a minute are one row of each kind. Each denial is in exactly one of these rows.

A denial changes nothing, so there is no transaction to stand in: it goes through the writer and its journal.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from bessemer.core.errors import BessemerError, Forbidden, StoreError
from bessemer.core.types import JSON
from bessemer.store.audit import event
from bessemer.store.writer import Writer

SEVERAL: Final = "several"
"""The actor of a row that counts the denials of many callers."""
_SINGLY: Final = 3
_AT_ONCE: Final = 200
_PER_MINUTE: Final = 10
_WINDOW_S: Final = 60.0
_CALLERS: Final = 10_000
"""Callers told apart in one minute."""


class _Caller(NamedTuple):
    id: str
    project: str
    action: str


class _Window(msgspec.Struct):
    """What a caller was refused in this minute."""

    told: int = 0
    counted: int = 0


class Denials:
    """Appends `authorization.denied` and `authentication.failed` events. Used on the event loop alone."""

    def __init__(self, writer: Writer, clock: Callable[[], float] = time.monotonic) -> None:
        self._writer = writer
        self._clock = clock
        self._windows: dict[_Caller, _Window] = {}
        self._others: dict[tuple[str, str], int] = {}
        """By project and action: denials that no row of their caller counts."""
        self._allowed, self._allowed_at = float(_AT_ONCE), clock()
        self._timer: asyncio.TimerHandle | None = None

    def denied(self, caller: str, project: str, endpoint: str, error: BessemerError) -> None:
        """Tell of a call that was refused. `caller`: key id, or the address where no key was valid."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WINDOW_S, self.tell_rest)
        who = _Caller(caller, project, "authentication.failed" if error.status == 401 else "authorization.denied")
        window = self._windows.get(who)
        if window is None:
            if len(self._windows) >= _CALLERS:
                self._count(who, 1)
                return
            window = self._windows[who] = _Window()
        detail: JSON = {"status": error.status, "code": error.error_code}
        if isinstance(error, Forbidden) and error.action is not None:
            detail |= {"permission": error.action, "rules": error.rules}
        if window.told < _SINGLY and self._may_write() and self._put(who, endpoint, detail):
            window.told += 1
        else:
            window.counted += 1

    def tell_rest(self) -> None:
        """Tell how many denials no row has told of yet: each minute in which there were any, and at the end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        windows, self._windows = self._windows, {}
        for who, window in windows.items():
            told = {"suppressed": window.counted}
            if window.counted and not (self._may_write() and self._put(who, "", told)):
                self._count(who, window.counted)
        others, self._others = self._others, {}
        for (project, action), count in others.items():
            who = _Caller(SEVERAL, project, action)
            if not self._put(who, "", {"suppressed": count}):
                self._count(who, count)

    def _count(self, who: _Caller, count: int) -> None:
        kind = who.project, who.action
        self._others[kind] = self._others.get(kind, 0) + count

    def _may_write(self) -> bool:
        now = self._clock()
        gained = (now - self._allowed_at) / _WINDOW_S * _PER_MINUTE
        self._allowed, self._allowed_at = min(_AT_ONCE, self._allowed + gained), now
        if self._allowed < 1:
            return False
        self._allowed -= 1
        return True

    def _put(self, who: _Caller, endpoint: str, detail: JSON) -> bool:
        """Whether the writer took the row; where not it has logged why, and the refusal is answered all the same."""
        row = event(who.id, who.action, endpoint, detail, outcome="denied")
        try:
            self._writer.put(msgspec.structs.replace(row, project_id=who.project))
        except StoreError:
            return False
        return True
