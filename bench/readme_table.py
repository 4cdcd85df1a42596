"""Writes the table of measured results into README.md, between its two markers, from `bench/results`.

python bench/readme_table.py            # writes
python bench/readme_table.py --check    # exit code 1 when README.md differs
"""

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
START, END = "<!-- results -->\n", "<!-- /results -->"
Row = Mapping[str, Any]


def main() -> int:
    """Write or check the table."""
    text = README.read_text()
    head, rest = text.split(START)
    _, tail = rest.split(END)
    results = HERE / "results"
    measured = table(sorted(results.glob("flywheel_*.json"))) + speed(results / "engine.json")
    fresh = head + START + measured + planner(results / "planner.json") + END + tail
    if "--check" in sys.argv:
        return int(fresh != text)
    README.write_text(fresh)
    return 0


def table(paths: Sequence[Path]) -> str:
    """Return the Markdown table of results files; one line for each system, mean over seeds."""
    if not paths:
        return "No results are recorded in `bench/results` yet.\n"
    lines = ["| data set | system | F1 (reward), % | 95 % interval | USD per 1,000 | small share | items | seeds |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    dates: set[str] = set()
    for path in paths:
        document = json.loads(path.read_text())
        dates.add(f"{document['date']}, {document['machine']}")
        name = path.stem.removeprefix("flywheel_").replace("_", " ")
        lines += [_line(name, system, rows) for system, rows in _by_system(document["rows"])]
        lines += [f"| {name} | {row['name']} | {row['f1']:.2f} | | | | | |" for row in document["published"]]
    return "\n".join(lines) + f"\n\nMeasured {'; '.join(sorted(dates))}.\n"


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


def _by_system(rows: Sequence[Row]) -> Iterable[tuple[str, list[Row]]]:
    names = dict.fromkeys(row["name"] for row in rows)
    return ((name, [row for row in rows if row["name"] == name]) for name in names)


def _line(data_set: str, system: str, rows: Sequence[Row]) -> str:
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
