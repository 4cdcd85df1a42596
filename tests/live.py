"""A real server process of the command line, in front of a scripted upstream on loopback."""

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from openai import OpenAI

from lab.fake_openai import FakeOpenAI, Script

CONFIG = """
[models.upstream]
provider = "openai"
base_url = "{base_url}"
price = "list"

[prices.list]
source = "a test"
date = "2026-01-01"
input_per_million = 1.0
output_per_million = 2.0

[models.small]
provider = "local"
path = "{{data}}/models/none.gguf"
price = "list"

[prompts.compare]
user = "Same? {{{{input.a}}}} | {{{{input.b}}}}"

[routes.assistant]
targets = ["upstream"]
"""
MATCHING = """
[models.large]
provider = "openai"
base_url = "{base_url}"
price = "none"
prompt = "same"

[prices.none]
source = "a test"
date = "2026-01-01"
per_hour = 0.0

[prompts.same]
user = "{{{{input.item}}}}"
choices = ["Yes", "No"]

[routes.matching]
targets = ["large"]
"""
"""One model that says Yes or No to an item, and the route to it."""
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "BESSEMER_FETCH_WEIGHTS": "false",
}


class Scripts:
    """The upstream's answers, which tests append; when there is none, it says ok."""

    def __init__(self) -> None:
        self.waiting: deque[Script] = deque()

    def __iter__(self) -> "Scripts":
        return self

    def __next__(self) -> Script:
        return self.waiting.popleft() if self.waiting else Script()


class Upstream:
    """FakeOpenAI on a thread with a loop of its own."""

    def __init__(self) -> None:
        self.scripts = Scripts()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.fake = asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(10)

    async def _start(self) -> FakeOpenAI:
        return await FakeOpenAI(self.scripts).__aenter__()

    def disconnected(self, timeout_s: float) -> bool:
        """Wait until the upstream saw its client (Bessemer) go."""

        async def wait() -> bool:
            async with asyncio.timeout(timeout_s):
                await self.fake.disconnected.wait()
            self.fake.disconnected.clear()
            return True

        return asyncio.run_coroutine_threadsafe(wait(), self.loop).result(timeout_s + 1)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.fake.__aexit__(None, None, None), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


class Server(msgspec.Struct):
    """A running `bessemer up`."""

    url: str
    key: str
    data: Path
    log: Path
    upstream: Upstream
    process: subprocess.Popen[str]
    clients: list[OpenAI] = msgspec.field(default_factory=list)

    def openai(self, key: str | None = None) -> OpenAI:
        client = OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, max_retries=0, timeout=20)
        self.clients.append(client)
        return client

    def hang_up(self) -> None:
        """Close the clients that were made."""
        while self.clients:
            self.clients.pop().close()


def start_server(
    folder: Path,
    upstream: Upstream,
    *flags: str,
    env: Mapping[str, str] = OFFLINE,
    toml: str = CONFIG,
    under: Sequence[str] = (),
) -> Server:
    """Start `bessemer up` on a free port, by way of the command `under`, and wait for its first lines."""
    data, log = folder / "data", folder / "server.log"
    config = folder / "bessemer.toml"
    config.write_text(toml.format(base_url=upstream.fake.base_url, folder=folder))
    command = [sys.executable, "-W", "error", "-m", "bessemer", "up", "--data", str(data), "--config", str(config)]
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*under, *command, "--port", "0", *flags],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **env},
        )
    assert process.stdout is not None
    first = process.stdout.readline()
    found = re.search(r"https?://\S+", first)
    assert found is not None, f"{first}{log.read_text()}"
    return Server(found[0], (data / "admin.key").read_text().strip(), data, log, upstream, process)


def stop_server(server: Server) -> None:
    """Stop it as a terminal would, and insist on a clean end."""
    server.hang_up()
    server.process.terminate()
    assert server.process.wait(20) == 0
    assert server.process.stdout is not None
    server.process.stdout.close()


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """The scripted upstream."""
    started = Upstream()
    yield started
    assert started.fake.refused == []
    started.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    """One server for all tests that leave it usable."""
    running = start_server(tmp_path_factory.mktemp("server"), upstream, "--no-worker")
    yield running
    stop_server(running)
