"""The demo's run: folders, server, turn, measurements, table and page."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import msgspec

from bessemer.cli.demo import measure, scenario, summary
from bessemer.cli.demo.application import Application, Server, TurnFailed
from bessemer.cli.demo.progress import Progress
from bessemer.cli.demo.turn import Outcome, Turn
from bessemer.core.content import sha256_hex
from bessemer.core.errors import ConfigError
from bessemer.core.types import Interval, Split
from bessemer.flywheel.report import Report, SystemRow, percent, render, usd

_FINISHED = "finished"
_BEFORE, _AFTER = "incumbent (ten-shot)", "new route (cascade)"
_NAMES = {scenario.MODEL: "base small model"}


def run(root: Path, out: Path, seed: int, scale: scenario.Scale) -> int:
    """Run or continue the demo; the report goes to `out`. Returns the exit code: 0 only when every step worked.

    Raises ConfigError when `out` cannot be made.
    """
    try:  # before the long run, not after it
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The folder {str(out)!r} cannot be made: {error.strerror}; choose another with --out.", param="out"
        ) from None
    with Progress() as progress:
        try:
            report = _run(root, seed, scale, progress)
        except TurnFailed as error:
            progress.say(f"The demo failed: {error.message}")
            return 1
    page = out / "report.html"
    page.write_text(render(report), encoding="utf-8")
    (out / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    _print_table(report)
    sys.stdout.write(f"Report: {page}\n")
    if report.gate is None or not report.gate.passed or report.guarantee is None:
        sys.stdout.write("The new version did not take over the route; the report says why.\n")
        return 1
    return 0


def _run(root: Path, seed: int, scale: scenario.Scale, progress: Progress) -> Report:
    from bessemer.registry.weights import SMOLLM2, ensure

    progress.step("small model")
    weights = ensure(SMOLLM2, root / "models", lambda text: progress.notice(0, 0, text))
    case = scenario.build(seed, scale)
    folder = run_folder(root / "demo", sha256_hex(msgspec.json.encode([seed, scale]))[:8])
    progress.say(f"small model: {weights}")
    progress.say(f"this run: {folder}")
    config = folder / "bessemer.toml"
    config.write_text(scenario.configuration(weights, seed, scale), encoding="utf-8")
    progress.step("server")
    with Server(folder / "server", config) as server:
        progress.say(f"server: {server.url} (log: {folder / 'server' / 'server.log'})")
        report = asyncio.run(_turn(case, server, folder, progress))
    (folder / _FINISHED).touch()
    return report


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


async def _turn(case: scenario.Case, server: Server, folder: Path, progress: Progress) -> Report:
    application = Application(server.url, server.key)
    try:
        outcome = await Turn(case.plan, case.feedback, application, folder, progress).run()
        held_out = [question.id for question in case.plan.finals[0].questions]
        small = await measure.small_answers(application, outcome, case.plan.route, held_out)
    finally:
        await application.close()
    return _report(case, outcome, small)


def _report(case: scenario.Case, outcome: Outcome, small: dict[str, measure.Small]) -> Report:
    score = measure.label_scorer(case.truth, scenario.LABELS, scenario.METRIC["positive"])
    systems = [_evaluated(row, outcome) for row in outcome.evaluation["rows"] if row["name"] != scenario.INCUMBENT]
    before = measure.system_row(_BEFORE, outcome.finals["incumbent"], score, seed=case.plan.seed)
    held_out = [question.id for question in case.plan.finals[0].questions]
    trivial = measure.trivial_row(held_out, scenario.LABELS, score, seed=case.plan.seed)
    version = outcome.versions["reinforcement"]
    after = measure.system_row(_AFTER, outcome.finals["new route"], score, seed=case.plan.seed, small=version)
    large = {answer.question: answer.text for answer in outcome.traffic if answer.question.startswith(Split.HOLDOUT)}
    quality = measure.quality_curve(small, large, score, seed=case.plan.seed)
    texts = summary.Texts(
        title="One turn of the flywheel: record matching",
        summary=(
            f"{after.n:,} held-out questions about made-up offers, seed {case.plan.seed}, {os.cpu_count()} cores. "
            f"{len(outcome.traffic):,} requests were served by the incumbent, judged right or wrong, and learned from."
        ),
        metric="F1",
        before=_BEFORE,
        after=_AFTER,
        gate_note=(
            f"{version} became challenger, then champion. `bessemer rollback` undoes both."
            if outcome.evaluation["gate"]["passed"]
            else "The version was not promoted; the route stays with the incumbent."
        ),
        notes=(
            "Verdicts are simulated: the generator's own labels stand in for people.",
            "The incumbent is the base small model with a long ten-shot prompt; no other vendor's model is involved. "
            "Both sides are charged by one meter: measured seconds of this machine at the hourly price of a comparable "
            "two-core instance.",
        ),
    )
    return summary.build_report(case.plan, outcome, texts, [trivial, before, *systems, after], quality)


def _evaluated(row: dict[str, object], outcome: Outcome) -> SystemRow:
    """Return a row of the evaluation for the page."""
    name, n = str(row["name"]), msgspec.convert(row["n"], int)
    cost = msgspec.convert(row["cost_usd"], float | None)
    tuned = name == outcome.versions["reinforcement"]
    return SystemRow(
        name="tuned small model" if tuned else _NAMES.get(name, name),
        n=n,
        score=msgspec.convert(row["score"], Interval | None),
        cost_per_1k_usd=None if cost is None or not n else cost / n * 1000,
        version=name if tuned else None,
        input_tokens=_each(row["input_tokens"], n),
        output_tokens=_each(row["output_tokens"], n),
        latency_p50_s=msgspec.convert(row["latency_p50_s"], float | None),
        unscorable=msgspec.convert(row["unscorable"], int),
    )


def _each(total: object, n: int) -> float | None:
    known = msgspec.convert(total, int | None)
    return None if known is None else known / max(n, 1)


def _print_table(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=report.title, title_justify="left")
    for column in ("system", report.metric, "95 % interval", "USD per 1,000", "small share"):
        table.add_column(column, justify="left" if column == "system" else "right")
    for row in report.systems:
        score = row.score
        bounds = f"{percent(score.low)} to {percent(score.high)}" if score else "–"
        value = percent(score.value) if score else "unscorable"
        table.add_row(row.name, value, bounds, usd(row.cost_per_1k_usd), percent(row.small_share, 0))
    console = Console()
    console.print(table)
    for tile in report.tiles:
        console.print(f"{tile.value} {tile.text}", highlight=False)
