"""Waiting for a job on the command line: events as they come, then the outcome."""

import sys
import time
from typing import Any

from bessemer.cli.output import printable
from bessemer.client import Client, as_sent
from bessemer.client.calls import AnyEvent, Jobs
from bessemer.core.types import JSON


def wait(client: Client, jobs: Jobs[Any, Any, Any], job_id: str, *, quiet: bool) -> JSON:
    """Wait until a job rests, printing its events unless `quiet`. Raises BessemerError when it failed."""
    client.wait(jobs, job_id, None if quiet else _print)
    return client.send(as_sent(jobs.get(job_id)))


def _print(event: AnyEvent) -> None:
    at = time.strftime("%H:%M:%S", time.localtime(event.created_at))
    sys.stderr.write(f"{at}  {printable(event.message)}\n")
