"""Waiting for a job, as steps that either client takes."""

from collections.abc import Callable, Generator
from typing import Any, Final, TypeVar

from bessemer.client.calls import AnyEvent, AnyJob, Jobs
from bessemer.client.operation import Operation
from bessemer.core.errors import BessemerError
from bessemer.core.paging import ListQuery
from bessemer.core.types import JobStatus

J = TypeVar("J", bound=AnyJob)
E = TypeVar("E", bound=AnyEvent)
Steps = Generator[Operation[Any] | float, Any, J]
"""Yields calls to send, whose answers it is sent back, and seconds to let pass; returns the job."""

AT_REST: Final = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.PAUSED})
"""A paused job goes on when somebody resumes it: nobody waits for that."""
_SOON_S: Final = 0.5
_LATER_S: Final = 5.0
_EVENTS: Final = ListQuery(limit=100)


def watch(jobs: Jobs[Any, J, E], job_id: str, tell: Callable[[E], object] | None) -> Steps[J]:
    """Poll a job until it rests, oftener while something happens. Raises BessemerError when it has failed."""
    last: str | None = None
    pause = _SOON_S
    while True:
        job: J = yield jobs.get(job_id)
        fresh: list[E] = []
        if tell is not None:  # after the job: what it told before it came to rest is there
            for event in (yield jobs.events(job_id, _EVENTS)).data:  # newest first
                if event.id == last:
                    break
                fresh.append(event)
            for event in reversed(fresh):
                tell(event)
            last = fresh[0].id if fresh else last
        if job.status in AT_REST:
            break
        pause = _SOON_S if fresh else min(pause * 1.5, _LATER_S)
        yield pause
    if job.status == JobStatus.FAILED:
        error = job.error or {}
        raise BessemerError(f"{job.id} failed: {error.get('message', 'no reason recorded')}", code=error.get("code"))
    return job
