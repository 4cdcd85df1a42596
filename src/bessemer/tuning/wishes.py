"""Wishes to cancel or pause, heard inside long work (`watch.Watch`)."""

import time

from bessemer.jobs.kinds import StopRequested
from bessemer.store import job_rows
from bessemer.store.database import Database

_PATIENCE_S = 3.0
_EVERY_S = 1.0


class Wishes:
    """Listens for one job."""

    def __init__(self, database: Database, job_id: str) -> None:
        self._database = database
        self._job_id = job_id
        self._from = 0.0

    def step_begins(self) -> None:
        """A step that is over within seconds is finished and saved; only then is its job stopped."""
        self._from = time.monotonic() + _PATIENCE_S

    def heed(self) -> None:
        """Raise StopRequested when there is a wish; looks once a second. Cheap enough for inner loops."""
        now = time.monotonic()
        if now < self._from:
            return
        self._from = now + _EVERY_S
        if job_rows.control(self._database, self._job_id) is not None:
            raise StopRequested
