"""Who asks: a known key is checked in memory, on the event loop; for any other the database is read, off it.

Who sends many keys that are not valid is told to wait, by address. A key of 256 random bits is not guessed; what the
limit protects is the database, which each unknown key asks. Known keys are never held up by it, so nobody can lock out
anybody, also not behind one proxy.
"""

import asyncio
import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from math import ceil

from bessemer.core.access import Principal
from bessemer.core.errors import RateLimited, Unauthorized
from bessemer.identity.keys import Keys

_WINDOW_S = 60.0
_ADDRESSES = 10_000
"""Addresses remembered; beyond that the longest silent one is forgotten."""


class Authenticator:
    """Finds who sends an Authorization header. Used on the event loop alone."""

    def __init__(self, keys: Keys, failures_per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._most = failures_per_minute
        self._clock = clock
        self._tried: OrderedDict[str, deque[float]] = OrderedDict()
        """When unknown keys came, by address; at most `failures_per_minute` of each."""

    async def __call__(self, header: str | None, address: str) -> Principal:
        """Return who sends a header from an address.

        A known key needs no thread: all of them may be waiting for a database that does not answer. Raises
        Unauthorized, RateLimited, StoreError when an unknown key cannot be judged.
        """
        known = self._keys.known(header)
        if known is not None:
            return known
        tries = self._tries(network(address))
        now = self._clock()
        while tries and tries[0] <= now - _WINDOW_S:
            tries.popleft()
        if len(tries) >= self._most:
            raise RateLimited(
                "Too many keys that are not valid came from this address; wait, then try again.",
                code="too_many_invalid_keys",
                retry_after=max(1, ceil(tries[0] + _WINDOW_S - now)),
            )
        tries.append(now)  # before anything is waited for: a thousand at once are a thousand
        failed = False
        try:
            return await asyncio.to_thread(self._keys.authenticate, header)
        except Unauthorized:
            failed = True
            raise
        finally:
            if not failed and now in tries:
                tries.remove(now)

    def _tries(self, caller: str) -> deque[float]:
        tries = self._tried.pop(caller, None) or deque()
        self._tried[caller] = tries
        if len(self._tried) > _ADDRESSES:
            self._tried.popitem(last=False)
        return tries


def network(address: str) -> str:
    """Return what one caller has: an IPv4 address, the first half of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
