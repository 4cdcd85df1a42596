"""Nothing leaves the machine: server, worker and command line run with a guard under them that notes every attempt."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.live import OFFLINE, Upstream, start_server, stop_server

SOURCE = Path(__file__).parent / "egress.c"


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment that puts the guard under a process and all its children."""
    folder = tmp_path_factory.mktemp("egress")
    library = folder / "egress.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "EGRESS_LOG": str(folder / "attempts"), **OFFLINE}


def attempts(guard: dict[str, str]) -> list[str]:
    path = Path(guard["EGRESS_LOG"])
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("import socket; socket.create_connection(('192.0.2.1', 9))", "connect 192.0.2.1"),
        ("import socket; socket.getaddrinfo('example.org', 80)", "getaddrinfo example.org"),
        (
            "import asyncio, uvloop\nasync def main():\n  await asyncio.get_running_loop().create_connection("
            "asyncio.Protocol, '192.0.2.1', 9)\nuvloop.run(main())",
            "connect 192.0.2.1",
        ),
    ],
)
def test_the_guard_sees_and_refuses_an_attempt(guard: dict[str, str], code: str, kind: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **guard}, capture_output=True, check=False)
    assert done.returncode != 0
    assert kind in attempts(guard)


def test_server_worker_and_command_line_stay_inside(guard: dict[str, str], tmp_path: Path, upstream: Upstream) -> None:
    server = start_server(tmp_path, upstream, "--worker", env=guard)
    deadline = time.monotonic() + 60
    while "worker.ready" not in server.log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    client = server.openai()
    answer = client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "hi"}])
    assert answer.choices[0].message.content == "ok"
    arguments = [sys.executable, "-m", "bessemer", "--data", str(server.data), "models", "list"]
    subprocess.run(arguments, env={**os.environ, **guard}, check=True, stdout=subprocess.DEVNULL)
    log = server.log.read_text()
    stop_server(server)
    assert "worker.ready" in log, log[-3000:]
    assert attempts(guard) == []
