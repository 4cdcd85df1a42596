"""The sweep of a grader's processes, against a /proc that changes while it is read."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bessemer.evals.fence.group import Group

GONE = 4_000_001
"""A process between: above what the kernel gives out, so that no signal reaches anybody."""


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    started = [subprocess.Popen(["/bin/sleep", "60"]) for _ in range(2)]
    yield started
    for one in started:
        one.kill()
        one.wait()


def write_process(proc: Path, pid: int, state: str, children: str | None) -> None:
    """Write what /proc says of one process; children None: a pipe, so that its reader waits for the test."""
    tasks = proc / str(pid) / "task" / str(pid)
    tasks.mkdir(parents=True, exist_ok=True)
    (proc / str(pid) / "stat").write_text(f"{pid} (python) {state} " + " ".join(["0"] * 40))
    if children is None:
        os.mkfifo(tasks / "children")
    else:
        (tasks / "children").write_text(children)


def test_a_child_that_changes_its_parent_during_a_walk_is_killed(
    tmp_path: Path, sleepers: list[subprocess.Popen[bytes]]
) -> None:
    server, child = sleepers
    write_process(tmp_path, server.pid, "T", f"{GONE}")
    write_process(tmp_path, GONE, "Z", None)
    pipe = tmp_path / str(GONE) / "task" / str(GONE) / "children"

    def move() -> None:
        # The walk has read the server's children and now reads those of the process between, which just ended.
        with pipe.open("w"):
            write_process(tmp_path, child.pid, "S", "")
            write_process(tmp_path, server.pid, "T", f"{GONE} {child.pid}")
            pipe.unlink()
        write_process(tmp_path, GONE, "Z", "")
        child.wait()
        write_process(tmp_path, child.pid, "Z", "")

    moving = threading.Thread(target=move, daemon=True)
    moving.start()
    place = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        Group(place, server.pid).sweep()
    finally:
        os.close(place)
    moving.join(5)
    assert not moving.is_alive()
    assert server.poll() is None
