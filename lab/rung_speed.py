"""Times rungs on public sets: fitting, refitting with a hundred new rows, one request alone, a million rows.

python -m lab.rung_speed --root ../shared/data [--rows 1000000]

Fitting and refitting are whole calls of `fit` on one thread; a refit goes on from a rung of the same rows but the last
hundred. Requests are training rows in turn, one by one for the quantiles, then as a stream of `--rows` in batches, in
one process, with its peak memory before and after. Writes results/rung_speed.json.
"""

import argparse
import datetime
import itertools
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.engine.rungs import linear, pairs, rules
from bessemer.engine.rungs.kinds import open_rung
from bessemer.engine.rungs.rung import Rung
from bessemer.ladder.fit import fit
from bessemer.ladder.lessons import Lesson
from lab.ladder import known_sets
from lab.provenance import commit, processor
from lab.sealed import Seal

RESULTS = Path(__file__).parent / "results" / "rung_speed.json"
MEASURED = (
    ("banking77", linear.KIND),
    ("banking77", rules.KIND),
    ("dblp-scholar", pairs.KIND),
    ("dblp-scholar", linear.KIND),
)
NEW = 100
"""Rows that come between a fit and its refit."""
_ALONE = 5000
_BATCH = 512


def main() -> int:
    """Measure and write; each row is printed as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"), help="folder of the known sets")
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    sets = known_sets(arguments.root, Seal.DEVELOPMENT)
    rows = []
    for name, kind in MEASURED:
        rows.append({"data": name, "rung": kind} | measured(kind, sets[name](0).train, arguments.rows))
        print(json.dumps(rows[-1]), flush=True)
    document = {"machine": processor(), "date": str(datetime.datetime.now(datetime.UTC).date()), "commit": commit()}
    RESULTS.write_text(json.dumps(document | {"rows": rows}, indent=1) + "\n")
    return 0


def measured(kind: str, lessons: Sequence[Lesson], stream: int) -> dict[str, Any]:
    """Return the seconds of fit and refit, the quantiles of one request, and the rate of a stream."""
    labels = sorted({one.answer for one in lessons})
    earlier, fit_s = timed(lambda: fit(kind, lessons[:-NEW], labels=labels))
    start = open_rung(earlier.artefact)
    made, refit_s = timed(lambda: fit(kind, lessons, labels=labels, start=start))
    rung = open_rung(made.artefact)
    return {
        "n": len(lessons),
        "labels": len(labels),
        "fit_s": round(fit_s, 2),
        "refit_s": round(refit_s, 2),
        **alone(rung, lessons),
        **streamed(rung, lessons, stream),
    }


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what work returns, and its seconds."""
    began = time.perf_counter()
    found = work()
    return found, time.perf_counter() - began


def alone(rung: Rung, lessons: Sequence[Lesson]) -> dict[str, float]:
    """Return the quantiles of one request after the other, in milliseconds."""
    seconds = [timed(lambda item=one.item: rung.predict([item]))[1] for one in lessons[:_ALONE]]  # type: ignore[misc]
    return {f"p{q}_ms": round(1e3 * float(np.quantile(seconds, q / 100)), 4) for q in (50, 99)}


def streamed(rung: Rung, lessons: Sequence[Lesson], rows: int) -> dict[str, float]:
    """Return the rate of a stream of rows and what the process's peak memory grew by."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    items = itertools.islice(itertools.cycle(one.item for one in lessons), rows)
    began, seen = time.perf_counter(), 0
    for said in rung.predict_all(items, _BATCH):
        seen += len(said.probabilities)
    seconds = time.perf_counter() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"rows": seen, "rows_per_s": round(seen / seconds), "grown_mb": round(grown / 1024, 1)}


if __name__ == "__main__":
    sys.exit(main())
