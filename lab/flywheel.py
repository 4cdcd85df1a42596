"""Drives the product through its public interfaces on labelled data, and writes one results file for each data set.

    python -m lab.flywheel --root ../shared/data                      # the ready presets, three seeds
    python -m lab.flywheel --preset oa_mine --seeds 0 --limit 60      # a smoke run
    python -m lab.flywheel --name mine --train a.jsonl --test b.jsonl [--recorded c.jsonl --recorded-price ID]

A seed that is done is not run again, one that was interrupted continues (its `wall_s` is null); `--fresh` starts over.
Within a run, labels of a test file are seen by the final score alone.
"""

import argparse
import datetime
import hashlib
import json
import re
import shutil
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bessemer.cli.demo import measure
from bessemer.cli.demo.progress import ProgressLine
from bessemer.cli.demo.server import Server
from bessemer.client import Client
from bessemer.client.loop import ApplicationAnswer, failed
from bessemer.core.errors import BessemerError, InvalidRequest
from bessemer.core.routes import ConfidenceScore
from bessemer.flywheel.report import SystemRow, render
from bessemer.gateway.providers import SETTINGS
from bessemer.registry.config import load_config
from bessemer.registry.weights import GEMMA3_270M, SMOLLM2, ensure
from bessemer_planner.pages import Series
from lab import product_lines, small_answers, summary
from lab.cases import TaskCase, TaskOptions, build, configuration
from lab.provenance import commit, processor
from lab.tasks import Kind, Labelled, LabelledTask, TaskItem, load
from lab.turn import Turn, TurnResult

HERE = Path(__file__).resolve().parent
SMALLEST = "smollm2-135m"
WEIGHTS = {SMALLEST: SMOLLM2, "gemma3-270m": GEMMA3_270M}
SMALL_PRICE = "aws-c7a-large"


def main() -> int:
    """Run the chosen tasks for every seed; the exit code is 1 when one of them failed, 2 for a wrong command line."""
    arguments = _arguments()
    failed = 0
    try:
        chosen = _chosen(arguments)
    except BessemerError as error:
        print(error.message, file=sys.stderr)
        return 2
    for name, options in chosen.items():
        try:
            task = load_task(name, options, Path(arguments.root))
        except BessemerError as error:
            print(f"{name}: {error.message}", file=sys.stderr)
            failed += 1
            continue
        print(_counted(task), flush=True)
        for seed in arguments.seeds:
            try:
                run_seed(task, options, seed, arguments)
            except BessemerError as error:
                print(f"{name}, seed {seed}: {error.message}", file=sys.stderr)
                failed += 1
    return 1 if failed else 0


def _counted(task: LabelledTask) -> str:
    items = f"{task.name}: {len(task.train):,} training items, {len(task.test):,} test items"
    if task.recorded is None:
        return items
    covered = sum(row.item.id in task.recorded.answers for row in task.test)
    return f"{items}, {covered:,} of them with a recorded answer"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="../shared/data", help="folder that relative paths start from")
    parser.add_argument("--preset", action="append", help="a section of presets.toml or of --tasks; repeatable")
    parser.add_argument("--tasks", type=Path, default=HERE / "presets.toml", help="TOML file of tasks")
    parser.add_argument("--name", help="name of a task given by flags")
    choices = {"fields": ("all", "titles"), "score": tuple(ConfidenceScore), "model": tuple(WEIGHTS)}
    for field in msgspec.structs.fields(TaskOptions):
        if field.name != "published":
            flag, known = "--" + field.name.replace("_", "-"), choices.get(field.name)
            parser.add_argument(flag, help=f"default: {field.default}", choices=known)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--limit", type=_positive, help="bound on traffic and on test items, for a smoke run")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of models and runs")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--fresh", action="store_true", help="forget earlier runs of these seeds")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def _chosen(arguments: argparse.Namespace) -> dict[str, TaskOptions]:
    """Return the tasks to run: the one given by flags, or sections of the TOML file, flags winning.

    Raises InvalidRequest that names the option or the section.
    """
    flags = {
        field.name: getattr(arguments, field.name)
        for field in msgspec.structs.fields(TaskOptions)
        if getattr(arguments, field.name, None) is not None
    }
    if arguments.name:
        return {arguments.name: _options(arguments.name, flags)}
    try:
        sections: dict[str, Any] = tomllib.loads(arguments.tasks.read_text())
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"--tasks {str(arguments.tasks)!r} cannot be read: {error}.", param="tasks") from error
    names = arguments.preset or list(sections)
    unknown = [name for name in names if not isinstance(sections.get(name), dict)]
    if unknown:
        raise InvalidRequest(f"Unknown preset {unknown[0]!r}; known: {', '.join(sections)}.", param="preset")
    return {name: _options(name, {**sections[name], **flags}) for name in names}


def _options(name: str, values: Mapping[str, Any]) -> TaskOptions:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise InvalidRequest(f"--name {name!r} names files: letters, digits, '_', '-' and '.' alone.", param="name")
    try:
        options = msgspec.convert(values, TaskOptions, strict=False)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$.")
        known = ", ".join(field.name for field in msgspec.structs.fields(TaskOptions))
        remedy = f"{place.rstrip('`')}: {reason}." if place else f"{reason}. Known options: {known}."
        raise InvalidRequest(f"{name}: {remedy}", param=place.rstrip("`") or None) from None
    if options.model not in WEIGHTS:
        raise InvalidRequest(f"Unknown model {options.model!r}; known: {', '.join(sorted(WEIGHTS))}.", param="model")
    return options


def load_task(name: str, options: TaskOptions, root: Path) -> LabelledTask:
    """Load a task's files, or make the generated one."""
    if options.generator is not None:
        return _generated(name)
    if options.train is None or options.test is None:
        raise InvalidRequest("give --train and --test.", param="train")
    recorded = root / options.recorded if options.recorded else None
    return load(name, root / options.train, root / options.test, recorded, fields=options.fields)


def _generated(name: str) -> LabelledTask:
    """Make the writing task whose rules no demonstration covers."""
    rows = [
        Labelled(item=TaskItem(id=str(index), input=brief.input), answer=brief.demonstration or "")
        for index, brief in enumerate(product_lines.generate(2000, 0))
    ]
    return LabelledTask(
        name=name,
        kind=Kind.WRITING,
        train=tuple(rows[:1600]),
        test=tuple(row for row in rows[1600:] if not row.answer),
        prompt=product_lines.PROMPT,
        recorded=None,
    )


def run_seed(task: LabelledTask, options: TaskOptions, seed: int, arguments: argparse.Namespace) -> None:
    """Run one seed of a task, unless its rows are there, and merge its rows into the results file."""
    suffix = "" if options.fields == "all" else f"-{options.fields}"
    suffix += f"-limit{arguments.limit}" if arguments.limit else ""
    suffix += "" if options.model == SMALLEST else f"-{options.model}"
    folder = arguments.data / "bench" / f"{task.name}{suffix}" / f"seed-{seed}"
    if arguments.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / "result.json"
    check_same(folder, options, Path(arguments.root))
    if result.exists():
        print(f"{task.name}, seed {seed}: done before ({result})", flush=True)
    else:
        case = build(task, options, seed, arguments.limit)
        result.write_text(json.dumps(_measure(task, case, folder, arguments), indent=1))
    if arguments.limit:
        return
    path = arguments.results / f"flywheel_{task.name}.json"
    merge_results(path, task, options, json.loads(result.read_text()), folder)
    print(f"{task.name}, seed {seed}: rows in {path}", flush=True)


def check_same(folder: Path, options: TaskOptions, root: Path) -> None:
    """Refuse to continue a run of other files or options, whose rows would be taken for this one's."""
    values = msgspec.to_builtins(options)
    for given in ("train", "test", "recorded"):
        if values[given] is not None:
            values[given] = hashlib.sha256((root / values[given]).read_bytes()).hexdigest()
    path = folder / "options.json"
    if not path.exists():
        if (folder / "result.json").exists():
            return  # made before options were kept
        path.write_text(json.dumps(values, indent=1))
    before = json.loads(path.read_text())
    other = [name for name in values if name != "published" and before.get(name) != values[name]]
    if other:
        flags = ", ".join("--" + name.replace("_", "-") for name in other)
        raise InvalidRequest(
            f"{str(folder)!r} holds a run with another {flags}; add --fresh to forget it, or choose another --name.",
            param=other[0],
        )


def _measure(task: LabelledTask, case: TaskCase, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a seed; returns its rows, and quality over the share of requests that the recorded model answers."""
    started = time.monotonic()
    continued = any(folder.glob("*.answers.jsonl"))
    with ProgressLine(live=False) as progress:
        weights = ensure(WEIGHTS[case.options.model], arguments.data / "models", progress.say)
        config = folder / "bessemer.toml"
        config.write_text(configuration(task, case.learned, case.options, weights, SMALL_PRICE), encoding="utf-8")
        load_config(config, folder, SETTINGS)  # a wrong price is told here, not from a server's log
        with Server(folder / "server", config) as server:
            outcome, small = _turn(case, server, folder, progress)
    finals = final_answers(outcome, small, case.covered)
    score = case.scorer([answer for answers in finals.values() for answer in answers])
    systems = system_rows(case, finals, score, outcome.versions["tuned"])
    curve = _curve(case, finals, small, score)
    _write_page(task, case, outcome, systems, curve)
    shutil.rmtree(folder / "server" / "jobs", ignore_errors=True)
    for row in systems:
        value = "unscorable" if row.score is None else f"{row.score.value * 100:.2f}"
        print(f"  {row.name}: {value}, ${row.cost_per_1k_usd} per 1,000, small share {row.small_share}", flush=True)
    wall = time.monotonic() - started
    print(f"  wall {wall:.0f} s{' since it was continued' if continued else ''}", flush=True)
    suffix = "" if case.options.fields == "all" else f" ({case.options.fields} alone)"
    measured = {"date": _today(), "commit": commit()}
    return {
        "machine": processor(),
        "rows": [_result_row(row, case, suffix, None if continued else wall) | measured for row in systems],
        "curve": None if curve is None else _result_curve(curve, case, suffix),
    }


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _turn(
    case: TaskCase, server: Server, folder: Path, progress: ProgressLine
) -> tuple[TurnResult, dict[str, small_answers.Small]]:
    client = Client(server.url, server.key)
    outcome = Turn(case.plan, case.feedback, client, folder, progress).run()
    return outcome, small_answers.small_answers(client, outcome, case.plan.route, sorted(case.covered))


def final_answers(
    outcome: TurnResult, small: Mapping[str, small_answers.Small], covered: Iterable[str]
) -> dict[str, list[ApplicationAnswer]]:
    """Return each system's answers; the tuned model's are completed by its first calls in the cascade.

    A question whose first call is in no record counts as one that failed.
    """
    finals = dict(outcome.finals)
    if outcome.cascade is None or not outcome.cascade.applied:
        return finals
    unrecorded = "no call of the small model is recorded"
    calls = [
        small[question].answer if question in small else failed(question, unrecorded) for question in sorted(covered)
    ]
    finals["tuned"] = [*calls, *finals.get("tuned", [])]
    return finals


def system_rows(
    case: TaskCase, finals: Mapping[str, list[ApplicationAnswer]], score: measure.Scorer, tuned: str
) -> list[SystemRow]:
    """Score every final system; where recorded answers cover a part of the test, the small ones on that part, too."""
    rows: list[SystemRow] = []
    partly = case.covered and len(case.covered) < len(finals["tuned"])
    for name, answers in finals.items():
        label = case.options.recorded_name if name == "incumbent" else name
        small = tuned if name == "cascade" else None
        rows.append(measure.system_row(label, answers, score, seed=case.plan.seed, small=small))
        if partly and name in ("base", "supervised", "tuned"):
            part = [answer for answer in answers if answer.question in case.covered]
            if part:  # the base model is asked the first questions alone
                rows.append(measure.system_row(f"{name}, recorded part", part, score, seed=case.plan.seed))
    return rows


def _result_row(row: SystemRow, case: TaskCase, suffix: str, wall: float | None) -> dict[str, Any]:
    score = row.score
    # A cascade is served in part by recorded answers; its share of small answers says how much.
    recorded = row.label == "recorded" and row.small_share is None
    return {
        "name": f"recorded {row.name}" if recorded else row.name + suffix,
        "model": None if recorded else case.options.model,
        "seed": case.plan.seed,
        "f1": None if score is None else round(score.value * 100, 2),
        "ci95": None if score is None else [round(score.low * 100, 2), round(score.high * 100, 2)],
        "cost_per_1k_usd": row.cost_per_1k_usd,
        "small_share": row.small_share,
        "wall_s": None if wall is None else round(wall, 1),
        "n": row.n,
        "unscorable": row.unscorable,
    }


def _result_curve(curve: Series, case: TaskCase, suffix: str) -> dict[str, Any]:
    points = zip(curve.points, curve.low, curve.high, strict=True)
    return {
        "name": "escalated share, F1, low, high" + suffix,
        "seed": case.plan.seed,
        "points": [[x, *(round(value * 100, 2) for value in (y, low, high))] for (x, y), low, high in points],
    }


def _write_page(
    task: LabelledTask, case: TaskCase, outcome: TurnResult, systems: Sequence[SystemRow], quality: Series | None
) -> None:
    before = case.options.recorded_name if case.covered else "base"
    texts = summary.SummaryTexts(
        title=f"Flywheel benchmark: {task.name}",
        summary=f"Seed {case.plan.seed}; {len(outcome.traffic):,} training requests, {len(task.test):,} test items.",
        metric="mean reward" if task.kind is Kind.WRITING else "F1",
        before=before,
        after="cascade" if quality else "tuned",
        notes=("Feedback comes from the training file's labels; the test file's labels are used by this page alone.",),
    )
    page = Path("out") / "bench" / f"{task.name}-{case.options.fields}-{case.plan.seed}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(summary.build_report(case.plan, outcome, texts, systems, quality)), encoding="utf-8")
    print(f"  report: {page}", flush=True)


def _curve(
    case: TaskCase,
    finals: Mapping[str, list[ApplicationAnswer]],
    small: Mapping[str, small_answers.Small],
    score: measure.Scorer,
) -> Series | None:
    large = {answer.question: answer.text for answer in finals.get("incumbent", [])}
    return small_answers.quality_curve(small, large, score, seed=case.plan.seed)


def merge_results(
    path: Path, task: LabelledTask, options: TaskOptions, result: Mapping[str, Any], folder: Path
) -> None:
    """Put a seed's rows and curve into the results file, in place of earlier ones of the same name and seed.

    A run with titles alone leaves the recorded model's row to the run with all fields: it is the same answers.
    The file's own date and commit are those of the rows merged last: when they were measured, not when they were
    merged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    old = json.loads(path.read_text()) if path.exists() else {}
    prices = load_config(folder / "bessemer.toml", folder, SETTINGS).prices
    used = {price for price in (SMALL_PRICE, options.recorded_price) if price}
    row = result["rows"][0]
    known = {(one["name"], one["seed"]) for one in old.get("rows", [])}
    fresh = [
        one
        for one in result["rows"]
        if options.fields == "all" or not one["name"].startswith("recorded ") or (one["name"], one["seed"]) not in known
    ]
    document = {
        "machine": result.get("machine") or old.get("machine") or processor(),
        "date": row.get("date") or old.get("date") or _today(),
        "commit": row.get("commit") or old.get("commit") or commit(),
        "metric": "mean reward, in percent" if task.kind is Kind.WRITING else "F1, in percent",
        "prices": [msgspec.to_builtins(prices[name]) for name in sorted(used)],
        "published": list(options.published),
        "rows": _merged(old.get("rows", []), fresh),
        "curves": _merged(old.get("curves", []), [result["curve"]] if result["curve"] else []),
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def _merged(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    fresh = {(row["name"], row["seed"]) for row in new}
    kept = [row for row in old if (row["name"], row["seed"]) not in fresh]
    return sorted([*kept, *new], key=lambda row: (row["name"], row["seed"]))


if __name__ == "__main__":
    sys.exit(main())
