"""`bessemer up` as a child process: the demo talks to it from outside, as any application does."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from bessemer.client.loop import LoopFailed

_START_S = 900.0
"""A process that ended is noticed at once; one that is slow, on a busy machine, is waited for."""
_STOP_S = 30.0
_PID_FILE = "server.pid"


class Server:
    """`bessemer up` as a child process on a free port; its output goes to `server.log` in the data folder."""

    def __init__(self, data: Path, config: Path) -> None:
        self._data, self._config = data, config
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Server":
        self._data.mkdir(parents=True, exist_ok=True)
        stop_orphan(self._data)
        (self._data / "server.url").unlink(missing_ok=True)
        command = [sys.executable, "-m", "bessemer", "up", "--port", "0"]
        command += ["--data", str(self._data), "--config", str(self._config)]
        with (self._data / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)  # noqa: S603
        (self._data / _PID_FILE).write_text(str(self._process.pid))
        deadline = time.monotonic() + _START_S
        while not (self._data / "server.url").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise LoopFailed(f"The server did not start; the end of its log:\n{self.log_tail()}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server and wait for it."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def url(self) -> str:
        """Where it listens."""
        return (self._data / "server.url").read_text().strip()

    @property
    def key(self) -> str:
        """The admin key of this data folder."""
        return (self._data / "admin.key").read_text().strip()

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of the server's log."""
        return "\n".join((self._data / "server.log").read_text(errors="replace").splitlines()[-lines:])


def stop_orphan(data: Path) -> None:
    """Stop the server that an application which was killed left behind on this data folder."""
    pid = (data / _PID_FILE).read_text() if (data / _PID_FILE).exists() else ""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") if pid else []
    except OSError:
        return
    deadline = time.monotonic() + _STOP_S
    if str(data).encode() in command:
        os.kill(int(pid), signal.SIGTERM)
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
