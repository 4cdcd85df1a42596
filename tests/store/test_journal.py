"""The journal: what was appended is read back, whoever owned it, and what is released never comes again."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from tests.store.remote_journal import LogServer, RemoteJournal

from bessemer.store.journal import Journal, Line, PreparedLine
from bessemer.store.segments import Segment, orphans, signing_key
from bessemer.store.spool import Spool

KEY = b"k" * 32


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.binary().filter(lambda line: b"\n" not in line)), torn=st.binary(max_size=20))
def test_lines_come_back_in_order_without_a_torn_end(tmp_path: Path, lines: list[bytes], torn: bytes) -> None:
    segment = Segment.create(tmp_path, KEY)
    for line in lines:
        segment.append(line)
    with segment.path.open("ab") as target:
        target.write(torn.replace(b"\n", b""))
    assert list(segment.lines()) == [Line(line, genuine=True) for line in lines]
    segment.remove()


def test_a_segment_has_one_owner(tmp_path: Path) -> None:
    owned = Segment.create(tmp_path, KEY)
    owned.append(b"x")
    assert orphans(tmp_path, KEY) == []
    owned.close()
    (adopted,) = orphans(tmp_path, KEY)
    assert list(adopted.lines()) == [Line(b"x", genuine=True)]
    assert orphans(tmp_path, KEY) == []
    adopted.remove()
    assert orphans(tmp_path, KEY) == []


def test_what_was_not_written_here_is_not_genuine(tmp_path: Path) -> None:
    segment, other = Segment.create(tmp_path, KEY), Segment.create(tmp_path, KEY)
    segment.append(b"mine")
    other.append(b"moved")
    stranger = Segment.create(tmp_path, b"s" * 32)
    stranger.append(b"forged")
    mine = segment.path.read_bytes()
    pieces = [
        mine,
        mine.replace(b"mine", b"mind"),
        other.path.read_bytes(),
        stranger.path.read_bytes(),
        b"unsigned\n",
        b"\n",
        mine[:64] + b"\n",
    ]
    segment.path.write_bytes(b"".join(pieces))
    told = [line.genuine for line in segment.lines()]
    assert told == [True] + [False] * (len(pieces) - 1)
    for one in (segment, other, stranger):
        one.remove()


def test_unsigned_lines_are_taken_in_before_there_is_a_key_and_never_again(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "1.journal").write_bytes(b"old\nolder\ntorn")
    key = signing_key(spool, first=True)
    assert (tmp_path / "journal.key").stat().st_mode & 0o777 == 0o600
    assert signing_key(spool, first=False) == key
    (spool / "2.journal").write_bytes(b"new\n")
    first, second = orphans(spool, key)
    assert list(first.lines()) == [Line(b"old", genuine=True), Line(b"older", genuine=True)]
    assert list(second.lines()) == [Line(b"new", genuine=False)]
    for one in (first, second):
        one.close()
    (tmp_path / "journal.key").unlink()
    again = signing_key(spool, first=False)
    assert again != key, "whoever takes the key away takes nothing in"
    for one in orphans(spool, again):
        assert not any(line.genuine for line in one.lines())
        one.remove()


def test_a_process_killed_while_it_takes_lines_in_leaves_them_to_the_next(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "1.journal").write_bytes(b"old\n")
    key = signing_key(spool, first=True)
    (tmp_path / "journal.key").rename(tmp_path / "journal.new")
    (spool / "2.journal").write_bytes(b"not yet\n")
    assert signing_key(spool, first=True) == key
    for one in orphans(spool, key):
        assert [line.genuine for line in one.lines()] == [True]
        one.remove()


class _Lines(RuleBasedStateMachine):
    """A journal beside the lines that it must still hold: those of this process, then those that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.server = LogServer()
        self.journal = self.open()
        self.own: list[tuple[int, bytes]] = []
        self.waiting: list[bytes] = []
        self.given = 0

    def open(self) -> Journal:
        raise NotImplementedError

    @rule(content=st.binary(max_size=40).filter(lambda line: b"\n" not in line), prepared=st.booleans())
    def append(self, content: bytes, prepared: bool) -> None:
        number = self.journal.append(self.journal.prepare(content) if prepared else PreparedLine(content))
        assert number > max((line[0] for line in self.own), default=0)
        self.own.append((number, content))

    @rule(share=st.floats(0, 1))
    def release(self, share: float) -> None:
        done = int(share * len(self.own))
        if done:
            self.journal.release(self.own[done - 1][0])
            del self.own[:done]

    @rule()
    def defer(self) -> None:
        self.journal.defer()
        self.waiting += [content for _, content in self.own]
        self.own = []

    @rule(limit=st.integers(1, 5))
    def replay(self, limit: int) -> None:
        lines = self.journal.replay(limit)
        if self.given:
            assert len(lines) == self.given, "the same ones until they are replayed"
        assert all(line.genuine for line in lines)
        assert [line.content for line in lines] == self.waiting[: len(lines)]
        assert bool(lines) == bool(self.waiting)
        assert len(lines) <= limit or self.given
        self.given = len(lines)

    @rule()
    def replayed(self) -> None:
        self.journal.replayed()
        del self.waiting[: self.given]
        self.given = 0

    @rule()
    def sync(self) -> None:
        self.journal.sync()
        assert self.journal.has_room()

    @rule()
    def end(self) -> None:
        """The process ends, and the next one finds everything that was not released."""
        left = Counter([*self.waiting, *(content for _, content in self.own)])
        self.journal.close()
        self.journal = self.open()
        found: list[bytes] = []
        while lines := self.journal.replay(3):
            found += [line.content for line in lines]
            self.journal.replayed()
        assert not self.journal.behind
        assert left <= Counter(found), "nothing is lost"
        self.own, self.waiting, self.given = [], [], 0

    def teardown(self) -> None:
        self.journal.close()
        self.folder.cleanup()


class _OnDisk(_Lines):
    def open(self) -> Journal:
        return Spool(Path(self.folder.name), KEY)


class _OnServer(_Lines):
    def open(self) -> Journal:
        return RemoteJournal(self.server)


@pytest.mark.parametrize("kind", [_OnDisk, _OnServer])
def test_lines_are_there_until_they_are_released(kind: type[_Lines], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bessemer.store.spool._SEGMENT_BYTES", 200)
    run_state_machine_as_test(kind, settings=settings(max_examples=40, stateful_step_count=30))  # type: ignore[no-untyped-call]
