"""Denials in the audit trail: each one of a trickle, of a flood ten a second for each caller with a count of the rest.

A denial changes nothing, so there is no transaction to stand in: it goes through the writer and its journal.
"""

import contextlib
import time
from collections import OrderedDict
from typing import Final

import msgspec

from bessemer.core.errors import BessemerError, StoreError
from bessemer.store.audit import event
from bessemer.store.writer import Writer

_PER_SECOND: Final = 10
_CALLERS: Final = 10_000
"""Callers remembered; beyond that the longest silent one is forgotten, its uncounted denials written first."""


class _Window(msgspec.Struct):
    """What a caller was refused in the second that began at `began` (seconds, monotonic)."""

    began: float
    project: str
    written: int = 0
    suppressed: int = 0


class Denials:
    """Appends `authorization.denied` and `authentication.failed` events. Used on the event loop alone."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def denied(self, caller: str, project: str, endpoint: str, error: BessemerError) -> None:
        """Tell of a call that was refused. `caller`: key id, or the address where no key was valid."""
        window = self._windows.pop(caller, None)
        now = time.monotonic()
        if window is None or now - window.began >= 1:
            window = _Window(now, project, suppressed=window.suppressed if window else 0)
        self._windows[caller] = window
        if window.written < _PER_SECOND:
            window.written += 1
            self._put(caller, endpoint, {"status": error.status, "code": error.error_code}, window)
        else:
            window.suppressed += 1
        if len(self._windows) > _CALLERS:
            self._tell_rest(*self._windows.popitem(last=False))

    def close(self) -> None:
        """Tell of the denials that no event has counted yet."""
        while self._windows:
            self._tell_rest(*self._windows.popitem(last=False))

    def _tell_rest(self, caller: str, window: _Window) -> None:
        if window.suppressed:
            self._put(caller, "", {"status": None, "code": None}, window)

    def _put(self, caller: str, endpoint: str, detail: dict[str, object], window: _Window) -> None:
        action = "authentication.failed" if detail["status"] == 401 else "authorization.denied"
        more = {"suppressed": window.suppressed} if window.suppressed else {}
        window.suppressed = 0
        with contextlib.suppress(StoreError):  # the writer has logged why; a refusal is answered all the same
            row = event(caller, action, endpoint, {**detail, **more}, outcome="denied")
            self._writer.put(msgspec.structs.replace(row, project_id=window.project))
