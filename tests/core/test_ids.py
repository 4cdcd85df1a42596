"""Ids grow in the order of their making, whatever the clock does."""

import logging
import subprocess
import sys
import threading
import time

import pytest

from bessemer.core.ids import follow_id, new_id, uuid7_hex


def test_an_id_is_a_uuid_of_version_7() -> None:
    before = time.time_ns() // 1_000_000
    identity = uuid7_hex()
    assert (len(identity), identity[12]) == (32, "7")
    assert int(identity[16], 16) >> 2 == 0b10
    assert int(identity[:12], 16) >= before


def test_ids_grow_across_threads() -> None:
    made: list[list[str]] = []

    def make() -> None:
        made.append([uuid7_hex() for _ in range(5000)])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(row == sorted(row) for row in made)
    assert len({one for row in made for one in row}) == 20_000


def test_ids_grow_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = time.time_ns()
    before = new_id("fb")
    monkeypatch.setattr(time, "time_ns", lambda: now - 2 * 86_400 * 10**9)
    with caplog.at_level(logging.WARNING):
        after = [new_id("fb") for _ in range(10_000)]
    assert [before, *after] == sorted([before, *after])
    (told,) = caplog.messages
    assert "went back" in told


def test_ids_come_after_those_of_a_process_whose_clock_was_ahead() -> None:
    digits = f"{time.time_ns() // 1_000_000 + 5000:012x}"
    ahead = f"fb-{digits}7fff8{'f' * 15}"
    follow_id(ahead)
    assert new_id("fb") > ahead
    follow_id("fb-none")
    follow_id("")


FORKED = """
import os, time
from bessemer.core.ids import uuid7_hex
uuid7_hex()
child = os.fork()
made = []
for _ in range(20):
    time.sleep(0.002)
    made.append(uuid7_hex()[13:])
os.write(1, " ".join(made).encode() + b"\\n")
if child:
    os.waitpid(child, 0)
"""
"""Ids of a millisecond each: what follows time and version is as it was drawn."""


def test_a_copy_of_a_process_makes_ids_of_its_own() -> None:
    command = [sys.executable, "-c", FORKED]
    lines = subprocess.run(command, capture_output=True, check=True).stdout.splitlines()
    parent, child = (set(line.split()) for line in lines)
    assert len(parent | child) == 40
