"""Who asks: the key check, kept off the event loop and remembered for a second.

A check may read the database, so it runs in a thread; the second's memory keeps threads off the hot path.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from bessemer.core.types import Principal
from bessemer.governance.keys import Keys

_REMEMBER_S: Final = 1.0
_MAX_REMEMBERED: Final = 10_000


class Authenticator:
    """Turns an Authorization header into a Principal."""

    def __init__(self, keys: Keys, timer: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._timer = timer
        self._known: dict[str, tuple[float, Principal]] = {}

    async def authenticate(self, header: str | None) -> Principal:
        """Return who sends this header. Raises Unauthorized."""
        now = self._timer()
        if header is not None and (known := self._known.get(header)) is not None and now - known[0] < _REMEMBER_S:
            return known[1]
        principal = await asyncio.to_thread(self._keys.authenticate, header)
        assert header is not None, "a missing header is refused"
        if len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
        self._known[header] = (now, principal)
        return principal

    def forget(self) -> None:
        """Check every key again: one has been revoked."""
        self._known.clear()
