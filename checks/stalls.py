"""Measure what one client's requests add to another's: `python checks/stalls.py`.

Starts a server with an upstream of its own, sends each case of `stall_cases.py` from one client, and asks `/healthz`
and a small chat completion from a second one meanwhile. Prints for each case

    case | bytes | status | added to /healthz p99/max ms | added to a chat p99/max ms | MB of the server, at most

`added` is what is above the median of the quiet server before the case. A case is sent again until `--seconds` are
over, over `--clients` connections. `--only TEXT` takes the cases whose name holds the text. Exit code 1 when one adds
more than `--bound` ms (50). Run it where nothing else computes: a busy machine's own waiting is counted, too.
"""

import argparse
import contextlib
import http.client
import json
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from stall_cases import CASES, Sent

ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()
CONFIG = '[models.upstream]\nprovider = "openai"\nbase_url = "http://127.0.0.1:{port}/v1"\n'
SMALL = json.dumps({"model": "upstream", "messages": [{"role": "user", "content": "hi"}]}).encode()
QUIET = {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "6000"}


def upstream(listener: socket.socket) -> None:
    """Answer every request with the same completion; runs in a process of its own."""

    def serve(connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as stream:
            while stream.readline():
                length = 0
                while (line := stream.readline().strip()) != b"":
                    name, _, value = line.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                while length and (piece := stream.read(min(length, 1 << 20))):
                    length -= len(piece)
                head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
                stream.write(head + ANSWER)
                stream.flush()

    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


class Server(NamedTuple):
    """A running server."""

    host: str
    key: str
    process: subprocess.Popen[str]

    def connect(self) -> http.client.HTTPConnection:
        """Return a new connection."""
        return http.client.HTTPConnection(self.host, timeout=300)

    def peak_mb(self) -> float:
        """Return the most memory that it has had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Server]:
    """Start upstream and server; end both."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    behind = multiprocessing.get_context("fork").Process(target=upstream, args=(listener,), daemon=True)
    behind.start()
    config = folder / "bessemer.toml"
    config.write_text(CONFIG.format(port=listener.getsockname()[1]))
    command = [sys.executable, "-m", "bessemer", "up", "--no-worker", "--port", "0"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--data", str(folder / "data"), "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **QUIET},
        )
    try:
        assert process.stdout is not None
        found = re.search(r"http://(\S+)", process.stdout.readline())
        if found is None:
            raise SystemExit((folder / "server.log").read_text())
        yield Server(found[1], (folder / "data" / "admin.key").read_text().strip(), process)
    finally:
        process.terminate()
        process.wait()
        behind.terminate()


def send(server: Server, sent: Sent) -> int:
    """Send a hostile request; return its status, 0 when the server hung up."""
    headers = {"authorization": f"Bearer {server.key}", "content-type": sent.content_type, **dict(sent.headers)}
    with contextlib.closing(server.connect()) as connection:
        try:
            connection.request(sent.method, sent.path, sent.body, headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return 0
        return answer.status


class Seen(NamedTuple):
    """Seconds that each kind of small request took."""

    health: list[float]
    chat: list[float]


class Second:
    """The second client: two connections that it keeps."""

    def __init__(self, server: Server) -> None:
        self._key = server.key
        self._health, self._chat = server.connect(), server.connect()

    def ask(self, seen: Seen) -> None:
        """Ask once each."""
        started = time.perf_counter()
        self._health.request("GET", "/healthz")
        self._health.getresponse().read()
        seen.health.append(time.perf_counter() - started)
        started = time.perf_counter()
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        self._chat.request("POST", "/v1/chat/completions", SMALL, headers)
        answer = self._chat.getresponse()
        if answer.status != 200:
            raise SystemExit(f"a small request was answered with {answer.status}: {answer.read()!r}")
        answer.read()
        seen.chat.append(time.perf_counter() - started)


def measure(server: Server, second: Second, sent: Sent, seconds: float, clients: int) -> tuple[Seen, Seen, list[int]]:
    """Return what small requests took before and meanwhile, and the statuses of the hostile ones."""
    quiet, busy = Seen([], []), Seen([], [])
    for _ in range(30):
        second.ask(quiet)
    statuses: list[int] = []
    end = time.monotonic() + seconds

    def repeat() -> None:
        while True:
            statuses.append(send(server, sent))
            if time.monotonic() > end:
                return

    threads = [threading.Thread(target=repeat) for _ in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        second.ask(busy)
    return quiet, busy, statuses


def added(before: list[float], meanwhile: list[float]) -> tuple[float, float]:
    """Return the 99th percentile and the maximum above the median before, in milliseconds."""
    usual, ordered = median(before), sorted(meanwhile)
    return tuple(max(0.0, value - usual) * 1000 for value in (ordered[int(len(ordered) * 0.99)], ordered[-1]))  # type: ignore[return-value]


def main() -> int:
    """Measure the cases; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--bound", type=float, default=50.0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    above = 0
    with tempfile.TemporaryDirectory(prefix="bessemer-stalls-") as name, running(Path(name)) as server:
        second = Second(server)
        for _ in range(200):
            second.ask(Seen([], []))
        for case, make in CASES.items():
            if options.only not in case:
                continue
            sent = make()
            quiet, busy, statuses = measure(server, second, sent, options.seconds, options.clients)
            health, chat = added(quiet.health, busy.health), added(quiet.chat, busy.chat)
            told = ",".join(map(str, sorted(set(statuses))))
            slow = max(health[1], chat[1]) > options.bound
            above += slow
            sys.stdout.write(
                f"{case} | {len(sent.body)} | {told} | {health[0]:.0f}/{health[1]:.0f} | {chat[0]:.0f}/{chat[1]:.0f} | "
                f"{server.peak_mb():.0f}{' | ABOVE' if slow else ''}\n"
            )
            sys.stdout.flush()
    return 1 if above else 0


if __name__ == "__main__":
    raise SystemExit(main())
