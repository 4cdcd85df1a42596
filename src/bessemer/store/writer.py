"""The writer: takes rows off the hot path and brings them to the database in batches, losing none silently.

A row is appended to a journal before `put` returns, so kill -9 of the process loses nothing that was
acknowledged; the next start replays what the database has not seen. While the database is down rows wait in memory and
in the journal; beyond `max_queue` in the journal alone. Inserts are idempotent by id, so replaying twice is harmless.
While the journal cannot be written, a row is acknowledged when it is in the database; what neither takes is refused.
"""

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from enum import StrEnum
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection

from bessemer.core.errors import ConfigError, InvalidRequest, StoreError
from bessemer.core.feedback import Feedback
from bessemer.core.ids import follow_id
from bessemer.core.inferences import Inference
from bessemer.core.pieces import PIECE, in_pieces, is_large
from bessemer.core.types import Frozen
from bessemer.core.wire import AuditEvent
from bessemer.store import audit, erasure, feedback, inferences
from bessemer.store.database import Database
from bessemer.store.failures import cause
from bessemer.store.journal import Journal, Line, PreparedLine

Record = Inference | Feedback | AuditEvent

_log = logging.getLogger(__name__)
_BATCH_ROWS = 1000
_BATCH_S = 0.1
_RETRY_S = 1.0
_COMMIT_TIMEOUT_S = 2.0
"""How long a commit waits for a slow database before the synced journal answers for it."""
_UNJOURNALED = "The database is unavailable and the journal cannot be written: free disk space."
_KINDS: dict[str, type[Record]] = {"inference": Inference, "feedback": Feedback, "audit": AuditEvent}
_NAMES = {kind: name.encode() for name, kind in _KINDS.items()}


class Durability(StrEnum):
    """Where a committed row is when `commit` returns."""

    COMMITTED = "committed"
    """In the database."""
    SPOOLED = "spooled"
    """Synced to the journal on disk; it reaches the database when that is back."""


class WriterStats(Frozen, frozen=True):
    """Counters since the writer started."""

    written: int
    """Rows brought to the database, replayed ones included."""
    spooled: int
    """Rows that had to wait on disk because the database was down or the queue full."""
    replayed: int
    """Rows brought from the journal alone: after a crash, or beyond the queue."""
    rejected: int
    """Rows that the database refused; they are kept in `rejected.jsonl`."""
    queued: int
    spooling: bool
    """Whether rows wait for a database that is down, or on disk alone."""
    lost: int
    """Rows that were acknowledged and were in memory alone when the writer was closed; only without `required`."""


class _Entry(msgspec.Struct, frozen=True):
    """A line of the journal."""

    kind: str
    row: msgspec.Raw


class _Pending(NamedTuple):
    row: Record
    number: int | None
    """That of its line in the journal; None: it could not be written there."""
    done: "Future[Durability] | None"
    """Answers whoever waits; None: the row was acknowledged as soon as it was accepted."""


class Writer:
    """A thread that owns the writing of inferences, feedback and audit events."""

    def __init__(self, database: Database, journal: Journal, max_queue: int = 50_000, *, required: bool = True) -> None:
        """Start the thread. `required`: a row that neither the journal nor the database can take is refused.

        The journal is this writer's, which closes it. Raises ConfigError when `max_queue` is below 1.
        """
        if max_queue < 1:
            raise ConfigError(f"writer_max_queue is {max_queue}: give a number from 1 up.", param="writer_max_queue")
        self._database = database
        self._journal = journal
        self._max_queue = max_queue
        self._required = required
        self._change = threading.Condition()
        self._queue: deque[_Pending] = deque()
        self._in_flight: Sequence[_Pending] = ()
        self._chunk: list[Record] = []
        """Rows of the backlog that are read and not yet written."""
        self._queued_total = 0
        self._finished_total = 0
        self._overflowing = False
        self._down = False
        self._unwritable = False
        """Whether the last line could not be added to the journal."""
        self._urgent = False
        self._closing = False
        self._written = self._spooled = self._replayed = self._rejected = self._lost = 0
        # A thread of its own: the loop's may all be waiting for the database whose absence the journal makes up for.
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="bessemer-journal")
        self._large = ThreadPoolExecutor(1, thread_name_prefix="bessemer-large-rows")
        self._thread = threading.Thread(target=self._run, name="bessemer-writer", daemon=True)
        self._thread.start()

    # -- called by producers ------------------------------------------------------------------------------------------

    def put(self, row: Record) -> None:
        """Accept a row without waiting for the database; when it returns, kill -9 no longer loses the row.

        Raises StoreError when the row is in memory alone or nowhere, or the writer is closed. Without `required`,
        a row in memory alone is accepted.
        """
        pending, _ = self._accept(row, None, _in_pieces)
        if pending.done is not None:
            raise StoreError(_UNJOURNALED)

    async def keep(self, row: Record) -> None:
        """Do as `put`; a large row is journaled where it holds up nobody."""
        pending, _ = await self._accepted(row)
        if pending.done is not None:
            raise StoreError(_UNJOURNALED)

    async def record(self, row: Record) -> None:
        """Do as `keep`, but where the journal fails wait for the database to take the row."""
        pending, waiting = await self._accepted(row)
        if pending.done is not None:
            await self._outcome(pending, pending.done, waiting=waiting)

    async def commit(self, row: Record) -> Durability:
        """Accept a row and wait until it is in the database, or on disk when the database is down or slow.

        Raises StoreError when it is in neither, InvalidRequest when the database refuses the row.
        """
        done: Future[Durability] = Future()
        pending, waiting = await self._accepted(row, done)
        return await self._outcome(pending, done, waiting=waiting)

    async def _outcome(self, pending: "_Pending", done: "Future[Durability]", *, waiting: bool) -> Durability:
        if not waiting:
            wrapped = asyncio.wrap_future(done)
            wrapped.add_done_callback(_look_at)
            await asyncio.wait({wrapped}, timeout=_COMMIT_TIMEOUT_S)
            if wrapped.done():
                return wrapped.result()
        return await asyncio.get_running_loop().run_in_executor(self._syncer, self._on_disk, pending)

    async def _accepted(self, row: Record, done: "Future[Durability] | None" = None) -> tuple[_Pending, bool]:
        if not _is_long(row):
            return self._accept(row, done, msgspec.json.encode)
        return await asyncio.get_running_loop().run_in_executor(self._large, self._accept, row, done, _in_pieces)

    def check(self) -> None:
        """Raise StoreError when neither the journal nor the database would take a row: before work is spent on it."""
        if self._unwritable and self._down and self._required and not self.journal_works():
            raise StoreError(_UNJOURNALED)

    def journal_works(self) -> bool:
        """Return whether the journal can be written; after a failure that is tried anew."""
        with self._change:
            if self._unwritable and not self._closing:
                self._unwritable = not self._journal.has_room()
            return not self._unwritable

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until everything accepted so far is in the database; False when that takes longer than `timeout` s.

        Rows that arrive meanwhile are not waited for, unless earlier ones are only in the journal.
        """
        with self._change:
            last, behind = self._queued_total, self._overflowing or self._journal.behind
            self._urgent = True
            self._change.notify_all()
            return self._change.wait_for(lambda: self._is_idle() if behind else self._finished_total >= last, timeout)

    def forget(self, ids: Sequence[str]) -> None:
        """Drop what was rejected and names one of the ids."""
        self._journal.forget(ids)

    def stats(self) -> WriterStats:
        """Return the counters."""
        with self._change:
            return WriterStats(
                written=self._written,
                spooled=self._spooled,
                replayed=self._replayed,
                rejected=self._rejected,
                queued=len(self._queue) + len(self._in_flight),
                spooling=self._down or self._overflowing or self._journal.behind,
                lost=self._lost,
            )

    def at_risk(self) -> int:
        """Return how many rows were acknowledged and are in memory alone; none where the record is `required`."""
        with self._change:
            waiting = (*self._in_flight, *self._queue)
            return sum(pending.number is None and pending.done is None for pending in waiting)

    def close(self, timeout: float = 10.0) -> None:
        """Flush and stop. What the database does not take in time stays in the journal for the next start.

        Rows that are in neither are counted as `lost`.
        """
        if not self.flush(timeout):
            _log.warning("the database did not take every row: the rest stays in %s", self._journal.place)
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join(timeout)
        self._lost = self.at_risk()
        if self._lost:
            _log.error("%d acknowledged rows are lost: neither the database nor the journal took them", self._lost)
        if self._thread.is_alive():
            return  # it still uses the files; the end of the process gives up their locks
        self._journal.close()
        self._syncer.shutdown()
        self._large.shutdown(wait=False)

    def _accept(
        self, row: Record, done: "Future[Durability] | None", encode: Callable[[Record], bytes]
    ) -> tuple[_Pending, bool]:
        """Journal and queue a row; the second value says that the database is known to keep it waiting."""
        row = inferences.storable(row) if isinstance(row, Inference) else row
        content = b'{"kind":"%b","row":%b}' % (_NAMES[type(row)], encode(row))  # an _Entry
        # While others may still take the lock.
        line = self._journal.prepare(content) if len(content) > PIECE else PreparedLine(content)
        with self._change:
            if self._closing:
                raise StoreError("The writer is closed: the server is stopping.")
            if len(self._queue) >= self._max_queue:
                self._overflowing = True
            number = self._append(line)
            if number is None and (self._overflowing or (self._down and self._required)):
                raise StoreError(_UNJOURNALED)
            if number is None and self._required and done is None:
                done = Future()  # only the database can answer for the row
            pending = _Pending(row, number, done)
            if not self._overflowing:
                self._queue.append(pending)
                self._queued_total += 1
            waiting = self._overflowing or self._down
            self._spooled += waiting
            if done is not None and not waiting:
                self._urgent = True
            if self._urgent or len(self._queue) in {1, _BATCH_ROWS}:
                self._change.notify_all()
            return pending, waiting

    def _append(self, line: PreparedLine) -> int | None:
        try:
            number = self._journal.append(line)
        except StoreError as error:
            if not self._unwritable:
                _log.error("%s", error.message)
            self._unwritable = True
            return None
        self._unwritable = False
        return number

    def _on_disk(self, pending: _Pending) -> Durability:
        """Sync the journal on behalf of a row that the database has not taken yet."""
        if pending.number is None:
            raise StoreError(_UNJOURNALED)
        try:
            self._journal.sync()
        except StoreError as error:
            raise StoreError(f"The database is unavailable. {error.message}") from error
        return Durability.SPOOLED

    def _is_idle(self) -> bool:
        return not (self._queue or self._in_flight or self._overflowing or self._journal.behind)

    # -- the writer's thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            batch = self._take()
            if batch is None:
                return
            try:
                self._write(batch)
                self._replay_some()
            except StoreError as error:
                self._hold(batch, error)

    def _write(self, batch: list[_Pending]) -> None:
        """Bring a batch to the database. Raises StoreError when it is down."""
        if not batch:
            return
        try:
            self._insert([pending.row for pending in batch])
        except StoreError:
            raise
        except Exception as error:  # the thread must outlive any row
            _log.warning("a batch was refused, its rows are tried one by one: %s", cause(error))
            self._insert_singly(batch)
        else:
            self._finish(batch)

    def _take(self) -> list[_Pending] | None:
        """Wait for work; return the next batch (empty: only the backlog waits), None when closing."""
        with self._change:
            self._change.wait_for(lambda: self._queue or self._journal.behind or self._overflowing or self._closing)
            if self._closing:
                return None
            if self._queue and not self._journal.behind:
                self._change.wait_for(
                    lambda: self._urgent or self._closing or len(self._queue) >= _BATCH_ROWS, _BATCH_S
                )
            self._urgent = False
            batch = [self._queue.popleft() for _ in range(min(_BATCH_ROWS, len(self._queue)))]
            self._in_flight = batch
            return batch

    def _insert(self, rows: Sequence[Record]) -> None:
        def work(connection: Connection) -> None:
            inferences.insert_rows(connection, [row for row in rows if isinstance(row, Inference)])
            feedback.insert_rows(connection, [row for row in rows if isinstance(row, Feedback)])
            audit.insert_rows(connection, [row for row in rows if isinstance(row, AuditEvent)])

        self._database.write(work)

    def _finish(self, batch: Sequence[_Pending], *, rejected: int = 0) -> None:
        """Count a batch as done, acknowledge it, and drop the parts of the journal that nobody needs any more."""
        with self._change:
            self._down = False
            self._in_flight = ()
            self._written += len(batch) - rejected
            self._finished_total += len(batch)
            self._journal.release(max((pending.number or 0 for pending in batch), default=0))
            if not self._queue and self._overflowing:
                self._overflowing = False
                self._journal.defer()
            self._change.notify_all()
        for pending in batch:
            _resolve(pending.done, Durability.COMMITTED)

    def _hold(self, batch: list[_Pending], error: StoreError) -> None:
        """The database is down: put the batch back, answer those who wait from the journal, and pause."""
        with self._change:
            if self._in_flight:
                self._queue.extendleft(reversed(batch))
                self._in_flight = ()
            if not self._down:
                _log.error("%s Rows are kept in %s until it is back.", error.message, self._journal.place)
                self._spooled += len(self._queue)
            self._down = True
            waiting = [pending for pending in self._queue if pending.done is not None and not pending.done.done()]
        self._answer_from_disk(waiting)
        with self._change:
            self._change.wait_for(lambda: self._closing, _RETRY_S)

    def _answer_from_disk(self, waiting: Sequence[_Pending]) -> None:
        if not waiting:
            return
        try:
            self._journal.sync()
            synced = True
        except StoreError as error:
            _log.error("%s", error.message)
            synced = False
        for pending in waiting:
            kept = synced and pending.number is not None
            _resolve(pending.done, Durability.SPOOLED if kept else StoreError(_UNJOURNALED))

    def _insert_singly(self, batch: list[_Pending]) -> None:
        """Insert each row on its own, so that one that the database refuses does not hold up the others."""
        rejected = 0
        for position, pending in enumerate(batch):
            try:
                refusal = self._refusal(pending.row)
            except StoreError as error:
                with self._change:  # first, so that finishing the others leaves the journal of these alone
                    self._queue.extendleft(reversed(batch[position:]))
                self._finish(batch[:position], rejected=rejected)
                self._hold([], error)
                return
            if refusal is not None:
                rejected += 1
                _resolve(pending.done, InvalidRequest(f"The row was refused: {cause(refusal)}"))
        self._finish(batch, rejected=rejected)

    def _replay_some(self) -> None:
        """Bring the next lines that are in the journal alone to the database. Raises StoreError."""
        if not self._journal.behind:
            return
        if not self._chunk:
            lines = self._journal.replay(_BATCH_ROWS)
            if not lines:
                with self._change:
                    self._change.notify_all()
                return
            self._chunk = [row for row in map(self._decode, lines) if row is not None]
        for row in self._chunk:
            follow_id(row.id)
        # A chunk that meets a database that is down is tried again, not read again.
        written = self._insert_chunk(self._chunk)
        with self._change:
            self._chunk = []
            self._journal.replayed()
            self._down = False
            self._written += written
            self._replayed += written

    def _insert_chunk(self, rows: Sequence[Record]) -> int:
        """Return how many of the rows the database took; the others are kept as rejected. Raises StoreError.

        What was erased since it was journaled is left out.
        """
        gone = erasure.erased(self._database, [row.id for row in rows])
        rows = [row for row in rows if row.id not in gone]
        try:
            self._insert(rows)
        except StoreError:
            raise
        except Exception:  # as in `_refusal`
            return sum(self._refusal(row) is None for row in rows)
        return len(rows)

    def _refusal(self, row: Record) -> Exception | None:
        """Insert one row, or keep it as rejected and return why. Raises StoreError."""
        try:
            self._insert([row])
        except StoreError:
            raise
        except Exception as error:  # the thread must outlive any row
            self._reject(msgspec.json.encode(row), error)
            return error
        return None

    def _decode(self, line: Line) -> Record | None:
        try:
            if not line.genuine:
                raise ValueError("its signature does not hold: the line is damaged, or was not written here")
            entry = msgspec.json.decode(line.content, type=_Entry)
            return msgspec.json.decode(entry.row, type=_KINDS[entry.kind])
        except (ValueError, KeyError) as error:  # msgspec's errors are ValueErrors
            self._reject(line.content, error)
            return None

    def _reject(self, line: bytes, error: Exception) -> None:
        """Keep a row for people to look at. Raises StoreError when the journal does not take it: it is tried again."""
        self._journal.reject(line)
        with self._change:
            self._rejected += 1
        _log.error("a row was refused and kept with the rejected ones in %s: %s", self._journal.place, cause(error))


def _is_long(row: Record) -> bool:
    """Return whether its texts take long to write."""
    if isinstance(row, Inference):
        return inferences.is_long(row)
    return isinstance(row, Feedback) and is_large(row.value)


def _in_pieces(row: Record) -> bytes:
    return msgspec.json.encode(in_pieces(row))


def _look_at(done: "asyncio.Future[Durability]") -> None:
    """Retrieve an error that nobody waits for any more, which asyncio would complain about."""
    if not done.cancelled():
        done.exception()


def _resolve(done: "Future[Durability] | None", outcome: Durability | Exception) -> None:
    """Answer whoever waits; one who went away is left alone."""
    if done is None:
        return
    with contextlib.suppress(InvalidStateError):
        done.set_exception(outcome) if isinstance(outcome, Exception) else done.set_result(outcome)
