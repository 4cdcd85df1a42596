"""Tables of `lab/results/ladder.json`: quality and cost of each rung beside recorded large models, curves, cascades."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Row = Mapping[str, Any]
_KINDS = {
    "rules": "rules",
    "linear": "n-grams",
    "pairs": "pairs of records",
    "embedding": "static embedding",
    "encoder": "sentence encoder",
    "states": "language model's states",
    "committee": "committee",
    "spans": "spans",
}
"""Rungs in the order of the table's columns, by what they are."""
_TITLES = {"linear": "n-grams, linear", "pairs": "similarities, trees", "embedding": "embedding, linear"}
_POINTS = (50, 200, 1000)


class RecordedScore(NamedTuple):
    """A large model's recorded answers."""

    name: str
    f1: float
    low: float
    high: float
    usd_per_1k: float


def ladder_rows(path: Path) -> list[Row]:
    """Return the rows that anybody can measure again: of commits that can be checked out."""
    rows: list[Row] = json.loads(path.read_text())["rows"] if path.exists() else []
    clean = [row for row in rows if not row["commit"].endswith("-dirty")]
    return [row for row in clean if row["f1_or_accuracy"] is not None]


def headline(rows: Sequence[Row], recorded: Mapping[str, RecordedScore], tuned: Mapping[str, Sequence[Row]]) -> str:
    """Return a line a data set: what each rung reaches with all labels and costs, the tuned and the large model beside.

    `recorded`, `tuned` (rows of the small language model): by the data set's name.
    """
    full = [row for row in rows if row["feedback"] == "labels" and row["n_labels"] == _most(rows, row["data"])]
    kinds = [kind for kind in _KINDS if any(row["rung"] == kind for row in full)]
    heads = ["data set, items", "plain scikit-learn", *(_TITLES.get(kind, kind) for kind in kinds)]
    lines = [f"| {' | '.join([*heads, 'tuned 135 M model', 'large model, recorded'])} |"]
    lines.append("|" + "---|" * (len(heads) + 2))
    for data in dict.fromkeys(row["data"] for row in full):
        mine = [row for row in full if row["data"] == data]
        plain = [row for row in mine if row["rung"].startswith("baseline") and "majority" not in row["rung"]]
        cells = [f"{data}, {mine[0]['n_test']:,}", _cell(_best(plain))]
        cells += [_cell([row for row in mine if row["rung"] == kind]) for kind in kinds]
        cells += [_tuned(tuned.get(data, ())), _large(recorded.get(data))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def curves(rows: Sequence[Row]) -> str:
    """Return the long table: every rung and baseline by labels; time, cost and calibration where all are used."""
    heads = ["data set", "rung", *(f"{count:,}" for count in _POINTS), "all", "all: right or wrong alone"]
    heads += ["95 % interval (all)", "fit, s", "p50 / p99, ms", "USD per 1,000", "ECE", "seeds"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for data in dict.fromkeys(row["data"] for row in rows):
        mine, most = [row for row in rows if row["data"] == data], _most(rows, data)
        for rung in dict.fromkeys(row["rung"] for row in mine):
            own = [row for row in mine if row["rung"] == rung]
            labels = [row for row in own if row["feedback"] == "labels"]
            last = [row for row in labels if row["n_labels"] == most]
            points = [_score([row for row in labels if _near(row, count, most)]) for count in _POINTS]
            verdicts = [row for row in own if row["feedback"] == "right_wrong"]
            seeds = str(len({row["seed"] for row in last})) if last else ""
            cells = [data, rung, *points, _score(last), _verdicts(verdicts), _span(last), *_costs(last), seeds]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cascades(path: Path) -> str:
    """Return the cascades: what each promised, and what the test said."""
    found: list[Row] = json.loads(path.read_text())["cascades"] if path.exists() else []
    heads = ["data set", "metric", "seed", "rungs (share of the test)", "quality", "95 % interval", "incumbent"]
    heads += ["USD per 1,000", "incumbent's", "bound, points", "broken"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in found:
        shares = zip(row["rungs"], row["share_per_rung"], strict=True)
        parts = ", ".join(f"{name} {share:.0%}" for name, share in shares if share)
        low, high = row["ci95"]
        cells = [
            row["data"],
            row["metric"],
            str(row["seed"]),
            parts,
            f"{row['quality']:.1f}",
            f"{low:.1f} to {high:.1f}",
        ]
        cells += [f"{row['incumbent_quality']:.1f}", f"{row['usd_per_1k']:.2g}", f"{row['incumbent_usd_per_1k']:.2g}"]
        cells += [f"{row['alpha'] * 100:g}", "yes" if row["violated"] else "no"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _most(rows: Sequence[Row], data: str) -> int:
    return int(max(row["n_labels"] for row in rows if row["data"] == data))


def _near(row: Row, count: int, most: int) -> bool:
    """Return whether a row is a point of the curve: sets of groups are cut to about as many labels as asked."""
    return bool(row["asked_labels"] == count and row["n_labels"] != most)


def _best(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the rung with the highest mean."""
    groups = [[row for row in rows if row["rung"] == rung] for rung in dict.fromkeys(row["rung"] for row in rows)]
    return max(groups, key=_mean, default=[])


def _mean(rows: Iterable[Row], field: str = "f1_or_accuracy") -> float:
    return statistics.fmean(row[field] for row in rows)


def _cell(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    return f"{_mean(rows):.1f} ({_span(rows)}) · {_mean(rows, 'usd_per_1k'):.2g}"


def _score(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    spread = f" ± {statistics.stdev(row['f1_or_accuracy'] for row in rows):.1f}" if len(rows) > 1 else ""
    return f"{_mean(rows):.1f}{spread}"


def _verdicts(rows: Sequence[Row]) -> str:
    """Return the score with the most verdicts, and how many they are."""
    if not rows:
        return ""
    most = max(row["n_labels"] for row in rows)
    return f"{_score([row for row in rows if row['n_labels'] == most])} of {most:,}"


def _span(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    return f"{min(row['ci95'][0] for row in rows):.1f} to {max(row['ci95'][1] for row in rows):.1f}"


def _costs(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return [""] * 4
    latency = f"{_mean(rows, 'p50_ms'):.2g} / {_mean(rows, 'p99_ms'):.2g}" if "p50_ms" in rows[0] else ""
    known = [row for row in rows if row["calibrated_ece"] is not None]
    ece = f"{_mean(known, 'calibrated_ece'):.3f}" if known else ""
    return [f"{_mean(rows, 'fit_s'):.1f}", latency, f"{_mean(rows, 'usd_per_1k'):.2g}", ece]


def _tuned(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    return f"{_mean(rows, 'f1'):.1f} ({_span(rows)}) · {_mean(rows, 'cost_per_1k_usd'):.2g}"


def _large(one: RecordedScore | None) -> str:
    return "" if one is None else f"{one.name}: {one.f1:.1f} ({one.low:.1f} to {one.high:.1f}) · {one.usd_per_1k:.3g}"
