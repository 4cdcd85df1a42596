"""Runs inside a grader's own process: standard library only, never imported by Bessemer.

Three processes: a *keeper*, which kills everything when its parent lets go of the pipe; a *server*, which imports the
grader's source once; and for each call a fork of the server, limited in processor time and memory and killed with all
its descendants afterwards.

What keeps the code in depends on the kernel, and the first message says what holds. Namespaces (user, network, process,
System V IPC): no network interface, no process of the host in reach; else Landlock refuses TCP; else the socket module
is switched off, which stops honest code only. Landlock: files can be read where Python and the system's libraries
are, and written in a scratch folder alone; else all that the account may do is open, and nothing runs unless the setup
allows that.

Frames on both pipes: 4 bytes of length, big endian, then JSON.
"""

import contextlib
import ctypes
import json
import math
import os
import resource
import select
import signal
import struct
import sys
import time
import traceback
from typing import Any, BinaryIO

CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
READ, READ_OF_FILE, WRITE_OF_FILE = 0b1101, 0b101, 0b110
PARTS = ("bin", "lib", "lib64")
# Programs and libraries alone, not whole prefixes: an application may keep its data in /usr/src or beside its Python.
READABLE = [f"{prefix}/{part}" for prefix in (sys.prefix, sys.base_prefix, "/usr", "/usr/local", "") for part in PARTS]
READABLE += [f"{sys.prefix}/pyvenv.cfg", "/usr/share/zoneinfo", "/etc/ld.so.cache", "/etc/localtime"]
MAX_ANSWER = 1 << 20


def read_frame(stream: BinaryIO) -> Any:
    """Return the next message, None at the end of the stream."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    body = stream.read(struct.unpack(">I", head)[0])
    return json.loads(body)


def write_frame(stream: BinaryIO, message: Any) -> None:
    """Write one message."""
    body = json.dumps(message).encode()
    stream.write(struct.pack(">I", len(body)) + body)
    stream.flush()


def isolate() -> bool:
    """Enter fresh namespaces as nobody in particular; False where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC) != 0:
        return False
    with contextlib.suppress(OSError):
        for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {uid} 1"), ("gid_map", f"65534 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 -- keep the imports few
                file.write(text)
    return True


def fence() -> tuple[bool, bool]:
    """Restrict this process by Landlock; return whether files, and whether TCP, are fenced."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return False, False
    every = (1 << (16 if version >= 5 else 15 if version >= 3 else 14 if version >= 2 else 13)) - 1
    network, scopes = (0b11 if version >= 4 else 0), (0b11 if version >= 6 else 0)
    attributes = struct.pack("=QQQ", every, network, scopes)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    rules = libc.syscall(LANDLOCK_CREATE, attributes, len(attributes), 0)
    if rules < 0:
        return False, False
    allowed = [(path, READ if os.path.isdir(path) else READ_OF_FILE) for path in READABLE]  # noqa: PTH112
    allowed += [("/dev/null", WRITE_OF_FILE), ("/dev/urandom", READ_OF_FILE), (os.getcwd(), every)]  # noqa: PTH109
    for path, access in allowed:
        with contextlib.suppress(OSError):
            place = os.open(path, os.O_PATH)
            libc.syscall(LANDLOCK_ADD, rules, 1, struct.pack("=Qi", access & every, place), 0)
            os.close(place)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    fenced = libc.syscall(LANDLOCK_RESTRICT, rules, 0) == 0
    os.close(rules)
    return fenced, fenced and bool(network)


def switch_off_sockets() -> None:
    """Make socket creation fail for ordinary code, where no network namespace is to be had."""
    import socket

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError("graders have no network")

    socket.socket = refuse  # type: ignore[misc, assignment]
    socket.create_connection = refuse
    socket.getaddrinfo = refuse


class Sweeper:
    """Kills and reaps everything below this process; made before the fence, which hides /proc."""

    def __init__(self, *, namespaced: bool) -> None:
        self._namespaced = namespaced
        self._children = -1
        if not namespaced:
            with contextlib.suppress(OSError):
                self._children = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)

    def sweep(self) -> None:
        """In a process namespace all others in it; elsewhere children, and the orphans adopted one after the other."""
        with contextlib.suppress(OSError):
            if self._namespaced:
                os.kill(-1, signal.SIGKILL)
            for _ in range(1000):
                for pid in [] if self._namespaced else os.pread(self._children, 65536, 0).split():
                    os.kill(int(pid), signal.SIGKILL)
                os.waitpid(-1, 0)


def limit(kind: int, value: int) -> None:
    """Set a hard limit, never above the one that holds already."""
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def keep(server: int, stdin: int) -> int:
    """Wait until the server ends or the parent lets go of the pipe; then kill the server and all below it."""
    watched = select.poll()
    watched.register(stdin, 0)
    watched.register(os.pidfd_open(server), select.POLLIN)
    watched.poll()
    with contextlib.suppress(ProcessLookupError):
        os.kill(server, signal.SIGKILL)
    Sweeper(namespaced=False).sweep()
    return 0


def call(function: Any, kind: str, arguments: Any, write_to: int, limits: Any) -> None:
    """In the fork: run one call within the limits and write its answer."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # The soft limit's own signal names the cause; the hard one follows if that is ignored.
    resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu_s"], limits["cpu_s"] + 1))
    try:
        value = function(*arguments) if kind == "python" else function(arguments[0], None)
        body = json.dumps({"value": number(value) if kind == "python" else value})
    except BaseException as error:
        # The first frame is this function, which the grader's author has no use for.
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        lines = "".join(traceback.format_exception(type(error), error, trace)[-4:])[-2000:]
        body = json.dumps({"error": type(error).__name__, "details": lines})
    data = memoryview(body.encode()[:MAX_ANSWER])
    while data:
        data = data[os.write(write_to, data) :]
    os._exit(0)


def number(value: Any) -> float | None:
    """Return a reward as a float (numpy's numbers included), None when it is no finite number."""
    finite = hasattr(value, "__float__") and math.isfinite(value)
    return float(value) if finite else None


def collect(read_from: int, deadline: float) -> tuple[bytes, bool]:
    """Read the fork's answer until it closes the pipe; True when the deadline passed first."""
    received = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([read_from], [], [], left)[0]:
            return received, True
        part = os.read(read_from, 65536)
        if not part:
            return received, False
        received += part
        with contextlib.suppress(ValueError):
            # A descendant may hold the pipe open; a whole answer ends the wait.
            json.loads(received)
            return received, False
        if len(received) > MAX_ANSWER:
            return b"", False


def answer_of(received: bytes, status: int) -> Any:
    """Turn what the fork left behind into an answer: its own, or how it died."""
    with contextlib.suppress(ValueError):
        return json.loads(received)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        kind = "CpuLimit" if name == "SIGXCPU" else "Killed"
        return {"error": kind, "details": f"the grader's process was ended by {name}"}
    return {"error": "NoAnswer", "details": "the grader's process ended without an answer"}


def serve(requests: BinaryIO, answers: BinaryIO, *, namespaced: bool) -> None:
    """Import the source, say so, then answer one call after the other until the pipe ends."""
    setup = read_frame(requests)
    limits = setup["limits"]
    sweeper = Sweeper(namespaced=namespaced)
    files, tcp = fence()
    if not files and not setup["unfenced"]:
        write_frame(answers, {"error": "Unfenced", "details": "the kernel cannot keep the code from files (Landlock)"})
        return
    if not (namespaced or tcp):
        switch_off_sockets()
    network = "namespace" if namespaced else "landlock" if tcp else "socket module off"
    limit(resource.RLIMIT_AS, limits["memory_mb"] << 20)
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_FSIZE, 16 << 20)
    limit(resource.RLIMIT_NOFILE, 128)
    try:
        module: dict[str, Any] = {"__name__": "grader"}
        exec(compile(setup["source"], "grader.py", "exec"), module)  # noqa: S102 -- this is the grader
        function = module[setup["function"]]
    except BaseException as error:
        write_frame(answers, {"error": type(error).__name__, "details": str(error)[:2000]})
        return
    write_frame(answers, {"network": network, "files": "landlock" if files else "open"})
    while (arguments := read_frame(requests)) is not None:
        read_from, write_to = os.pipe()
        deadline = time.monotonic() + limits["wall_s"]
        pid = os.fork()
        if pid == 0:
            os.close(read_from)
            # The call must not reach the pipes that other calls are answered on.
            answers.close()
            requests.close()
            call(function, setup["kind"], arguments, write_to, limits)
        os.close(write_to)
        received, late = collect(read_from, deadline)
        os.close(read_from)
        if late:
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        sweeper.sweep()
        timeout = {"error": "WallLimit", "details": f"no answer within {limits['wall_s']} s"}
        write_frame(answers, timeout if late else answer_of(received, status))


def main() -> int:
    """Set up the pipes, enter the namespaces, fork the server and keep it."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(null, stream)
    namespaced = isolate()
    pid = os.fork()
    if pid == 0:
        os.dup2(null, 0)
        os.setsid()
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        serve(requests, answers, namespaced=namespaced)
        os._exit(0)
    answers.close()
    return keep(pid, requests.fileno())


if __name__ == "__main__":
    sys.exit(main())
