"""A pool of killable processes that run a grader's own code.

Each call is a fresh fork of a process that has imported the source once: no state leaks between grades, and a call
that loops, eats memory or leaves children behind takes only itself down. `isolation` says honestly what keeps the code
off the network and the files on this machine; where nothing keeps it off the files, it does not run, unless `unfenced`
allows it. Safe to use from many threads; nothing here needs an event loop.
"""

import contextlib
import functools
import math
import os
import queue
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import Any, Literal

import msgspec

from bessemer.core.types import JSON, Frozen
from bessemer.evals.grader import Limits

_CHILD = Path(__file__).with_name("_sandbox_child.py")
_GRACE_S = 2.0
_MAX_FRAME = 4 << 20


class SandboxError(Exception):
    """The code failed, or broke a limit; `kind` names the exception or the limit. `server` is our side's failure."""

    def __init__(self, kind: str, details: str, *, server: bool = False) -> None:
        super().__init__(f"{kind}: {details}")
        self.kind = kind
        self.details = details
        self.server = server


class Isolation(Frozen, frozen=True):
    """What keeps a grader's code in, as far as this machine's kernel allows."""

    network: Literal["namespace", "landlock", "socket module off"]
    """No interface at all; no TCP; or only honest code is stopped."""
    files: Literal["landlock", "open"]
    """Reads of Python and system libraries, writes of a scratch folder; or whatever the account may do."""


class _Worker:
    """One keeper process with its server, ready to answer calls."""

    def __init__(self, source: str, function: str, kind: str, limits: Limits, *, unfenced: bool) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="grader-", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(  # noqa: S603 -- our interpreter, our file
            [sys.executable, "-I", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": self._folder.name, "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        try:
            setup = {
                "source": source,
                "function": function,
                "kind": kind,
                "unfenced": unfenced,
                "limits": {"wall_s": limits.wall_s, "cpu_s": limits.cpu_s, "memory_mb": limits.memory_mb},
            }
            ready = self.ask(setup, limits.load_s)
            if "error" in ready:
                raise SandboxError(ready["error"], ready["details"])
            self.isolation = Isolation(network=ready["network"], files=ready["files"])
        except BaseException:
            self.close()
            raise

    def ask(self, message: Any, seconds: float) -> JSON:
        """Send one message and wait for its answer. Raises SandboxError when the process is late or gone."""
        try:
            body = msgspec.json.encode(message)
            assert self._process.stdin is not None
            self._process.stdin.write(struct.pack(">I", len(body)) + body)
            self._process.stdin.flush()
            deadline = time.monotonic() + seconds
            (length,) = struct.unpack(">I", self._read(4, deadline))
            if length > _MAX_FRAME:
                raise SandboxError("AnswerTooLarge", f"the answer has {length} bytes")
            answer = msgspec.json.decode(self._read(length, deadline))
        except (OSError, msgspec.MsgspecError, UnicodeEncodeError, TypeError) as error:
            raise SandboxError(type(error).__name__, str(error), server=True) from error
        assert isinstance(answer, dict)
        return answer

    def _read(self, count: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        stream = self._process.stdout.fileno()
        received = b""
        while len(received) < count:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                raise SandboxError("WallLimit", "the grader's process did not answer in time")
            part = os.read(stream, count - len(received))
            if not part:
                raise SandboxError("Killed", "the grader's process ended")
            received += part
        return received

    def close(self) -> None:
        """Let go of the pipe: the keeper kills everything below it; then make sure of the keeper."""
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()


def _close_all(workers: set[_Worker]) -> None:
    while workers:
        workers.pop().close()


class Sandbox:
    """Runs `function` of `source`: kind "python" as function(*arguments), kind "lambda" as function(event, None)."""

    def __init__(
        self,
        source: str,
        function: str,
        kind: Literal["python", "lambda"],
        limits: Limits,
        *,
        unfenced: bool = False,
    ) -> None:
        """`unfenced`: run even where the code could read and write all that this account may."""
        self._source, self._function, self._kind, self._limits = source, function, kind, limits
        self._unfenced = unfenced
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._slots = threading.Semaphore(limits.workers)
        self._workers: set[_Worker] = set()
        self._closed = False
        self._broken: SandboxError | None = None
        self._finalizer = weakref.finalize(self, _close_all, self._workers)

    def call(self, *arguments: Any) -> Any:
        """Run one call in a fork of its own. Raises SandboxError for whatever goes wrong in it."""
        with self._slots:
            worker = self._take()
            try:
                answer = worker.ask(arguments, self._limits.wall_s + _GRACE_S)
            except BaseException:
                self._workers.discard(worker)
                worker.close()
                raise
            self._idle.put(worker)
        if "error" in answer:
            raise SandboxError(str(answer["error"]), str(answer.get("details", "")))
        return answer.get("value")

    def isolation(self) -> Isolation:
        """Say what keeps the code in on this machine."""
        with self._slots:
            worker = self._take()
            self._idle.put(worker)
            return worker.isolation

    def _take(self) -> _Worker:
        if self._closed:
            raise SandboxError("Closed", "the grader was closed", server=True)
        with contextlib.suppress(queue.Empty):
            return self._idle.get_nowait()
        if self._broken is not None:
            # A source that fails on import fails every time; trying again would cost a process for each grade.
            raise self._broken
        try:
            worker = _Worker(self._source, self._function, self._kind, self._limits, unfenced=self._unfenced)
        except SandboxError as error:
            self._broken = None if error.server else error
            raise
        self._workers.add(worker)
        return worker

    def close(self) -> None:
        """Kill every process of the pool."""
        self._closed = True
        self._finalizer()


@functools.cache
def isolation() -> Isolation:
    """Say what keeps code in on this machine; found out once, with code of nobody's. Raises SandboxError."""
    nothing = Sandbox("def grade(sample, item): pass", "grade", "python", Limits(), unfenced=True)
    try:
        return nothing.isolation()
    finally:
        nothing.close()


def finite(value: Any) -> float | None:
    """Return a reward as a float, None when it is no finite number."""
    if isinstance(value, bool):
        return float(value)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
