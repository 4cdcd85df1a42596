"""Who asks: a known key is checked in memory, on the event loop; for any other the database is read, off it."""

import asyncio

from bessemer.core.types import Principal
from bessemer.governance.keys import Keys


async def authenticate(keys: Keys, header: str | None) -> Principal:
    """Return who sends an Authorization header. Raises Unauthorized, StoreError when an unknown key cannot be judged.

    A known key needs no thread: all of them may be waiting for a database that does not answer.
    """
    known = keys.known(header)
    return known if known is not None else await asyncio.to_thread(keys.authenticate, header)
