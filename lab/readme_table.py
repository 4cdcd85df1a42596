"""Writes measured results from `lab/results` between the markers of README.md and docs/results.md, and the chart.

python -m lab.readme_table            # writes
python -m lab.readme_table --check    # exit code 1 when one of them differs
"""

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bessemer_planner.pages import LineChart, Series, image
from lab import ladder_table

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
PAGE = HERE.parent / "docs" / "results.md"
CHART = HERE.parent / "docs" / "cascades.svg"
_Row = Mapping[str, Any]
_EXPERT, _BASE, _TUNED = "simulated expert", "small model as it is", "small model, tuned"
"""Rows of the demo."""


def main() -> int:
    """Write or check the table."""
    results = HERE / "results"
    turns = sorted(path for path in results.glob("flywheel_*.json") if clean(path))
    details = table(turns) + promise(turns) + speed(results / "engine.json") + planner(results / "planner.json")
    runs = demo_rows(results / "demo.json")
    ladder = ladder_table.ladder_rows(results / "ladder.json")
    rungs = ladder_table.headline(ladder, *_language_models(turns))
    long = f"{ladder_table.curves(ladder)}\n{ladder_table.cascades(results / 'ladder.json')}"
    fresh = {
        README: between(between(README.read_text(), rungs), demo_line(runs), "demo"),
        PAGE: between(between(between(PAGE.read_text(), details), demo_table(runs), "demo"), long, "ladder"),
        CHART: chart(turns),
    }
    if "--check" in sys.argv:
        return int(any(path.read_text() != text for path, text in fresh.items()))
    for path, text in fresh.items():
        path.write_text(text)
    return 0


def between(page: str, text: str, name: str = "results") -> str:
    """Return the page with this text between the markers of a name."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    head, rest = page.split(start)
    return head + start + text + end + rest.split(end)[1]


def demo_rows(path: Path) -> list[_Row]:
    """Return the demo's rows from clean commits, of the seeds that no setting was chosen on."""
    rows: list[_Row] = json.loads(path.read_text())["rows"] if path.exists() else []
    return [row for row in rows if not row["note"] and not row["commit"].endswith("-dirty")]


def demo_line(rows: Sequence[_Row]) -> str:
    """Return the demo's runs in sentences."""
    if not rows:
        return ""
    by: dict[str, list[_Row]] = {}
    for row in rows:
        by.setdefault(row["name"].split(" (")[0], []).append(row)
    expert, rung, route = (by[name] for name in (_EXPERT, "best rung alone", "new route"))
    share = _mean(route, "cost_per_1k_usd") / _mean(expert, "cost_per_1k_usd") * 100
    table = statistics.fmean(row["ladder_s"] for row in route)
    return (
        f"In {_counted(len(route), 'run')} the ladder stood {table:.0f} seconds after the start, on a machine that was "
        f"busy with other work. Its route reached F1 {_mean(route, 'f1'):.0f}, the simulated expert "
        f"{_mean(expert, 'f1'):.0f}, at {share:.0f} % of its estimated bill, the best rung alone "
        f"{_mean(rung, 'f1'):.0f}{_paid(by)} ([docs/results.md](docs/results.md#the-demo)).\n"
    )


def _paid(by: Mapping[str, Sequence[_Row]]) -> str:
    """Say how far tuning brought the small model, and in how many runs it was given a part of the route."""
    tuned = by.get(_TUNED, ())
    if not tuned:
        return ""
    joined = {row["seed"] for name, rows in by.items() if name.startswith("new route with") for row in rows}
    part = "no part of the route, as it made it no cheaper"
    if joined:
        part = f"a part of the route in {len(joined)}"
    return (
        f"; the small language model went from {_mean(by[_BASE], 'f1'):.0f} to {_mean(tuned, 'f1'):.0f} in "
        f"{_counted(len(tuned), 'run')} and got {part}"
    )


def demo_table(rows: Sequence[_Row]) -> str:
    """Return the table of the demo's runs: mean and span over the seeds."""
    if not rows:
        return "No run of the demo is recorded in `lab/results` yet.\n"
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        "| system | F1, % (lowest to highest run) | USD per 1,000 | not handed over | runs |",
        "|---|---|---|---|---|",
    ]
    order = dict.fromkeys(row["name"] for row in rows)
    found = dict(_by_system(rows))
    for name in order:
        scores = [row["f1"] for row in found[name]]
        span = f"{statistics.fmean(scores):.1f}" + (f" ({min(scores):.1f} to {max(scores):.1f})" if scores[1:] else "")
        known = found[name][0]["cost_per_1k_usd"] is not None
        cost = f"{_mean(found[name], 'cost_per_1k_usd'):.2g}" if known else ""
        shares = [row["small_share"] for row in found[name] if row["small_share"] is not None]
        share = _span(shares, 100) + " %" if shares else ""
        lines.append(f"| {name} | {span} | {cost} | {share} | {len(scores)} |")
    whole = [row for row in rows if not row["ladder_only"]]
    spent = "" if not whole else f"; seed {_seeds(whole)} with the small model: {_took(whole)}"
    where = "; ".join(sorted({f"{row['date']}, {row['machine']}" for row in rows}))
    told = f"{_counted(len(seeds), 'run')} (seed {_seeds(rows)}) of {rows[0]['n']} held-out questions"
    ladder = _span([row["ladder_s"] for row in rows], 1)
    lines += ["", f"{told}; the ladder stood {ladder} s after the start{spent}. Measured {where}, busy.", ""]
    return "\n".join(lines)


def _seeds(rows: Sequence[_Row]) -> str:
    return ", ".join(map(str, sorted({row["seed"] for row in rows})))


def _took(rows: Sequence[_Row]) -> str:
    minutes, used = ([row[field] / 60 for row in rows] for field in ("wall_s", "cpu_s"))
    return f"{_span(minutes, 1, 1)} minutes beside other work, of {_span(used, 1, 1)} minutes of processors"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)


def _span(values: Sequence[float], scale: float, digits: int = 0) -> str:
    """Return the smallest and the largest value, or one where they read alike."""
    low, high = (f"{value * scale:.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _language_models(
    paths: Sequence[Path],
) -> tuple[dict[str, ladder_table.RecordedScore], dict[str, list[_Row]]]:
    """Return the recorded large models and the rows of the tuned small one, by the data set's name of the ladder.

    Where the recorded one was shown titles alone, it stands beside the rungs that were, too.
    """
    recorded: dict[str, ladder_table.RecordedScore] = {}
    tuned: dict[str, list[_Row]] = {}
    for path in paths:
        rows, data = dict(_by_system(json.loads(path.read_text())["rows"])), _data_set(path).replace(" ", "-")
        large = next(((name, found) for name, found in rows.items() if name.startswith("recorded ")), None)
        if large is None:
            continue
        name, found = large[0].removeprefix("recorded "), large[1]
        titles = rows.get("tuned (titles alone)")
        few = f", {found[0]['n']:,} items" if found[0]["n"] < rows["tuned"][0]["n"] else ""
        (low, high), cost = found[0]["ci95"], _mean(found, "cost_per_1k_usd")
        for shown, own, place in ((", titles" if titles else few, rows["tuned"], data), ("", titles, f"{data} titles")):
            if own is not None:
                tuned[place] = own
                recorded[place] = ladder_table.RecordedScore(f"{name}{shown}", _mean(found, "f1"), low, high, cost)
    return recorded, tuned


def _data_set(path: Path) -> str:
    return path.stem.removeprefix("flywheel_").replace("_", " ")


def clean(path: Path) -> bool:
    """Return whether a file's rows were measured from commits that anybody can check out."""
    document = json.loads(path.read_text())
    commits = {row.get("commit") or document["commit"] for row in document["rows"]}
    return not any(commit.endswith("-dirty") for commit in commits)


def chart(paths: Sequence[Path]) -> str:
    """Return an SVG image: F1 over the share of requests that the small model answers, the surest first, all seeds."""
    series = [one for path in paths if (one := _kept_curve(path)) is not None]
    return image(
        LineChart(
            title="F1 over the share of requests that the tuned small model answers",
            x_label="answered by the small model (0 %: the recorded large model alone)",
            y_label="F1",
            series=tuple(series),
            x_percent=True,
            y_percent=True,
        )
    )


def _kept_curve(path: Path) -> Series | None:
    """Return the mean over seeds of a data set's curve with all fields, from the large model alone to the small one."""
    document = json.loads(path.read_text())
    curves = [one["points"] for one in document.get("curves", []) if not one["name"].endswith(")")]
    if not curves:
        return None
    points = tuple(
        (1.0 - at[0][0], statistics.fmean(point[1] for point in at) / 100)
        for at in reversed(list(zip(*curves, strict=True)))
    )
    large = next(row["name"] for row in document["rows"] if row["name"].startswith("recorded "))
    name = _data_set(path)
    return Series(name=f"{name}, from {large.removeprefix('recorded ')} (recorded)", points=points)


def table(paths: Sequence[Path]) -> str:
    """Return the Markdown table of results files; one line for each system, mean over seeds."""
    if not paths:
        return "No results are recorded in `lab/results` yet.\n"
    lines = ["| data set | system | F1 (reward), % | 95 % interval | USD per 1,000 | small share | items | seeds |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    dates: set[str] = set()
    for path in paths:
        document = json.loads(path.read_text())
        dates.add(f"{document['date']}, {document['machine']}")
        name = _data_set(path)
        lines += [_line(name, system, rows) for system, rows in _by_system(document["rows"])]
        lines += [f"| {name} | {row['name']} | {row['f1']:.2f} | | | | | |" for row in document["published"]]
    return "\n".join(lines) + f"\n\nMeasured {'; '.join(sorted(dates))}.\n"


def promise(paths: Sequence[Path]) -> str:
    """Return one sentence a data set: the new systems against the recorded model on the same items, and the base."""
    lines: list[str] = []
    for path in paths:
        rows = dict(_by_system(json.loads(path.read_text())["rows"]))
        large = next((found for name, found in rows.items() if name.startswith("recorded ")), None)
        if large is None:
            continue
        parts = [
            f"{name} {_mean(found, 'f1') - _mean(large, 'f1'):+.1f} points at "
            f"{_mean(found, 'cost_per_1k_usd') / _mean(large, 'cost_per_1k_usd') * 100:.2g} % of its cost"
            for name, found in rows.items()
            if name in ("cascade", "tuned", "tuned, recorded part") and found[0]["n"] == large[0]["n"]
        ]
        name = _data_set(path)
        better = _mean(rows["tuned"], "f1") / _mean(rows["base"], "f1")
        lines.append(f"- {name}: {', '.join(parts)}; tuned {better:.1f} times its base.")
    return "\nAgainst the recorded large model, on the same items:\n\n" + "\n".join(lines) + "\n"


def _mean(rows: Sequence[_Row], field: str) -> float:
    return statistics.fmean(row[field] for row in rows if row[field] is not None)


def speed(path: Path) -> str:
    """Return one sentence on the engine's speed: ratios to transformers, workloads that both did, from one run."""
    if not path.exists():
        return ""
    rows = json.loads(path.read_text())["rows"]
    rates = {(row["system"], row["phase"], row["batch"], row["workload"]): row["tokens_per_s"] for row in rows}
    ratios: dict[str, list[str]] = {}
    for (system, phase, batch, workload), rate in rates.items():
        other = rates.get(("transformers", phase, batch, workload))
        if system == "bessemer" and other:
            ratios.setdefault(phase, []).append(f"{rate / other:.1f} (batch {batch}: {workload})")
    named = {"sample": "Sampling", "train": "training"}
    parts = [f"{named[phase]} {'; '.join(found)}" for phase, found in ratios.items()]
    return f"\nTokens per second of the engine over those of transformers, same weights, one run: {', '.join(parts)}.\n"


def planner(path: Path) -> str:
    """Return what the planner was measured to be: errors on held-out measurements, and speed."""
    if not path.exists():
        return ""
    found = json.loads(path.read_text())
    left_out, served = found["tpot_mape_leave_gpu_out"].values(), found["mlperf_server"]
    kept, pairs = served["pairs_in_order"]
    sentences = (
        f"Planner, on real measurements held out in turn: time per token {found['tpot_mape_heldout_config']:.1f} % off "
        f"on average, {min(left_out):.1f} to {max(left_out):.1f} % where a whole GPU was left out; 80 % intervals hold "
        f"{found['interval_coverage_80']:.1f} %.",
        f"Of {served['rows']} MLPerf Server submissions {served['within_p99_limits']} hold their limits in simulation, "
        f"{kept} of {pairs} pairs of accelerators stand in the submitted order.",
        f"A million requests over 64 replicas are simulated in {found['des_seconds_1m_plain']} s, a plan takes "
        f"{found['plan_seconds']} s.",
    )
    return f"\n{' '.join(sentences)}\n"


def _by_system(rows: Sequence[_Row]) -> Iterable[tuple[str, list[_Row]]]:
    names = dict.fromkeys(row["name"] for row in rows)
    return ((name, [row for row in rows if row["name"] == name]) for name in names)


def _line(data_set: str, system: str, rows: Sequence[_Row]) -> str:
    scores = [row["f1"] for row in rows if row["f1"] is not None]
    score = "unscorable" if not scores else f"{statistics.fmean(scores):.2f}"
    if len(scores) > 1:
        score += f" ± {statistics.stdev(scores):.2f}"
    bounds = [row["ci95"] for row in rows if row["ci95"] is not None]
    span = f"{min(low for low, _ in bounds):.1f} to {max(high for _, high in bounds):.1f}" if bounds else ""
    costs = [row["cost_per_1k_usd"] for row in rows if row["cost_per_1k_usd"] is not None]
    cost = f"{statistics.fmean(costs):.4g}" if costs else ""
    shares = [row["small_share"] for row in rows if row["small_share"] is not None]
    share = f"{statistics.fmean(shares) * 100:.0f} %" if shares else ""
    items = f"{min(row['n'] for row in rows):,}"
    return f"| {data_set} | {system} | {score} | {span} | {cost} | {share} | {items} | {len(rows)} |"


if __name__ == "__main__":
    sys.exit(main())
