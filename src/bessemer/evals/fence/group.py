"""The processes of one grader, seen and killed from outside of them, and the one folder that they may write."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Sequence
from typing import NamedTuple

from .frames import SCRATCH_PATH, Json
from .kernel import MNT_DETACH, Fence, libc, mount_scratch, system

SWEEP_S = 2.0
PAGE, HERTZ = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


class Process(NamedTuple):
    """What /proc says of one process: seconds of processor time with its reaped children's, bytes in memory."""

    pid: int
    alive: bool
    seconds: float
    memory: int


class Group:
    """The server and everything below it, seen through the host's /proc, which was opened before it went out of sight.

    Orphans stay below: the server adopts them, as the first of its process namespace or as their subreaper.
    """

    def __init__(self, proc: int, server: int) -> None:
        self._proc, self.server = proc, server

    def _read(self, path: str) -> bytes:
        with contextlib.suppress(OSError):
            file = os.open(path, os.O_RDONLY, dir_fd=self._proc)
            try:
                return os.read(file, 1 << 16)
            finally:
                os.close(file)
        return b""

    def _children(self, pid: int) -> list[int]:
        found: list[int] = []
        with contextlib.suppress(OSError):
            tasks = os.open(f"{pid}/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._proc)
            try:
                for task in os.listdir(tasks):
                    found += map(int, self._read(f"{pid}/task/{task}/children").split())
            finally:
                os.close(tasks)
        return found

    def processes(self) -> list[Process]:
        """Return the group, those that ended too, reaped or not."""
        found, left = [], [self.server]
        while left:
            pid = left.pop()
            fields = self._read(f"{pid}/stat").rpartition(b") ")[2].split()
            if not fields:
                found.append(Process(pid, alive=False, seconds=0.0, memory=0))
                continue
            alive = fields[0] not in (b"Z", b"X")
            found.append(Process(pid, alive, sum(map(int, fields[11:15])) / HERTZ, int(fields[21]) * PAGE))
            left += self._children(pid)
        return found

    def memory(self, processes: Sequence[Process]) -> int:
        """Return the bytes that these hold together; shared pages count once where the kernel tells."""
        total = 0
        for process in processes:
            _, known, rest = self._read(f"{process.pid}/smaps_rollup").partition(b"\nPss:")
            total += int(rest.split()[0]) << 10 if known else process.memory
        return total

    def signal(self, number: int) -> None:
        """Send the server a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.server, number)

    def sweep(self) -> None:
        """Kill everything but the server; if that outruns this for two seconds, the server with it.

        A child whose parent ends during a walk is found by the next one, below the server: done is when two walks in a
        row name the same processes and none of them lives.
        """
        deadline = time.monotonic() + SWEEP_S
        before: set[int] | None = None
        while True:
            processes = self.processes()
            others = [one.pid for one in processes if one.alive and one.pid != self.server]
            named = {one.pid for one in processes}
            if not others and named == before:
                return
            before = named
            for pid in others:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL)
            if others:
                time.sleep(0.0005)


class Scratch:
    """The one folder that the server may write; empty at the start of each call."""

    def __init__(self, folder: str, fence: Fence, setup: Json) -> None:
        self._account, self._limits = fence.account, setup["limits"]
        self._own_mount = fence.private_root and not setup["enclosed"]
        self._sized = fence.private_root
        self.path = SCRATCH_PATH if self._own_mount else folder
        # Landlock looks above a mount, never at the folder that it covers.
        self.place = os.open(os.path.dirname(self.path) if self._own_mount else self.path, os.O_PATH)
        if self._own_mount:
            mount_scratch(self.path, self._account, self._limits)
        elif self._account is not None:
            os.chown(self.path, self._account, self._account)

    def full(self) -> bool:
        """Whether it holds more than it may, where no sized mount of its own sees to that."""
        if self._sized:
            return False
        files = [os.path.join(path, name) for path, _, names in os.walk(self.path) for name in names]
        return len(files) > 4096 or sum(os.lstat(file).st_blocks for file in files) << 9 > self._limits["disk_mb"] << 20

    def renew(self) -> None:
        """Empty it. Only while nothing runs that could write."""
        if self._own_mount:
            state = os.statvfs(self.path)
            if state.f_bfree < state.f_blocks or state.f_files - state.f_ffree > 1:
                system(libc.umount2(self.path.encode(), MNT_DETACH), "umount")
                mount_scratch(self.path, self._account, self._limits)
            return
        for path, folders, _ in os.walk(self.path):
            for name in folders:
                os.chmod(os.path.join(path, name), 0o700, follow_symlinks=False)
        for entry in os.scandir(self.path):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
