"""OpenAI's batches as a kind of job: a file of requests, answered a few at a time beside what clients wait for.

Each answer is a line of a file in the job's folder as soon as it is there: a killed worker goes on behind the last one,
and asks again only what was under way. What is asked is recorded like any request of the key that made the batch.
"""

import asyncio
import os
import random
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import msgspec

from bessemer.core.content import content_hash
from bessemer.core.errors import BessemerError, InvalidRequest, NotFound, Overloaded, ProviderError, RateLimited
from bessemer.core.inferences import INTERNAL_KEY
from bessemer.core.openai_batches import (
    BatchAnswer,
    BatchObject,
    BatchProgress,
    BatchRequest,
    BatchResult,
    RequestCounts,
)
from bessemer.core.settings import Settings
from bessemer.core.types import JobStatus, as_json
from bessemer.flywheel import batch_lines
from bessemer.flywheel.batch_lines import NumberedLine
from bessemer.flywheel.services import FlywheelServices
from bessemer.gateway.attempt import SIBLING_FAILED
from bessemer.gateway.pipeline import on_behalf_of
from bessemer.jobs.kinds import Accepted, Finished, Job, JobKind, JobRun, Lane, Shown
from bessemer.store import files, job_rows
from bessemer.store.files import BATCH, BATCH_OUTPUT, FileRow
from bessemer.store.job_rows import Control

STEP_S: Final = 3.0
"""After so long a step begins no further request, so that it is known how far the batch is."""
_HEED_S: Final = 0.5
_PAUSES_S: Final = (0.5, 1, 2, 4, 8, 16, 32)
"""A request that may pass later is asked again after these, half of each at random."""
_TOLD_EACH_S: Final = 1.0
_encode = msgspec.json.Encoder().encode


class HasGateway(Protocol):
    """What batches need of an installation."""

    @property
    def settings(self) -> Settings:
        """Its settings."""
        ...

    @property
    def flywheel(self) -> FlywheelServices:
        """Its gateway, blobs and database."""
        ...


class _Answers:
    """The answers so far, as two files of lines: those that were given, and those that failed."""

    def __init__(self, folder: Path) -> None:
        self.output, self.errors = folder / "output.jsonl", folder / "errors.jsonl"
        self.done: set[str] = set()
        """Custom ids that have a line."""
        self.completed = self._read(self.output)
        self.failed = self._read(self.errors)

    def _read(self, path: Path) -> int:
        """Return how many lines there are; one that a kill has cut is taken off."""
        whole = count = 0
        if not path.exists():
            return 0
        with path.open("r+b") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self.done.add(msgspec.json.decode(line, type=BatchAnswer).custom_id)
                whole, count = whole + len(line), count + 1
            lines.truncate(whole)
        return count

    def add(self, answer: BatchAnswer) -> None:
        """Keep an answer: a killed process does not lose it, and no request has two."""
        if answer.custom_id in self.done:
            return
        given = answer.response is not None and answer.response.status_code == 200
        descriptor = os.open(self.output if given else self.errors, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, _encode(answer) + b"\n")
        finally:
            os.close(descriptor)
        self.done.add(answer.custom_id)
        self.completed, self.failed = self.completed + given, self.failed + (not given)


class _BatchRun(JobRun[BatchResult]):
    """A batch at work."""

    def __init__(self, here: HasGateway, job: Job[BatchRequest]) -> None:
        self._job = job
        row = job.row
        # As the key itself, not on its behalf: what it asks in a file is what it might have asked by itself.
        self._asker = msgspec.structs.replace(
            on_behalf_of(None, row.project_id, row.models), key_id=row.key_id or INTERNAL_KEY, name=job.id
        )
        self._mine = here.flywheel.asked_by(self._asker)
        self._mine.catalog.refresh()
        self._at_once = here.settings.batch_concurrency
        self._dialect = batch_lines.dialect_of(job.request.endpoint)
        self._deadline = row.created_at + batch_lines.window_seconds(job.request.completion_window)
        self._progress = msgspec.convert(row.progress or {}, BatchProgress)
        self._answers = _Answers(job.folder)
        self._content: BinaryIO | None = None
        self._waiting: Iterator[NumberedLine] | None = None
        self._told_at = 0.0

    def prepare(self) -> None:
        with self._open() as content:
            total, faults = batch_lines.check(content, self._job.request.endpoint)
        if faults:
            self._report(faults=tuple(faults))
            first = faults[0]
            where = "" if first.line is None else f"Line {first.line}: "
            raise InvalidRequest(f"{where}{first.message}", param=first.param, code=first.code)
        begun = self._progress.in_progress_at or time.time()
        self._report(counts=self._counts(total), in_progress_at=begun)
        self._job.tell("in-progress", f"{total} requests.")

    def step(self) -> bool:
        if self._waiting is None:
            self._content = self._open()
            self._waiting = batch_lines.requests(self._content)
        ended: bool = self._mine.wait(self._ask_some(self._waiting))
        if not ended and time.time() < self._deadline:
            return False
        if not ended:
            self._expire()
        self._report(counts=self._counts(), finalizing_at=time.time())
        return True

    def _expire(self) -> None:
        """Say of each request without an answer, those under way included, that its time has ended."""
        told = "This request could not be executed before the completion window expired."
        with self._open() as content:
            for line in batch_lines.requests(content):
                if line.custom_id not in self._answers.done:
                    self._answers.add(batch_lines.never_asked(line, "batch_expired", told))

    def finish(self) -> Finished[BatchResult]:
        self._mine.writer.flush()  # who sees it ended finds all that was asked on record
        progress, made = self._published()
        expired = time.time() >= self._deadline and self._has_expired()
        result = BatchResult(**msgspec.structs.asdict(progress), expired=expired)
        return Finished(result=result, keep=lambda: self._insert(made))

    def close(self) -> None:
        if self._content is not None:
            self._content.close()
        row = job_rows.get(self._job.database, self._job.id)
        if Control.CANCEL in {row.control} or row.status is JobStatus.CANCELLED:
            progress, made = self._published()  # what was answered until then is its maker's
            self._insert(made)
            self._job.report(msgspec.structs.replace(progress, cancelling_at=progress.cancelling_at or time.time()))

    def _open(self) -> BinaryIO:
        row = files.get(self._job.database, self._job.request.input_file_id)
        return self._mine.blobs.open(row.sha256)

    # -- asking -------------------------------------------------------------------------------------------------------

    async def _ask_some(self, waiting: Iterator[NumberedLine]) -> bool:
        """Ask for some seconds; return whether nothing is left. Raises StopRequested when the batch is to stop."""
        ends = min(time.time() + STEP_S, self._deadline)
        left = True

        async def work() -> None:
            nonlocal left
            while left and time.time() < ends:
                line = next(waiting, None)
                if line is None:
                    left = False
                elif line.custom_id not in self._answers.done:
                    self._answers.add(await self._answer(line))

        workers = [asyncio.ensure_future(work()) for _ in range(self._at_once)]
        try:
            while True:
                done, running = await asyncio.wait(workers, timeout=_HEED_S)
                for one in done:
                    one.result()
                self._tell_counts()
                if not running:
                    return not left
                await asyncio.to_thread(self._job.heed)
                if time.time() > self._deadline:
                    return False
        finally:
            for one in workers:
                one.cancel(SIBLING_FAILED)
            await asyncio.gather(*workers, return_exceptions=True)

    async def _answer(self, line: NumberedLine) -> BatchAnswer:
        """Ask one request, again and again where that may help."""
        for pause in (*_PAUSES_S, None):
            try:
                return batch_lines.answered(line, await self._body(line))
            except BessemerError as error:
                if pause is None or not _may_pass(error):
                    return batch_lines.refused(line, error, self._dialect)
                wait = max(pause, float(min(error.retry_after or 0, 60)))
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - so that not all come back at once
        raise AssertionError("the last try returns")

    async def _body(self, line: NumberedLine) -> object:
        request = self._dialect.parse(_encode(line.body))
        works: list[Coroutine[Any, Any, Any]] = [
            self._mine.gateway.answer(one, self._asker) for one in request.conversations
        ]
        replies = [(await work).reply for work in works]
        return request.whole(replies)

    # -- telling ------------------------------------------------------------------------------------------------------

    def _counts(self, total: int | None = None) -> RequestCounts:
        known = self._progress.counts.total if total is None else total
        return RequestCounts(total=known, completed=self._answers.completed, failed=self._answers.failed)

    def _report(self, **changes: Any) -> None:
        self._progress = msgspec.structs.replace(self._progress, **changes)
        self._job.report(self._progress)

    def _tell_counts(self) -> None:
        if time.time() - self._told_at >= _TOLD_EACH_S and self._counts() != self._progress.counts:
            self._told_at = time.time()
            self._report(counts=self._counts())

    def _has_expired(self) -> bool:
        return self._answers.errors.exists() and b'"code":"batch_expired"' in self._answers.errors.read_bytes()

    # -- the files ----------------------------------------------------------------------------------------------------

    def _published(self) -> tuple[BatchProgress, list[FileRow]]:
        """Return how far the batch is with its files, whose contents are kept; their rows are still to be written."""
        made = [self._file(path) for path in (self._answers.output, self._answers.errors) if path.exists()]
        ids = {row.filename.partition("_")[0]: row.id for row in made}
        return (
            msgspec.structs.replace(
                self._progress, counts=self._counts(), output_file_id=ids.get("output"), error_file_id=ids.get("errors")
            ),
            made,
        )

    def _file(self, path: Path) -> FileRow:
        now, expires = time.time(), self._job.request.output_expires_after
        with path.open("rb") as content:
            sha256 = self._mine.blobs.put(content)
        return FileRow(
            id=f"file-{content_hash([self._job.id, path.name])[:32]}",
            sha256=sha256,
            bytes=path.stat().st_size,
            created_at=now,
            filename=f"{path.stem}_{self._job.id}.jsonl",
            purpose=BATCH_OUTPUT,
            key_id=self._job.row.key_id,
            expires_at=None if expires is None else now + expires.seconds,
        )

    def _insert(self, made: list[FileRow]) -> None:
        for row in made:
            files.insert(self._job.database, row)


def _may_pass(error: BessemerError) -> bool:
    return error.retryable if isinstance(error, ProviderError) else isinstance(error, RateLimited | Overloaded)


def _accept(_: HasGateway, job: Job[BatchRequest]) -> Accepted[BatchRequest]:
    request = job.request
    batch_lines.dialect_of(request.endpoint)
    batch_lines.window_seconds(request.completion_window)
    try:
        row = files.get(job.database, request.input_file_id)
    except NotFound as error:
        raise NotFound(error.message, param="input_file_id") from None
    if row.purpose != BATCH:
        raise InvalidRequest(
            f"The file {row.id!r} has the purpose {row.purpose!r}; upload it with 'batch'.", param="input_file_id"
        )
    if row.bytes > batch_lines.LARGEST_BYTES:
        raise InvalidRequest(
            f"The file has {row.bytes} bytes; a batch takes {batch_lines.LARGEST_BYTES}: split it.",
            param="input_file_id",
        )
    return Accepted(request=request, metadata=request.metadata or {})


_STATUS: Final = {
    JobStatus.QUEUED: "validating",
    JobStatus.RUNNING: "in_progress",
    JobStatus.PAUSED: "in_progress",
    JobStatus.SUCCEEDED: "completed",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "cancelled",
}


def _render(_: HasGateway, shown: Shown) -> BatchObject:
    """Return the job as OpenAI's object."""
    row = shown.row
    request = msgspec.convert(row.request, BatchRequest)
    said = msgspec.convert((row.progress or {}) | (row.result or {}), BatchResult)
    status = _STATUS[row.status]
    if row.status is JobStatus.RUNNING:
        if row.control is Control.CANCEL:
            status = "cancelling"
        elif said.finalizing_at is not None:
            status = "finalizing"
        elif said.in_progress_at is None:
            status = "validating"
    elif said.expired:
        status = "expired"
    faults = [as_json(fault) for fault in said.faults]
    if row.error is not None and not faults:
        faults = [{"code": row.error["code"], "message": row.error["message"], "line": None, "param": None}]
    return BatchObject(
        id=row.id,
        endpoint=request.endpoint,
        input_file_id=request.input_file_id,
        completion_window=request.completion_window,
        status=status,  # type: ignore[arg-type]
        created_at=int(row.created_at),
        errors={"object": "list", "data": faults} if faults else None,
        output_file_id=said.output_file_id,
        error_file_id=said.error_file_id,
        expires_at=int(row.created_at) + batch_lines.window_seconds(request.completion_window),
        request_counts=said.counts,
        metadata=request.metadata,
        in_progress_at=_seconds(said.in_progress_at),
        finalizing_at=_seconds(said.finalizing_at),
        cancelling_at=_seconds(said.cancelling_at),
        completed_at=_seconds(row.finished_at) if status == "completed" else None,
        failed_at=_seconds(row.finished_at) if status == "failed" else None,
        expired_at=_seconds(row.finished_at) if status == "expired" else None,
        cancelled_at=_seconds(row.finished_at) if status == "cancelled" else None,
    )


def _seconds(value: float | None) -> int | None:
    return None if value is None else int(value)


BATCHES: Final = JobKind[HasGateway, BatchRequest, BatchResult](
    name="batch",
    path="/v1/batches",
    prefix="batch",
    noun="batch",
    created="batch.created",
    lane=Lane("batches"),
    request=BatchRequest,
    progress=BatchProgress,
    result=BatchResult,
    run=_BatchRun,
    accept=_accept,
    render=_render,
    shown=BatchObject,
)
