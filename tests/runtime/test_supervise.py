"""The supervisor against real processes."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import structlog
from tests.live import Server

from bessemer.core.errors import ConfigError
from bessemer.runtime.locks import keep_private, only_one
from bessemer.runtime.supervise import keep_running


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path(f"/proc/{pid}/stat").read_text().split(") ")[1].startswith("Z")


def read_pid(file: Path) -> int:
    return int(file.read_text() or 0) if file.exists() else 0


async def pid_in(file: Path, other_than: int = 0) -> int:
    for _ in range(1500):
        if (pid := read_pid(file)) not in {0, other_than}:
            return pid
        await asyncio.sleep(0.02)
    raise AssertionError(f"no process wrote {file}")


def child(file: Path) -> list[str]:
    code = f"import os,pathlib,time; pathlib.Path({str(file)!r}).write_text(str(os.getpid())); time.sleep(60)"
    return [sys.executable, "-c", code]


async def test_a_killed_child_comes_back_and_goes_with_its_supervisor(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    supervisor = asyncio.ensure_future(keep_running(child(file), os.environ))
    first = await pid_in(file)
    os.kill(first, signal.SIGKILL)
    second = await pid_in(file, other_than=first)
    supervisor.cancel()
    await asyncio.gather(supervisor, return_exceptions=True)
    assert not alive(second)


async def test_the_first_restart_waits_half_a_second() -> None:
    supervisor = asyncio.ensure_future(keep_running([sys.executable, "-c", ""], os.environ))
    with structlog.testing.capture_logs() as told:
        for _ in range(1500):
            await asyncio.sleep(0.02)
            if len(waits := [event["restart_in_s"] for event in told if event["event"] == "child.died"]) == 2:
                break
    supervisor.cancel()
    await asyncio.gather(supervisor, return_exceptions=True)
    assert waits == [0.5, 1.0]


def test_what_is_made_is_readable_to_its_owner_alone(tmp_path: Path) -> None:
    data, before = tmp_path / "data", os.umask(0o022)
    data.mkdir()
    try:
        with structlog.testing.capture_logs() as told:
            keep_private(data)
        (data / "new").mkdir()
        (data / "new" / "file").touch()
        assert [stat.S_IMODE((data / name).stat().st_mode) for name in ("new", "new/file")] == [0o700, 0o600]
        assert stat.S_IMODE(data.stat().st_mode) == 0o755, "what was there is not changed"
        assert told[0]["remedy"] == f"chmod -R go= {data}"
        data.chmod(0o700)
        with structlog.testing.capture_logs() as told:
            keep_private(data)
        assert told == []
    finally:
        os.umask(before)


def test_the_data_folder_of_a_server_is_readable_to_its_owner_alone(server: Server) -> None:
    wide = [str(path) for path in (server.data, *server.data.rglob("*")) if path.stat().st_mode & 0o077]
    assert wide == []


def test_a_child_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    inner = (
        "import os,pathlib,time; from bessemer.runtime.supervise import exit_with_parent; exit_with_parent();"
        f"pathlib.Path({str(file)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )
    outer = (
        "import asyncio,os,sys; from bessemer.runtime.supervise import keep_running;"
        f"asyncio.run(keep_running([sys.executable, '-c', {inner!r}], os.environ))"
    )
    parent = subprocess.Popen([sys.executable, "-c", outer])
    pid = asyncio.run(pid_in(file))
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)


def test_a_data_folder_has_one_process_of_a_kind(tmp_path: Path) -> None:
    with only_one(tmp_path / "server.lock"):
        with pytest.raises(ConfigError, match=r"server\.lock"), only_one(tmp_path / "server.lock"):
            pass
        with only_one(tmp_path / "worker.lock"):
            pass
    with only_one(tmp_path / "server.lock"):
        pass
