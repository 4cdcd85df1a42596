"""A job as clients see it."""

from typing import NamedTuple

import msgspec

from bessemer.core.types import JSON, JobStatus
from bessemer.core.wire import JobObject
from bessemer.store.job_rows import JobRow


class Shown(NamedTuple):
    """A job that is to be shown."""

    row: JobRow
    result: JSON | None = None
    """Where it is kept elsewhere."""
    warnings: tuple[str, ...] = ()
    """Of a job that was made just now."""


def as_object(shown: Shown) -> JobObject:
    """Return a job as a JobObject; one of an earlier release has its own result."""
    row = shown.row
    return JobObject(
        id=row.id,
        kind=row.kind,
        status=row.status.value,
        created_at=int(row.created_at),
        request=row.request,
        started_at=None if row.started_at is None else int(row.started_at),
        finished_at=None if row.finished_at is None else int(row.finished_at),
        error=row.error,
        result=(row.result or shown.result) if row.status is JobStatus.SUCCEEDED else None,
        progress=msgspec.UNSET if row.progress is None else row.progress,
    )
