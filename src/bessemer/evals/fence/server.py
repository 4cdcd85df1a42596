"""The server: compiles and imports a grader's source once, then runs each call in a fork of its own.

From the import on it is the grader's, and nobody believes what it says beyond the grader's own rewards.
"""

import contextlib
import json
import math
import os
import resource
import select
import signal
import time
import traceback
from typing import Any, BinaryIO

from .frames import MAX_ANSWER, Json, frame, read_frame, send


def call(function: Any, kind: str, arguments: Any, write_to: int, limits: Json) -> None:
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
    if not hasattr(value, "__float__"):
        return None
    try:
        reward = float(value)
    except OverflowError:
        return None
    return reward if math.isfinite(reward) else None


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
        with contextlib.suppress(ValueError, RecursionError):
            # A descendant may hold the pipe open; a whole answer ends the wait.
            json.loads(received)
            return received, False
        if len(received) > MAX_ANSWER:
            return b"", False


def answer_of(received: bytes, status: int) -> Any:
    """Turn what the fork left behind into an answer: its own, or how it died."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(received)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        kind = "CpuLimit" if name == "SIGXCPU" else "Killed"
        return {"error": kind, "details": f"the grader's process was ended by {name}"}
    return {"error": "NoAnswer", "details": "the grader's process ended without an answer"}


def load(setup: Json) -> Any:
    """Compile and import the source; return its function."""
    module: dict[str, Any] = {"__name__": "grader"}
    exec(compile(setup["source"], "grader.py", "exec", dont_inherit=True), module)  # noqa: S102 -- this is the grader
    if setup["function"] not in module:
        raise NameError(f"the source defines no function {setup['function']!r}")
    return module[setup["function"]]


def serve(requests: BinaryIO, answers: BinaryIO, setup: Json, held: Json) -> None:
    """Import the source, say so, then answer one call after the other until the pipe ends."""
    limits = setup["limits"]
    if (held["files"] == "open" or held["system_calls"] == "open") and not setup["unfenced"]:
        send(answers, frame({"error": "Unfenced", "details": "the kernel cannot keep the code from the files"}))
        return
    try:
        function = load(setup)
    except BaseException as error:
        send(answers, frame({"error": type(error).__name__, "details": str(error)[:2000]}))
        return
    send(answers, frame(held))
    while (body := read_frame(requests)) is not None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        arguments = json.loads(body)
        read_from, write_to = os.pipe()
        deadline = time.monotonic() + limits["wall_s"]
        pid = os.fork()
        if pid == 0:
            os.close(read_from)
            # The call must not reach the pipes that other calls are answered on.
            answers.close()
            requests.close()
            os.chdir(os.environ["HOME"])
            call(function, setup["kind"], arguments, write_to, limits)
        os.close(write_to)
        received, late = collect(read_from, deadline)
        os.close(read_from)
        if late:
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        timeout = {"error": "WallLimit", "details": f"no answer within {limits['wall_s']} s"}
        send(answers, frame(timeout if late else answer_of(received, status)))
