"""A pool of killable processes that run a grader's own code.

Each call is a fresh fork of a process that has imported the source once, with an empty scratch folder: what a call does
is gone with it, and one that loops, eats memory or leaves children behind takes only itself down. `isolation` says what
keeps the code in on this machine (`fence` builds it); where that is not enough the code does not run, unless `unfenced`
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
import tempfile
import threading
import time
import weakref
from typing import Any, Literal, NamedTuple

import msgspec

from bessemer.core.types import Frozen
from bessemer.evals.grader import Limits, RuntimeName
from bessemer.evals.runtimes import Runtime, choices, readable

_GRACE_S = 4.0
"""Beyond what the keeper allows: it ends what is late and says why."""
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

    runtime: Literal["native", "bubblewrap"]
    account: Literal["other", "own"]
    """Whether the code runs as another user of the machine than the service."""
    files: Literal["private root", "landlock", "open"]
    """A root with nothing but Python in it; the same files by rule alone; or whatever the account may do."""
    processes: Literal["namespace", "shared"]
    """Whether the machine's other processes, and its network interfaces, are out of its world."""
    system_calls: Literal["filtered", "open"]
    """Whether an allow-list of system calls holds: no sockets, modes, owners, keys, tracing, mounts."""

    @property
    def fenced(self) -> bool:
        """Whether the code can be kept from the service's files: without the filter it leaves Landlock by chmod."""
        return self.files != "open" and self.system_calls == "filtered"


class _Answer(Frozen, frozen=True):
    """What a keeper may say."""

    value: Any = None
    error: str | None = None
    details: str = ""
    fatal: bool = False
    account: Literal["other", "own"] = "own"
    files: Literal["private root", "landlock", "open"] = "open"
    processes: Literal["namespace", "shared"] = "shared"
    system_calls: Literal["filtered", "open"] = "open"


class _Worker:
    """One keeper process with its server, ready to answer calls."""

    def __init__(
        self, source: str, function: str, kind: str, limits: Limits, runtime: Runtime, *, unfenced: bool
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="grader-", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(  # noqa: S603 -- our interpreter, our file
            runtime.command(limits.disk_mb),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        try:
            setup = {
                "source": source,
                "function": function,
                "kind": kind,
                "unfenced": unfenced,
                "enclosed": runtime.encloses,
                "readable": readable(),
                "limits": msgspec.to_builtins(limits),
            }
            ready = self.ask(setup, limits.load_s)
            if ready.error is not None:
                raise SandboxError(ready.error, ready.details)
            self.isolation = Isolation(
                runtime=runtime.name,
                account=ready.account,
                files=ready.files,
                processes=ready.processes,
                system_calls=ready.system_calls,
            )
        except BaseException:
            self.close()
            raise

    def ask(self, message: Any, seconds: float) -> _Answer:
        """Send one message and wait for its answer. Raises SandboxError when the process is late or gone."""
        try:
            body = msgspec.json.encode(message)
            assert self._process.stdin is not None
            self._process.stdin.write(struct.pack(">I", len(body)) + body)
            self._process.stdin.flush()
        except (OSError, msgspec.MsgspecError, UnicodeEncodeError, TypeError, RecursionError) as error:
            raise SandboxError(type(error).__name__, str(error), server=True) from error
        deadline = time.monotonic() + seconds + _GRACE_S
        (length,) = struct.unpack(">I", self._read(4, deadline))
        if length > _MAX_FRAME:
            raise SandboxError("AnswerTooLarge", f"the answer has {length} bytes")
        try:
            return _ANSWER.decode(self._read(length, deadline))
        except (msgspec.MsgspecError, RecursionError) as error:
            # The source's own process wrote it.
            raise SandboxError("BadAnswer", f"the grader's process answered with no reward: {error}") from error

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


_ANSWER = msgspec.json.Decoder(_Answer)


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
        runtime: Runtime | RuntimeName = "auto",
        unfenced: bool = False,
    ) -> None:
        """`runtime`: one, or a setting's name. `unfenced`: run even where nothing keeps the code in."""
        self._source, self._function, self._kind, self._limits = source, function, kind, limits
        self._runtime, self._unfenced = runtime, unfenced
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
                answer = worker.ask(arguments, self._limits.wall_s)
                if answer.fatal:
                    raise SandboxError(str(answer.error), answer.details)
            except BaseException:
                self._workers.discard(worker)
                worker.close()
                raise
            self._idle.put(worker)
        if answer.error is not None:
            raise SandboxError(answer.error, answer.details)
        return answer.value

    def isolation(self) -> Isolation:
        """Say what keeps the code in on this machine."""
        with self._slots:
            worker = self._take()
            self._idle.put(worker)
            return worker.isolation

    def load(self) -> None:
        """Compile and import the source, unless that was done. Raises SandboxError for what it says."""
        self.isolation()

    def _take(self) -> _Worker:
        if self._closed:
            raise SandboxError("Closed", "the grader was closed", server=True)
        with contextlib.suppress(queue.Empty):
            return self._idle.get_nowait()
        if self._broken is not None:
            # A source that fails on import fails every time; trying again would cost a process for each grade.
            raise self._broken
        runtime = chosen(self._runtime).runtime if isinstance(self._runtime, str) else self._runtime
        try:
            worker = _Worker(self._source, self._function, self._kind, self._limits, runtime, unfenced=self._unfenced)
        except SandboxError as error:
            self._broken = None if error.server else error
            raise
        self._workers.add(worker)
        return worker

    def close(self) -> None:
        """Kill every process of the pool."""
        self._closed = True
        self._finalizer()


class ChosenRuntime(NamedTuple):
    """A runtime, and what it keeps on this machine."""

    runtime: Runtime
    isolation: Isolation


_STRENGTH = ("open", "landlock", "private root")


@functools.cache
def chosen(name: RuntimeName) -> ChosenRuntime:
    """Find the runtime of a setting, by trying it once with code of nobody's; "auto": the one that keeps most.

    Raises SandboxError when none starts.
    """
    found: list[ChosenRuntime] = []
    problem: SandboxError | None = None
    for runtime in choices(name):
        nothing = Sandbox("def grade(sample, item): pass", "grade", "python", Limits(), runtime=runtime, unfenced=True)
        try:
            found.append(ChosenRuntime(runtime, nothing.isolation()))
        except (SandboxError, OSError) as error:
            problem = error if isinstance(error, SandboxError) else SandboxError("Unavailable", str(error), server=True)
            continue
        finally:
            nothing.close()
        if found[-1].isolation.fenced and found[-1].isolation.files == "private root":
            return found[-1]
    if not found:
        raise problem or SandboxError("Unavailable", f"the grader runtime {name!r} is not installed", server=True)
    return max(found, key=lambda one: (one.isolation.fenced, _STRENGTH.index(one.isolation.files)))


def isolation(name: RuntimeName = "auto") -> Isolation:
    """Say what keeps code in on this machine. Raises SandboxError."""
    return chosen(name).isolation


def finite(value: Any) -> float | None:
    """Return a reward as a float, None when it is no finite number."""
    if not isinstance(value, bool | int | float):
        return None
    try:
        reward = float(value)
    except OverflowError:
        return None
    return reward if math.isfinite(reward) else None
