"""Runs the demo once per seed and writes what its reports say to `lab/results/demo.json`.

python -m lab.demo --seeds 0 1 2 3 4 [--data data] [--note chosen-on] [--ladder-only]

Rows of a seed that was run before are replaced. Settings of the demo were chosen on other seeds than those that are
quoted; rows of these carry the note `chosen on`.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lab.provenance import commit, processor

HERE = Path(__file__).resolve().parent
_LADDER = re.compile(r"\[ *([\d.]+) s\] ladder: done")
RESULTS = HERE / "results" / "demo.json"


def main() -> int:
    """Run and merge; the exit code is the worst one of the demo's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--note", default="")
    parser.add_argument("--ladder-only", action="store_true", help="stop before the small language model")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    worst = 0
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "bessemer", "demo", "--seed", str(seed), "--out", folder]
            more = ["--ladder-only"] if arguments.ladder_only else []
            status, taken = watched([*command, "--data", str(arguments.data), *more])
            taken["ladder_only"] = arguments.ladder_only
            worst = max(worst, status)
            page = Path(folder) / "report.json"
            if page.exists():
                merge(arguments.results, rows(json.loads(page.read_text()), seed, taken, arguments.note))
    return worst


def watched(command: list[str]) -> tuple[int, dict[str, float | None]]:
    """Run the demo, print what it prints, and return its exit code with the seconds it took.

    `wall_s` whole, `ladder_s` until the ladder's table stood there, `cpu_s` of processors, its server's included.
    """
    started, used = time.monotonic(), _cpu_s()
    ladder_s = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            if found := _LADDER.match(line):
                ladder_s = float(found[1])
    taken = {"wall_s": time.monotonic() - started, "cpu_s": _cpu_s() - used}
    return running.returncode, {name: round(value, 1) for name, value in taken.items()} | {"ladder_s": ladder_s}


def _cpu_s() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def rows(report: dict[str, Any], seed: int, taken: dict[str, float | None], note: str) -> list[dict[str, Any]]:
    """Return the report's systems as rows of a results file."""
    common = {"seed": seed, **taken, "machine": processor(), "date": time.strftime("%Y-%m-%d")}
    common |= {"commit": commit(), "note": note, "verdicts": report["verdicts"]}
    return [common | system(row) for row in report["systems"]]


def system(row: dict[str, Any]) -> dict[str, Any]:
    """Return what the table shows of a system."""
    score = row["score"]
    return {
        "name": row["name"],
        "label": row["label"],
        "n": row["n"],
        "f1": score and round(score["value"] * 100, 2),
        "ci95": score and [round(score["low"] * 100, 2), round(score["high"] * 100, 2)],
        "cost_per_1k_usd": row["cost_per_1k_usd"],
        "small_share": row["small_share"],
    }


def merge(path: Path, fresh: list[dict[str, Any]]) -> None:
    """Put the rows of a seed in the place of its earlier ones."""
    kept = json.loads(path.read_text())["rows"] if path.exists() else []
    kept = [row for row in kept if row["seed"] != fresh[0]["seed"]]
    both = sorted([*kept, *fresh], key=lambda row: int(row["seed"]))
    path.write_text(json.dumps({"rows": both}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
