"""The demo's run: folders, server, turn, measurements, table and page."""

import os
import shutil
import sys
from pathlib import Path

import msgspec

from bessemer.cli.demo import expert, measure, offers, scenario, summary
from bessemer.cli.demo.baseline import WordBaseline
from bessemer.cli.demo.expert import Expert, in_background
from bessemer.cli.demo.progress import ProgressLine
from bessemer.cli.demo.server import Server
from bessemer.cli.demo.turn import Turn, TurnResult
from bessemer.client import Client
from bessemer.client.loop import LoopFailed
from bessemer.core.content import sha256_hex
from bessemer.core.datasets import Split
from bessemer.core.errors import ConfigError
from bessemer.core.evaluations import EvaluationRow
from bessemer.flywheel.report import Report, SystemRow, percent, render, usd

_FINISHED = "finished"
_PORT = "expert.port"
_BEFORE, _AFTER = "simulated expert (incumbent)", "new route (cascade, partly simulated)"
_NAMES = {scenario.MODEL: "base small model"}
_NOTES = (
    f"The incumbent is a simulated expert: a program on this machine that knows the answers and gives the wrong one to "
    f"{expert.ORDINARY_ERRORS:.0%} of the pairs, {expert.TWIN_ERRORS:.0%} of those that differ in one aspect, as a "
    "hash of the pair decides. No vendor's model is involved. Verdicts are simulated, too: the generator's own labels "
    "stand in for people.",
    f"Two meters: rows of the small model are charged its measured seconds on this machine at {scenario.METER}'s "
    f"hourly list price; the simulated expert is charged its tokens, counted with the small model's tokenizer, at "
    f"{scenario.LIST_PRICE}'s dated list price. The ratio is an estimate of two bills, not a comparison of speed.",
)
_WORDS = "words counted (TF-IDF)"


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
    with ProgressLine() as progress:
        try:
            report = _run(root, seed, scale, progress)
        except LoopFailed as error:
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


def _run(root: Path, seed: int, scale: scenario.Scale, progress: ProgressLine) -> Report:
    from bessemer.registry.weights import SMOLLM2, ensure

    progress.step("small model")
    weights = ensure(SMOLLM2, root / "models", lambda text: progress.notice(0, 0, text))
    case = scenario.build(seed, scale)
    folder = run_folder(root / "demo", sha256_hex(msgspec.json.encode([seed, scale]))[:8])
    progress.say(f"small model: {weights}")
    progress.say(f"this run: {folder}")
    report = _serve(case, weights, scale, folder, progress)
    (folder / _FINISHED).touch()
    return report


def _serve(case: scenario.Case, weights: Path, scale: scenario.Scale, folder: Path, progress: ProgressLine) -> Report:
    """Start the simulated expert and a server that knows it, and take the turn."""
    from bessemer.engine.tokens import Tokens

    tokens = Tokens.load(weights)
    port = folder / _PORT  # where an interrupted run finds its incumbent again
    known = int(port.read_text()) if port.exists() else 0
    with in_background(Expert(case.expert, lambda text: len(tokens.encode(text)), known)) as upstream:
        port.write_text(str(upstream.port))
        progress.say(f"incumbent: {scenario.INCUMBENT} at {upstream.base_url}, which is no model (see the notes)")
        config = folder / "bessemer.toml"
        config.write_text(scenario.configuration(weights, upstream.base_url, scale), encoding="utf-8")
        progress.step("server")
        with Server(folder / "server", config) as server:
            progress.say(f"server: {server.url} (log: {folder / 'server' / 'server.log'})")
            return _turn(case, server, folder, progress)


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


def _turn(case: scenario.Case, server: Server, folder: Path, progress: ProgressLine) -> Report:
    client = Client(server.url, server.key)
    outcome = Turn(case.plan, case.feedback, client, folder, progress).run()
    held_out = [question.id for question in case.plan.finals[0].questions]
    small = measure.small_answers(client, outcome, case.plan.route, held_out)
    return _report(case, outcome, small)


def _report(case: scenario.Case, outcome: TurnResult, small: dict[str, measure.Small]) -> Report:
    score = measure.label_scorer(case.truth, scenario.LABELS, offers.YES)
    seed = case.plan.seed
    held_out = [question.id for question in case.plan.finals[0].questions]
    served = {answer.question: answer for answer in outcome.traffic}
    before = measure.system_row(_BEFORE, [served[name] for name in held_out], score, seed=seed)
    trivial = measure.trivial_row(held_out, scenario.LABELS, score, seed=seed)
    words = measure.said_row(_WORDS, held_out, _words(case), score, seed=seed)
    version = outcome.versions["reinforcement"]
    after = measure.system_row(_AFTER, outcome.finals["new route"], score, seed=seed, small=version)
    # How long a program takes that looks its answer up says nothing of a model.
    before, after = (msgspec.structs.replace(row, latency_p50_s=None) for row in (before, after))
    large = {name: served[name].text for name in held_out}
    quality = measure.quality_curve(small, large, score, seed=seed)
    systems = [_evaluated(row, outcome) for row in outcome.evaluation.rows]
    texts = summary.SummaryTexts(
        title="One turn of the flywheel: record matching",
        summary=(
            f"{after.n:,} held-out questions about made-up offers, seed {seed}, {os.cpu_count()} cores. "
            f"{len(outcome.traffic):,} requests were served by a simulated expert and judged right or wrong."
        ),
        metric="F1",
        before=_BEFORE,
        after=_AFTER,
        gate_note=(
            f"{version} became challenger, then champion of the small model; `bessemer rollback` undoes both. Whether "
            "the route may ask it is for the certificate below to say, against the incumbent."
            if outcome.evaluation.gate and outcome.evaluation.gate.passed
            else "The version was not promoted; the route stays with the incumbent."
        ),
        notes=_NOTES,
    )
    return summary.build_report(case.plan, outcome, texts, [trivial, words, before, *systems, after], quality)


def _words(case: scenario.Case) -> list[str]:
    """Return what the baseline of counted words says of the held-out questions."""
    baseline = WordBaseline(*case.rows(Split.TRAIN))
    baseline.choose_threshold(*case.rows(Split.SELECTION))
    return [scenario.LABELS[0 if match else 1] for match in baseline.matches(case.rows(Split.HOLDOUT)[0])]


def _evaluated(row: EvaluationRow, outcome: TurnResult) -> SystemRow:
    """Return a row of the evaluation for the page."""
    tuned = row.name == outcome.versions["reinforcement"]
    return SystemRow(
        name="tuned small model" if tuned else _NAMES.get(row.name, row.name),
        n=row.n,
        score=row.score,
        cost_per_1k_usd=None if row.cost_usd is None or not row.n else row.cost_usd / row.n * 1000,
        version=row.name if tuned else None,
        input_tokens=_each(row.input_tokens, row.n),
        output_tokens=_each(row.output_tokens, row.n),
        latency_p50_s=row.latency_p50_s,
        unscorable=row.unscorable,
    )


def _each(total: int | None, n: int) -> float | None:
    return None if total is None else total / max(n, 1)


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
    for note in report.notes:
        console.print(note, highlight=False)
