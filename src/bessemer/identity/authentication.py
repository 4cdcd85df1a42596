"""Who asks: a known key is checked in memory, on the event loop; for any other the database is read, off it.

Who sends many keys that are not valid is told to wait, by address. A key of 256 random bits is not guessed; what the
limit protects is the database, which each unknown key asks. Known keys are never held up by it, so nobody can lock out
anybody, also not behind one proxy.
"""

import asyncio
import ipaddress
from math import ceil

from bessemer.core.access import Principal
from bessemer.core.errors import RateLimited, Unauthorized
from bessemer.identity.keys import Keys
from bessemer.store.counters import Counters

_WINDOW_S = 60.0


class Authenticator:
    """Finds who sends an Authorization header. Used on the event loop alone."""

    def __init__(self, keys: Keys, counters: Counters, failures_per_minute: int) -> None:
        self._keys = keys
        self._counters = counters
        self._most = failures_per_minute

    async def __call__(self, header: str | None, address: str) -> Principal:
        """Return who sends a header from an address.

        A known key needs no thread: all of them may be waiting for a database that does not answer. Raises
        Unauthorized, RateLimited, StoreError when an unknown key cannot be judged.
        """
        known = self._keys.known(header)
        if known is not None:
            return known
        # Before anything is waited for: a thousand at once are a thousand.
        tried = await self._counters.reserve(
            f"invalid_keys:{network(address)}", 1, limit=self._most, window_s=_WINDOW_S
        )
        if tried.wait_s:
            raise RateLimited(
                "Too many keys that are not valid came from this address; wait, then try again.",
                code="too_many_invalid_keys",
                retry_after=max(1, ceil(tried.wait_s)),
            )
        failed = False
        try:
            return await asyncio.to_thread(self._keys.authenticate, header)
        except Unauthorized:
            failed = True
            raise
        finally:
            if not failed:
                await self._counters.settle(tried, 0)


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
