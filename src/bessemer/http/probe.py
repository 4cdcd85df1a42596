"""Whether the database answers: asked once at a time, so that one that does not answer holds one thread, not all."""

import asyncio
from typing import Final

from bessemer.core.errors import StoreError
from bessemer.store.database import Database

_PATIENCE_S: Final = 2.0


class DatabaseProbe:
    """Asks the database for a sign of life, on behalf of everybody who waits for one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asking: asyncio.Task[bool] | None = None

    async def answers(self) -> bool:
        """Return whether the database answers within two seconds."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._answers())
        asking = self._asking
        await asyncio.wait({asking}, timeout=_PATIENCE_S)
        return asking.done() and asking.result()

    async def _answers(self) -> bool:
        try:
            await asyncio.to_thread(self._database.ping)
        except StoreError:
            return False
        return True
