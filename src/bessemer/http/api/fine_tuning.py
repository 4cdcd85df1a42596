"""What fine-tuning jobs have beside what every job has: OpenAI's checkpoints."""

import asyncio

from starlette.types import ASGIApp

from bessemer.core.openai import FineTuningCheckpoint
from bessemer.core.paging import CheckpointsQuery
from bessemer.http.api.jobs import job_of
from bessemer.http.edge import Call, JSONResponse
from bessemer.http.paging import page, page_limit
from bessemer.store import job_rows
from bessemer.store.job_rows import JobCheckpoint, JobRow
from bessemer.tuning.jobs import FINE_TUNING

JOB = job_of(FINE_TUNING)


async def checkpoints(call: Call) -> ASGIApp:
    """GET /v1/fine_tuning/jobs/{job_id}/checkpoints: newest first."""
    query = call.query(CheckpointsQuery)
    limit = page_limit(query.limit)
    job_id = call.found(JobRow).id
    rows = await asyncio.to_thread(job_rows.checkpoints, call.database, job_id, limit=limit + 1, after=query.after)
    return JSONResponse(page(rows, limit, _checkpoint, lambda checkpoint: checkpoint.id))


def _checkpoint(row: JobCheckpoint) -> FineTuningCheckpoint:
    return FineTuningCheckpoint(
        id=row.id,
        created_at=int(row.created_at),
        fine_tuned_model_checkpoint=row.version,
        fine_tuning_job_id=row.job_id,
        step_number=row.step,
        metrics=row.metrics,
    )
