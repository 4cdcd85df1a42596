"""A child process that is kept running: started, restarted when it dies, stopped with its parent.

The child's standard input is a pipe that nobody writes to. When the parent is gone, even by kill -9, the pipe ends and
`exit_with_parent` in the child ends it too: no orphan keeps working on the data folder.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence

import structlog

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 10.0
_HEALTHY_S = 30.0
"""A child that lived this long starts again as the first time."""
_STOP_S = 15.0
log = structlog.get_logger("bessemer.supervise")


async def keep_running(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a command for ever; cancel to stop it (SIGTERM, then SIGKILL). Restarts wait 0.5 s, doubling to 10 s."""
    loop = asyncio.get_running_loop()
    wait_s = _FIRST_WAIT_S
    while True:
        started = loop.time()
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, env=dict(environment))
        log.info("child.started", pid=process.pid)
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                await asyncio.shield(_stop(process))
        if loop.time() - started > _HEALTHY_S:
            wait_s = _FIRST_WAIT_S
        log.warning("child.died", pid=process.pid, code=code, restart_in_s=wait_s)
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, _LONGEST_WAIT_S)


async def _stop(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def exit_with_parent() -> None:
    """In the child: send SIGTERM to this process when its standard input ends, SIGKILL when that does not help."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(_STOP_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
