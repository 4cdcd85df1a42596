"""The writer: nothing that was acknowledged is lost, nothing is written twice."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.store.remote_journal import LogServer, RemoteJournal
from tests.store.samples import a_call, a_feedback, an_inference

from bessemer.core.errors import ConfigError, InvalidRequest, StoreError
from bessemer.core.wire import AuditEvent
from bessemer.store import audit, erasure, feedback, inferences
from bessemer.store.database import Database
from bessemer.store.segments import Segment, signing_key
from bessemer.store.spool import Spool
from bessemer.store.writer import Durability, Writer


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def writer(database: Database, spool: Path) -> Iterator[Writer]:
    opened = Writer(database, Spool.open(database, spool))
    yield opened
    opened.close()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_rows_of_every_kind_arrive(database: Database, writer: Writer, spool: Path) -> None:
    event = AuditEvent(id="ev-1", created_at=1.0, actor="key-1", action="route.put", subject="matching")
    impossible = msgspec.structs.replace(a_call("call-2", "inf-2"), choice_logprobs={"no": float("-inf")})
    writer.put(an_inference("inf-1"))
    writer.put(an_inference("inf-2", calls=(impossible,)))
    writer.put(a_feedback("fb-1"))
    writer.put(event)
    assert writer.flush()
    assert inferences.get(database, "inf-1") == an_inference("inf-1")
    assert feedback.for_inferences(database, ["inf-1"]) == {"inf-1": [a_feedback("fb-1")]}
    assert audit.find(database) == [event]
    assert inferences.get(database, "inf-2").calls[0].choice_logprobs == {"no": -9999.0}
    assert writer.stats().written == 4
    assert sum(path.stat().st_size for path in spool.iterdir()) == 0


def test_flush_waits_for_earlier_rows_alone(database: Database, writer: Writer) -> None:
    stop = threading.Event()

    def traffic(producer: int) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            writer.put(a_feedback(f"fb-{producer}-{number}"))

    producers = [threading.Thread(target=traffic, args=(producer,)) for producer in range(2)]
    for thread in producers:
        thread.start()
    try:
        until(lambda: writer.stats().queued > 100)
        writer.put(a_feedback("mine"))
        assert writer.flush(timeout=20)
        assert feedback.get(database, "mine") == a_feedback("mine")
    finally:
        stop.set()
        for thread in producers:
            thread.join()


async def test_a_committed_row_is_in_the_database(database: Database, writer: Writer) -> None:
    assert await writer.commit(a_feedback("fb-1")) is Durability.COMMITTED
    assert feedback.get(database, "fb-1") == a_feedback("fb-1")


def test_the_same_row_twice_is_one_row(database: Database, writer: Writer) -> None:
    for _ in range(2):
        writer.put(an_inference("inf-1"))
        assert asyncio.run(writer.commit(a_feedback("fb-1"))) is Durability.COMMITTED
    assert len(inferences.find(database)) == len(feedback.find(database)) == 1


def test_more_rows_than_a_batch(database: Database, writer: Writer) -> None:
    for number in range(2500):
        writer.put(a_feedback(f"fb-{number}"))
    assert writer.flush()
    assert len(feedback.find(database, limit=None)) == 2500


def test_close_leaves_no_files(database: Database, spool: Path) -> None:
    writer = Writer(database, Spool.open(database, spool))
    writer.put(a_feedback("fb-1"))
    writer.close()
    assert list(spool.iterdir()) == []
    with pytest.raises(StoreError, match="closed"):
        writer.put(a_feedback("fb-2"))


_KILLED = """
import asyncio
import sys
from pathlib import Path
from bessemer.store.database import Database
from bessemer.store.spool import Spool
from bessemer.store.writer import Writer
from tests.store.samples import a_call, a_feedback, an_inference
database = Database.open_url(sys.argv[1])
writer = Writer(database, Spool.open(database, Path(sys.argv[2])))
number = 0
while True:
    name = f"{sys.argv[3]}-{number}"
    writer.put(an_inference(f"inf-{name}"))
    if number % 50 == 0:
        asyncio.run(writer.commit(a_feedback(f"fb-{name}", inference_id=f"inf-{name}")))
    sys.stdout.write(name + "\\n")
    sys.stdout.flush()
    number += 1
"""


def killed_while_writing(url: str, spool: Path, name: str, wait_s: float) -> list[str]:
    """Write in another process, kill -9 it, and return the names of what it acknowledged."""
    process = subprocess.Popen([sys.executable, "-c", _KILLED, url, str(spool), name], stdout=subprocess.PIPE)
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(wait_s)
    os.kill(process.pid, signal.SIGKILL)
    acknowledged = (first + process.stdout.read()).decode().split("\n")[:-1]
    process.stdout.close()
    process.wait()
    return acknowledged


def test_kill_9_loses_no_acknowledged_row(database: Database, database_url: str, spool: Path) -> None:
    acknowledged = [
        name
        for turn, wait_s in enumerate((0.02, 0.2, 0.0))
        for name in killed_while_writing(database_url, spool, f"turn{turn}", wait_s)
    ]
    last = Writer(database, Spool.open(database, spool))
    assert last.flush()
    last.close()
    written = {row.id: row for row in inferences.find(database, limit=None)}
    for name in acknowledged:
        assert written[f"inf-{name}"].calls, "the calls come with their inference"
    assert 0 <= len(written) - len(acknowledged) <= 3, "at most the row that each kill interrupted is there as well"
    commented = {row.id for row in feedback.find(database, limit=None)}
    assert {f"fb-{name}" for name in acknowledged if int(name.split("-")[1]) % 50 == 0} <= commented


def test_the_journal_of_a_living_process_is_left_alone(sqlite_database: Database, spool: Path) -> None:
    first = Writer(sqlite_database, Spool.open(sqlite_database, spool))
    first.put(a_feedback("fb-1"))
    second = Writer(sqlite_database, Spool.open(sqlite_database, spool))
    second.put(a_feedback("fb-2"))
    assert first.flush()
    assert second.flush()
    assert second.stats().replayed == 0
    first.close()
    second.close()
    assert len(feedback.find(sqlite_database)) == 2


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Database]:
    """A PostgreSQL database, which `plug` can take away."""
    opened = Database.open_url(postgres_url)
    yield opened
    opened.close()


async def test_database_down_spools_and_replays_without_duplicates(
    postgres: Database, plug: Callable[[bool], None], spool: Path
) -> None:
    writer = Writer(postgres, Spool.open(postgres, spool))
    assert await writer.commit(a_feedback("fb-before")) is Durability.COMMITTED
    plug(False)
    assert await writer.commit(a_feedback("fb-down")) is Durability.SPOOLED
    for number in range(100):
        writer.put(an_inference(f"inf-{number}"))
    until(lambda: writer.stats().spooling)
    assert not writer.flush(timeout=0.1)
    plug(True)
    assert writer.flush(timeout=20)
    stats = writer.stats()
    assert (stats.written, stats.rejected, stats.queued, stats.spooling) == (102, 0, 0, False)
    assert stats.spooled >= 1
    assert len(inferences.find(postgres, limit=None)) == 100
    assert {row.id for row in feedback.find(postgres)} == {"fb-before", "fb-down"}
    writer.close()


def test_beyond_the_queue_rows_live_on_disk_alone(
    postgres: Database, plug: Callable[[bool], None], spool: Path
) -> None:
    writer = Writer(postgres, Spool.open(postgres, spool), max_queue=10)
    plug(False)
    for number in range(300):
        writer.put(an_inference(f"inf-{number}"))
    assert writer.stats().queued <= 10
    plug(True)
    assert writer.flush(timeout=20)
    assert len(inferences.find(postgres, limit=None)) == 300
    assert writer.stats().replayed >= 250
    writer.close()
    assert list(spool.iterdir()) == []


def test_closing_while_the_database_is_down_keeps_the_rows(
    postgres: Database, plug: Callable[[bool], None], spool: Path
) -> None:
    writer = Writer(postgres, Spool.open(postgres, spool), max_queue=5)
    plug(False)
    for number in range(20):
        writer.put(an_inference(f"inf-{number}"))
    writer.close(timeout=0.3)
    plug(True)
    again = Writer(postgres, Spool.open(postgres, spool))
    assert again.flush(timeout=20)
    again.close()
    assert len(inferences.find(postgres, limit=None)) == 20


def test_a_row_that_the_database_refuses_is_kept_and_does_not_hold_up_others(
    postgres: Database, plug: Callable[[bool], None], spool: Path
) -> None:
    writer = Writer(postgres, Spool.open(postgres, spool))
    writer.put(a_feedback("fb-1"))
    writer.put(a_feedback("fb-nul", metric="a\0b"))
    writer.put(a_feedback("fb-2"))
    with pytest.raises(InvalidRequest, match=r"refused: .*NUL \(0x00\) bytes\.$"):
        asyncio.run(writer.commit(a_feedback("fb-nul-2", metric="a\0b")))
    assert writer.flush()
    assert {row.id for row in feedback.find(postgres)} == {"fb-1", "fb-2"}
    assert writer.stats().rejected == 2
    writer.close()
    assert (spool / "rejected.jsonl").read_text().count("\n") == 2


def take_away(spool: Path) -> None:
    """From now on no journal can be written."""
    spool.rmdir()


def bring_back(spool: Path) -> None:
    spool.mkdir()


async def test_without_a_journal_the_database_answers_for_a_row(sqlite_database: Database, spool: Path) -> None:
    writer = Writer(sqlite_database, Spool.open(sqlite_database, spool))
    take_away(spool)
    await writer.record(a_feedback("fb-1"))
    assert feedback.get(sqlite_database, "fb-1")
    assert await writer.commit(a_feedback("fb-2")) is Durability.COMMITTED
    with pytest.raises(StoreError, match="journal"):
        writer.put(a_feedback("fb-3"))  # it does not wait, so it cannot know
    assert not writer.journal_works()
    writer.check()
    writer.close()
    assert len(feedback.find(sqlite_database)) == 3
    assert writer.stats().lost == 0


async def test_what_neither_journal_nor_database_takes_is_refused_until_one_does(
    postgres: Database, plug: Callable[[bool], None], spool: Path
) -> None:
    writer = Writer(postgres, Spool.open(postgres, spool))
    take_away(spool)
    plug(False)
    for number in range(3):
        with pytest.raises(StoreError, match="free disk space"):
            await writer.record(an_inference(f"inf-{number}"))
    with pytest.raises(StoreError, match="free disk space"):
        writer.check()
    bring_back(spool)
    writer.check()
    assert writer.journal_works()
    await writer.record(an_inference("inf-kept"))
    plug(True)
    assert writer.flush(timeout=20)
    assert inferences.get(postgres, "inf-kept")
    writer.close()


async def test_best_effort_accepts_such_rows_and_says_how_many_it_lost(
    postgres: Database, plug: Callable[[bool], None], spool: Path
) -> None:
    writer = Writer(postgres, Spool.open(postgres, spool), required=False)
    take_away(spool)
    plug(False)
    for number in range(3):
        await writer.record(an_inference(f"inf-{number}"))
        writer.check()
    with pytest.raises(StoreError):
        await writer.commit(a_feedback("fb-1"))  # whoever waits for an outcome gets the true one
    writer.close(timeout=0.3)
    assert writer.stats().lost == 3


async def test_rows_outlive_the_process_in_whatever_journal(postgres: Database, plug: Callable[[bool], None]) -> None:
    server = LogServer()
    first = Writer(postgres, RemoteJournal(server), max_queue=5)
    plug(False)
    for number in range(20):
        await first.record(an_inference(f"inf-{number}"))
    assert await first.commit(a_feedback("fb-1")) is Durability.SPOOLED
    server.up = False
    until(lambda: first.stats().spooling)
    with pytest.raises(StoreError, match="free disk space"):
        await first.record(a_feedback("fb-2"))
    server.up = True
    first.close(timeout=0.3)
    plug(True)
    server.lines.append(b"what nobody reads")
    second = Writer(postgres, RemoteJournal(server))
    assert second.flush(timeout=20)
    assert len(inferences.find(postgres, limit=None)) == 20
    assert [row.id for row in feedback.find(postgres)] == ["fb-1"]
    assert second.stats().rejected == 1
    assert server.rejected == [b"what nobody reads"]
    second.close()
    assert server.lines == []


def test_what_can_be_kept_nowhere_is_refused(postgres: Database, plug: Callable[[bool], None], spool: Path) -> None:
    writer = Writer(postgres, Spool.open(postgres, spool), max_queue=1)
    spool.rmdir()
    plug(False)
    with pytest.raises(StoreError, match="journal"):
        for number in range(3):
            writer.put(a_feedback(f"fb-{number}"))
    with pytest.raises(StoreError, match="journal"):
        asyncio.run(writer.commit(a_feedback("fb-x")))
    writer.close(timeout=0.1)


def test_a_queue_has_room(sqlite_database: Database, spool: Path) -> None:
    with pytest.raises(ConfigError, match="writer_max_queue"):
        Writer(sqlite_database, Spool.open(sqlite_database, spool), max_queue=0)


def test_a_torn_last_line_and_a_foreign_line_do_not_stop_the_replay(sqlite_database: Database, spool: Path) -> None:
    Writer(sqlite_database, Spool.open(sqlite_database, spool)).close()
    key = signing_key(spool, first=False)
    segment = Segment.create(spool, key)
    segment.append(b'{"kind":"feedback","row":{}}')
    segment.append(msgspec.json.encode({"kind": "feedback", "row": a_feedback("fb-mine")}))
    segment.append(b'{"kind":"inf')
    segment.close()
    segment.path.write_bytes(segment.path.read_bytes()[:-1])
    again = Writer(sqlite_database, Spool.open(sqlite_database, spool))
    assert again.flush()
    assert (again.stats().rejected, again.stats().written) == (1, 1)
    again.close()


def test_a_forged_line_is_no_row(database: Database, spool: Path) -> None:
    Writer(database, Spool.open(database, spool)).close()
    forged = msgspec.json.encode({"kind": "inference", "row": an_inference("inf-forged")})
    (spool / "0.journal").write_bytes(forged + b"\n" + b"0" * 64 + b" " + forged + b"\n")
    again = Writer(database, Spool.open(database, spool))
    assert again.flush()
    assert again.stats().rejected == 2
    again.close()
    assert inferences.find(database) == []
    assert (spool / "rejected.jsonl").read_bytes().count(b"\n") == 2
    assert (spool / "rejected.jsonl").stat().st_mode & 0o777 == 0o600


def test_what_was_erased_does_not_come_back_from_a_journal(
    sqlite_database: Database, tmp_path: Path, spool: Path
) -> None:
    names = killed_while_writing(f"sqlite:///{tmp_path / 'sqlite.db'}", spool, "erased", 0.05)
    gone, kept = f"inf-{names[-1]}", f"inf-{names[-2]}"
    erasure.erase(sqlite_database, [an_inference(gone)])
    again = Writer(sqlite_database, Spool.open(sqlite_database, spool))
    assert again.flush()
    again.close()
    found = {row.id for row in inferences.find(sqlite_database, limit=None)}
    assert (gone in found, kept in found) == (False, True)
