"""What the planner must show: prediction errors, the replayed record, and how fast simulator and planner are.

    python -m lab.planner                                           # everything, some minutes: lab/results/planner.json
    python -m lab.planner --only simulator --out /tmp/planner.json  # one part: prediction, replay, simulator, plan
    python -m lab.planner --vidur path/to/vidur-checkout --vidur-python path/to/its/python

Errors and coverage are in percent, times in seconds, None is what was not measured. Measurements are read from the
folder `--data` (default ../shared/data beside the repository); without it the parts that need them are None. Times are
those of a process of its own on one core; compare them only between runs on an idle machine.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from lab.planner import beside_vidur, prediction, replay, simulator  # noqa: E402 threads are set first
from lab.provenance import commit, processor  # noqa: E402

_Section = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run the parts and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "lab" / "results" / "planner.json")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--only", choices=("prediction", "replay", "simulator", "plan"), action="append")
    parser.add_argument("--vidur", type=Path, default=None, help="a checkout of microsoft/vidur")
    parser.add_argument("--vidur-python", type=Path, default=None, help="python of an environment with its packages")
    arguments = parser.parse_args()
    parts: dict[str, Callable[[], _Section]] = {
        "prediction": lambda: prediction.measure(arguments.data / "planner"),
        "replay": lambda: replays(arguments.data / "planner" / "rtxpro6000"),
        "simulator": lambda: simulator.measure() | beside_vidur.measure(arguments.vidur, arguments.vidur_python),
        "plan": plan_seconds,
    }
    document: _Section = {
        "machine": processor(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
    }
    for name, part in parts.items():
        if arguments.only and name not in arguments.only:
            continue
        begun = time.perf_counter()
        document |= part()
        print(f"{name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))


def replays(record: Path) -> _Section:
    """The record of one card, and the means of two."""
    return {"rtxpro6000": replay.measure(record), "rtxpro6000_two_cards": replay.two_cards(record)}


def plan_seconds() -> _Section:
    """Time the whole command on the reference workload, interpreter and imports included."""
    workload = ROOT / "plans" / "production.toml"
    if not workload.exists():
        return {"plan_seconds": None}
    begun, used = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, "-m", "bessemer", "plan", str(workload), "--json"], capture_output=True, check=False
    )
    seconds, after = time.perf_counter() - begun, os.times()
    if done.returncode:
        return {"plan_seconds": None}
    own = after.children_user - used.children_user + after.children_system - used.children_system
    return {"plan_seconds": round(seconds, 1), "plan_cpu_seconds": round(own, 1)}


if __name__ == "__main__":
    main()
