"""Measures the gateway: throughput and latency, with logging, authentication, journal and database on.

    python -m lab.gateway                          # this checkout
    python -m lab.gateway --beside ../older        # and another one, in turns, in one run: the ratio is the result

The upstream is a fake one on loopback that answers at once, so what is measured is Bessemer itself; the way `rung` asks
no upstream but the linear rung of a ladder in the server's own process. All processes share this machine's cores. The
median of the rounds goes to `lab/results/gateway.json`.
"""

import argparse
import asyncio
import contextlib
import datetime
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

from bessemer.core.models import Lineage
from bessemer.core.routes import Route, Step, Target
from bessemer.core.settings import Settings
from bessemer.engine.rungs import artefact
from bessemer.engine.rungs.rung import RungItem
from bessemer.gateway.providers import settings_of
from bessemer.ladder.fit import fit
from bessemer.ladder.lessons import Lesson
from bessemer.registry.catalog import Catalog
from bessemer.registry.config import load_config
from bessemer.registry.versions import make_version
from bessemer.runtime.extensions import load_extensions
from bessemer.store.blob_folder import BlobFolder
from bessemer.store.database import Database
from lab.fake_openai import FakeOpenAI, Script
from lab.provenance import commit, processor

HERE = Path(__file__).resolve().parent
CONFIG = """
[models.upstream]
provider = "openai"
base_url = "{base_url}"
price = "list"
[prices.list]
source = "a benchmark"
date = "2026-01-01"
input_per_million = 1.0
output_per_million = 2.0
[routes.assistant]
targets = ["upstream"]
"""
TEXT = "Acme Turbo 300 " * 16
WAYS: dict[str, dict[str, Any]] = {"whole": {}, "streamed": {"stream": True}}
RUNG: dict[str, dict[str, Any]] = {"rung": {"model": "rung"}}
"""Of this checkout alone: an older one may have no rungs."""
ARTICLES = {"phone": "Acme Turbo", "printer": "Beta Jet", "screen": "Gamma View"}
PIECES = ("Yes", ".", " They", " are", " one", " article", ".", "")


def main() -> int:
    """Measure, print, and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, help="another checkout to measure in turns with this one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round and way")
    parser.add_argument("--connections", type=int, default=16)
    arguments = parser.parse_args()
    checkouts = {"this": HERE.parent} | ({"other": arguments.beside.resolve()} if arguments.beside else {})
    rows = asyncio.run(measure(checkouts, arguments))
    for row in rows:
        print(
            f"{row['checkout']:6} {row['way']:9} {row['requests_per_s']:8.0f}/s  median {row['p50_ms']:.1f} ms",
            flush=True,
        )
    document: dict[str, Any] = {
        "machine": processor(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "connections": arguments.connections,
        "rounds": arguments.rounds,
        "rows": rows,
    }
    if arguments.beside:
        document["beside"] = _commit_of(arguments.beside)
        document["ratio"] = {way: round(_rate(rows, "this", way) / _rate(rows, "other", way), 3) for way in WAYS}
        print(f"this / other: {document['ratio']}")
    document["rung_to_whole"] = round(_rate(rows, "this", "rung") / _rate(rows, "this", "whole"), 3)
    print(f"a rung / an upstream: {document['rung_to_whole']}")
    (HERE / "results" / "gateway.json").write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _rate(rows: list[dict[str, Any]], checkout: str, way: str) -> float:
    return float(next(row["requests_per_s"] for row in rows if (row["checkout"], row["way"]) == (checkout, way)))


def _commit_of(folder: Path) -> str:
    command = ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


async def measure(checkouts: dict[str, Path], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the median rate and latency of each checkout and way over the rounds, which are interleaved."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    async with FakeOpenAI(Script(pieces=PIECES) for _ in itertools.count()) as fake:
        with contextlib.ExitStack() as servers:
            running = {
                name: servers.enter_context(serve(folder, fake.base_url, rung=name == "this"))
                for name, folder in checkouts.items()
            }
            for turn in range(arguments.rounds + 1):
                for way, extra in (WAYS | RUNG).items():
                    for name, (url, key) in running.items():
                        if way in RUNG and name != "this":
                            continue
                        outcome = await ask(url, key, extra, arguments.seconds, arguments.connections)
                        fake.bodies.clear()
                        fake.headers.clear()
                        if turn:  # the first warms up
                            found.setdefault((name, way), []).append(outcome)
    return [
        {
            "checkout": name,
            "way": way,
            "requests_per_s": round(statistics.median(rate for rate, _ in outcomes), 1),
            "p50_ms": round(statistics.median(middle for _, middle in outcomes), 2),
            "of_rounds": [round(rate, 1) for rate, _ in outcomes],
        }
        for (name, way), outcomes in found.items()
    ]


@contextlib.contextmanager
def serve(checkout: Path, base_url: str, *, rung: bool) -> Iterator[tuple[str, str]]:
    """Run a checkout's server on a folder of its own, with the route `rung` if wanted; give its URL and key."""
    with tempfile.TemporaryDirectory() as folder:
        data, config = Path(folder) / "data", Path(folder) / "bessemer.toml"
        config.write_text(CONFIG.format(base_url=base_url))
        if rung:
            add_rung(Settings(data=data, config=config))
        command = [sys.executable, "-m", "bessemer", "up", "--data", str(data), "--config", str(config), "--port", "0"]
        with (Path(folder) / "log").open("w") as log:
            process = subprocess.Popen(
                [*command, "--no-worker"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"PYTHONPATH": str(checkout / "src")},
            )
        assert process.stdout is not None
        try:
            address = re.search(r"http://\S+", process.stdout.readline())
            assert address is not None, (Path(folder) / "log").read_text()
            yield address[0], (data / "admin.key").read_text().strip()
        finally:
            process.terminate()
            process.wait(30)


def add_rung(settings: Settings) -> None:
    """Put a route with the linear rung of three articles into force."""
    lessons = [
        Lesson(RungItem(f"Is {name} {number} one article? {TEXT}"), answer)
        for answer, name in ARTICLES.items()
        for number in range(40)
    ]
    database = Database.open(settings)
    try:
        config = load_config(settings.config_path, settings.data, settings_of(load_extensions().providers))
        catalog, blobs = Catalog(config, database), BlobFolder(settings.data / "blobs")
        fitted = fit("linear", lessons).artefact
        manifest, arrays = artefact.encode(fitted)
        blobs.put(arrays)
        version = make_version(
            "rung-linear",
            choices=fitted.manifest.labels,
            choice_bias=fitted.manifest.bias,
            lineage=Lineage(base="rung:linear", method="ladder"),
            rung_sha256=blobs.put(manifest),
        )
        catalog.register(version)
        catalog.put_route(Route(name="rung", steps=(Step(targets=(Target(model=version.id),)),)))
    finally:
        database.close()


async def ask(url: str, key: str, extra: dict[str, Any], seconds: float, connections: int) -> tuple[float, float]:
    """Ask for some seconds over some connections; return requests per second and the median latency in ms."""
    taken: list[float] = []
    ends = time.perf_counter() + seconds
    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=connections)) as session:

        async def one() -> None:
            number = 0
            while time.perf_counter() < ends:
                number += 1
                messages = [{"role": "user", "content": f"{TEXT} {id(extra)} {number}"}]
                started = time.perf_counter()
                body = {"model": "assistant", "messages": messages, **extra}
                async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
                    content = await reply.read()
                    assert reply.status == 200, content
                taken.append(time.perf_counter() - started)

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(connections)))
        return len(taken) / (time.perf_counter() - began), statistics.median(taken) * 1000


if __name__ == "__main__":
    sys.exit(main())
