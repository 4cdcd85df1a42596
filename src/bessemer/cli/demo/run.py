"""The demo's run: folders, server, the steps, tables and page."""

import shutil
import sys
from pathlib import Path

import msgspec

from bessemer.cli.demo import page, scenario
from bessemer.cli.demo.climb import Climb
from bessemer.cli.demo.expert import Expert, in_background
from bessemer.cli.demo.progress import ProgressLine
from bessemer.cli.demo.server import Server
from bessemer.client import Client
from bessemer.client.loop import LoopFailed
from bessemer.core.content import sha256_hex
from bessemer.core.errors import ConfigError
from bessemer.flywheel.report import Report, render

_FINISHED = "finished"
_PORT = "expert.port"


def run(root: Path, out: Path, seed: int, scale: scenario.Scale) -> int:
    """Run or continue the demo; the report goes to `out`.

    Returns the exit code: 0 when every step worked and the route has a promise; a run on a handful of items, which can
    have none, says so instead. Raises ConfigError when `out` cannot be made.
    """
    try:  # before the long run, not after it
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The folder {str(out)!r} cannot be made: {error.strerror}; choose another with --out.", param="out"
        ) from None
    with ProgressLine() as progress:
        try:
            report = _run(root, seed, scale, progress)
        except LoopFailed as error:
            progress.say(f"The demo failed: {error.message}")
            return 1
        progress.show(page.systems_table(report))
    written = out / "report.html"
    written.write_text(render(report), encoding="utf-8")
    (out / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    for line in (*(f"{tile.value} {tile.text}" for tile in report.tiles), *report.verdicts, *report.notes):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"Report: {written}\n")
    if scale.holdout < scenario.Scale().holdout:
        sys.stdout.write("Too few items for a gate or a promise: this run shows that it works, not what it is worth.\n")
        return 0
    if report.guarantee is None:
        sys.stdout.write("No rung took over a part of the route; the report says why.\n")
        return 1
    return 0


def _run(root: Path, seed: int, scale: scenario.Scale, progress: ProgressLine) -> Report:
    from bessemer.registry.weights import SMOLLM2, ensure

    progress.step("small model")
    weights = ensure(SMOLLM2, root / "models", lambda text: progress.notice(0, 0, text))
    case = scenario.build(seed, scale)
    folder = run_folder(root / "demo", sha256_hex(msgspec.json.encode([seed, scale]))[:8])
    progress.say(f"this run: {folder}")
    report = _serve(case, weights, folder, progress)
    (folder / _FINISHED).touch()
    return report


def _serve(case: scenario.Case, weights: Path, folder: Path, progress: ProgressLine) -> Report:
    """Start the simulated expert and a server that knows it, and take the steps."""
    from bessemer.engine.tokens import Tokens

    tokens = Tokens.load(weights)
    port = folder / _PORT  # where an interrupted run finds its incumbent again
    known = int(port.read_text()) if port.exists() else 0
    with in_background(Expert(case.expert, lambda text: len(tokens.encode(text)), known)) as upstream:
        port.write_text(str(upstream.port))
        progress.say(f"incumbent: {scenario.INCUMBENT} at {upstream.base_url}, which is no model (see the notes)")
        config = folder / "bessemer.toml"
        config.write_text(scenario.configuration(weights, upstream.base_url, case.scale), encoding="utf-8")
        progress.step("server")
        with Server(folder / "server", config) as server:
            progress.say(f"server: {server.url} (log: {folder / 'server' / 'server.log'})")
            client = Client(server.url, server.key)
            climbed = Climb(case, client, folder, progress, lambda ladder: page.show_ladder(ladder, progress)).run()
            return page.build(case, climbed)


def run_folder(parent: Path, key: str) -> Path:
    """Return the folder of the newest unfinished run of these options, or of a new run."""
    number = 1
    while (parent / f"{key}-{number}" / _FINISHED).exists():
        number += 1
    if number > 2:  # a demo needs no archive: the last finished run is kept, older ones go
        shutil.rmtree(parent / f"{key}-{number - 2}" / "server", ignore_errors=True)
    folder = parent / f"{key}-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
