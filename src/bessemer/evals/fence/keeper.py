"""Runs inside a grader's own process: standard library only, never imported by Bessemer.

Three processes. A *keeper*, which is trusted: it builds the fence, starts the server, hands messages on, counts what
the server and all below it use, and kills what goes over a limit. A *server*, which gives up every right, then compiles
and imports the grader's source once; from then on it is the grader's. For each call a fork of the server, killed with
all its descendants afterwards; between calls the server is stopped.

The fence, as far as the kernel gives it, and the first answer says what holds: namespaces with a root of their own that
has nothing but Python in it, another account, no capabilities, Landlock, and a filter of system calls. Without the
filter, or where neither the root nor Landlock keeps files away, nothing runs unless the setup allows that.
"""

import contextlib
import json
import os
import select
import signal
import struct
import time
from collections.abc import Sequence
from typing import BinaryIO

from .frames import MAX_ANSWER, Json, frame, read_frame, send
from .group import Group, Process, Scratch
from .kernel import PR_SET_CHILD_SUBREAPER, build_fence, give_up, libc
from .server import serve

TICK_S = 0.02


class Ended(Exception):
    """The server is gone or must go; the message, if any, is the last answer."""

    def __init__(self, kind: str, details: str) -> None:
        super().__init__(kind)
        self.answer = {"error": kind, "details": details, "fatal": True}


class Keeper:
    """Hands messages between the service and the server, and keeps the group within its limits."""

    def __init__(self, requests: int, pipes: tuple[int, int], group: Group, scratch: Scratch, limits: Json) -> None:
        self._requests, (self._to_server, self._from_server) = requests, pipes
        self._group, self._scratch, self._limits = group, scratch, limits
        os.set_blocking(self._to_server, False)

    def exchange(self, data: bytes, seconds: float, cpu_s: float) -> bytes:
        """Send the server a frame, return the one that it answers with, or that of the limit it broke. Raises Ended."""
        left, received = memoryview(data), bytearray()
        deadline, tick = time.monotonic() + seconds, time.monotonic() + TICK_S
        base: float | None = None
        broken: tuple[str, str] | None = None
        self._group.signal(signal.SIGCONT)
        while True:
            events = self._wait(writing=bool(left))
            if self._requests in events:
                raise Ended("Closed", "the service let go")
            if self._to_server in events:
                with contextlib.suppress(BrokenPipeError, BlockingIOError):
                    left = left[os.write(self._to_server, left) :]
            if self._from_server in events:
                received += self._part(received)
                if len(received) >= 4 and len(received) == 4 + struct.unpack(">I", received[:4])[0]:
                    break
            if time.monotonic() < tick:
                continue
            tick = time.monotonic() + TICK_S
            processes = self._group.processes()
            used = sum(one.seconds for one in processes)
            base = used if base is None else base
            if time.monotonic() > deadline:
                raise Ended(*(broken or ("WallLimit", f"no answer within {seconds} s")))
            if broken is None and (broken := self._broken(processes, used - base, cpu_s)):
                # The call dies; its server, if it is honest, answers at once.
                self._group.sweep()
                deadline = time.monotonic() + 1.0
        self._group.signal(signal.SIGSTOP)
        self._group.sweep()
        self._scratch.renew()
        return bytes(received) if broken is None else frame({"error": broken[0], "details": broken[1]})

    def _wait(self, *, writing: bool) -> set[int]:
        poll = select.poll()
        poll.register(self._from_server, select.POLLIN)
        poll.register(self._requests, 0)
        if writing:
            poll.register(self._to_server, select.POLLOUT)
        return {file for file, _ in poll.poll(TICK_S * 1000)}

    def _part(self, received: bytearray) -> bytes:
        part = os.read(self._from_server, 1 << 16)
        if not part:
            raise Ended("Killed", "the grader's process ended")
        head = bytes(received[:4] + part)[:4]
        if len(head) == 4 and struct.unpack(">I", head)[0] + 4 < len(received) + len(part):
            raise Ended("BadAnswer", "the grader's process wrote more than its answer")
        if len(received) > MAX_ANSWER:
            raise Ended("AnswerTooLarge", f"the answer has more than {MAX_ANSWER} bytes")
        return part

    def _broken(self, processes: Sequence[Process], cpu: float, cpu_s: float) -> tuple[str, str] | None:
        """Return the limit that the whole group breaks now, and how."""
        most = self._limits["memory_mb"] << 20
        if sum(one.memory for one in processes) > most and self._group.memory(processes) > most:
            return "MemoryLimit", f"the grader's processes hold more than {self._limits['memory_mb']} MB together"
        if len(processes) > self._limits["processes"] + 1:
            return "ProcessLimit", f"more than {self._limits['processes']} processes"
        if cpu > cpu_s:
            return "CpuLimit", f"the grader's processes used more than {cpu_s} s of processor time together"
        if self._scratch.full():
            return "DiskLimit", f"the grader's files take more than {self._limits['disk_mb']} MB"
        return None


def keep(requests: BinaryIO, answers: BinaryIO, keeper: Keeper, limits: Json) -> None:
    """Load the source, then hand on one call after the other until the service lets go."""
    try:
        # The server says by itself when a call is late; a little more is given to it than to the call.
        send(answers, keeper.exchange(b"", limits["load_s"], limits["load_s"]))
        while (body := read_frame(requests)) is not None:
            data = struct.pack(">I", len(body)) + body
            send(answers, keeper.exchange(data, limits["wall_s"] + 1.0, limits["cpu_s"]))
    except Ended as end:
        with contextlib.suppress(BrokenPipeError):
            send(answers, frame(end.answer))


def main() -> int:
    """Read the setup, build the fence, fork the server and keep it."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null, proc = os.open(os.devnull, os.O_RDWR), os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.umask(0o022)  # the grader's account must get through the folders of its root
    setup: Json = json.loads(read_frame(requests) or b"{}")
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    fence = build_fence(os.getcwd(), setup)
    scratch = Scratch(os.getcwd(), fence, setup)
    os.environ.pop("PWD", None)  # bubblewrap adds it
    os.environ.update({"HOME": scratch.path, "TMPDIR": scratch.path})
    (server_reads, to_server), (from_server, server_writes) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        kept = {server_reads, server_writes, scratch.place}
        for file in set(range(3, 256)) - kept:
            with contextlib.suppress(OSError):
                os.close(file)
        os.setsid()
        os.chdir(scratch.path)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        channel = os.fdopen(server_reads, "rb"), os.fdopen(server_writes, "wb")
        try:
            held = give_up(fence, setup, scratch.place)
        except OSError as error:
            send(channel[1], frame({"error": "Unfenced", "details": str(error)}))
            os._exit(1)
        serve(*channel, setup, held)
        os._exit(0)
    os.close(server_reads)
    os.close(server_writes)
    group = Group(proc, pid)
    keep(
        requests,
        answers,
        Keeper(requests.fileno(), (to_server, from_server), group, scratch, setup["limits"]),
        setup["limits"],
    )
    group.signal(signal.SIGSTOP)
    group.sweep()
    group.signal(signal.SIGKILL)
    os.waitpid(pid, 0)
    if not setup["enclosed"] and not fence.private_root:
        scratch.renew()
    return 0
