"""Waiting for a job on the command line: events as they come, then the outcome."""

import sys
import time
from typing import Any

from bessemer.cli.client import Client
from bessemer.cli.output import printable
from bessemer.core.errors import BessemerError

AT_REST = frozenset({"succeeded", "failed", "cancelled", "paused"})
"""A paused job goes on when somebody resumes it: nobody waits for that."""
_POLL_S = 1.0


def wait(client: Client, path: str, *, quiet: bool) -> Any:
    """Poll a job until it has finished, printing its events unless `quiet`. Raises BessemerError when it failed."""
    last: str | None = None
    while True:
        job = client.get(path)
        if not quiet:
            last = _print_new(client, path, last)
        if job["status"] in AT_REST:
            break
        time.sleep(_POLL_S)
    if job["status"] == "failed":
        error = job.get("error") or {}
        raise BessemerError(f"{job['id']} failed: {error.get('message', 'no reason recorded')}", code=error.get("code"))
    return job


def _print_new(client: Client, path: str, last: str | None) -> str | None:
    """Print events after `last`, oldest first, and return the newest one's id."""
    events = client.get(f"{path}/events", {"limit": 100}).rows()
    fresh: list[Any] = []
    for event in events:  # newest first
        if event["id"] == last:
            break
        fresh.append(event)
    for event in reversed(fresh):
        at = time.strftime("%H:%M:%S", time.localtime(event["created_at"]))
        sys.stderr.write(f"{at}  {printable(event['message'])}\n")
    return events[0]["id"] if events else last
