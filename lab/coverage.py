"""Counts how often a cascade's guarantee is broken, on recorded answers of real data; a naive rule is the control.

    python -m lab.coverage --root ../shared/data [--data NAME] [--calibrations 1000]

Three plain scikit-learn models, cheap to dear, answer the items of a training file that they were not fitted on. These
items are the population: the risk of every vector of thresholds on them is known. n of them are drawn with replacement,
again and again; half fit the confidence maps and plan the path, half test it; a calibration is broken when the risk on
the population is above alpha. Passed: at most 130 of 1,000 are, at delta 0.1 (the 99.9 % quantile of a binomial
variable; with the ledger's share of the first look fewer are expected). The naive rule takes the cheapest vector whose
risk on the same n items is at most alpha, with maps fitted on them: it must fail.
"""

import argparse
import csv
import gzip
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rapidfuzz import fuzz
from rapidfuzz.distance import JaroWinkler
from scipy.stats import binom
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

from bessemer.core.routes import ConfidenceScore
from bessemer.evals.calibration import apply
from bessemer.evals.confidence import fit_confidence
from bessemer.evals.guarantee import certify
from bessemer.evals.outcomes import NEVER, Outcomes, answered_by, cost_of
from bessemer.evals.risk import Error, Loss, Rule
from bessemer.evals.thresholds import plan
from lab.provenance import commit, processor

Array = npt.NDArray[np.float64]
RESULTS = Path(__file__).resolve().parent / "results" / "coverage.json"
COST = (1.0, 10.0, 1000.0)
ALPHA, DELTA = 0.03, 0.1
FILES = {
    "dblp_scholar": "record_matching/dblp-scholar.train.jsonl.gz",
    "amazon_google": "record_matching/amazon-google.train.jsonl",
    "banking77": "banking77/train.csv",
}


MapsAndVector = tuple[list[Any], Array]


class RecordedRungs(NamedTuple):
    """N items: the top probability and rightness of every rung's answer."""

    score: Array
    """[N, rungs]"""
    right: Array
    """[N, rungs]"""


class CoverageCount(NamedTuple):
    """What many calibrations came to."""

    calibrations: int
    broken: int
    certified: int
    mean_cost: float

    @property
    def allowed(self) -> int:
        """Broken calibrations that chance explains at delta."""
        return int(binom.ppf(0.999, self.calibrations, DELTA))


# -- recorded answers ------------------------------------------------------------------------------------------


def record(name: str, root: Path) -> RecordedRungs:
    """Fit the three models on a part of a training file, and record their answers to the rest."""
    path = root / FILES[name]
    return _banking(path) if name == "banking77" else _pairs(path)


def _answers(models: Sequence[Any], inputs: Sequence[Any], truth: npt.NDArray[Any]) -> RecordedRungs:
    scores, rights = [], []
    for model, rows in zip(models, inputs, strict=True):
        chances = model.predict_proba(rows)
        scores.append(chances.max(axis=1))
        rights.append((model.classes_[chances.argmax(axis=1)] == truth).astype(np.float64))
    return RecordedRungs(np.stack(scores, axis=1), np.stack(rights, axis=1))


def _banking(path: Path) -> RecordedRungs:
    """TF-IDF and logistic regression: words of 1,500 texts; words and letters of 3,000, and of 6,000."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    order = np.random.default_rng(0).permutation(len(rows))
    texts, labels = (np.array([rows[i][part] for i in order]) for part in (0, 1))

    def words() -> Any:
        return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)

    def both() -> Any:
        return make_union(words(), TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True))

    models = []
    for features, size in ((words(), 1_500), (both(), 3_000), (both(), 6_000)):
        model = make_pipeline(features, LogisticRegression(C=10, max_iter=60))
        models.append(model.fit(texts[:size], labels[:size]))
    fresh = texts[6_000:]
    return _answers(models, [fresh] * 3, labels[6_000:])


def _similarities(left: str, right: str) -> list[float]:
    a, b = left.lower(), right.lower()
    numbers = [{word for word in text.split() if any(c.isdigit() for c in word)} for text in (a, b)]
    return [
        fuzz.token_set_ratio(a, b),
        fuzz.ratio(a, b),
        fuzz.token_sort_ratio(a, b),
        fuzz.partial_ratio(a, b),
        JaroWinkler.similarity(a, b),
        len(numbers[0] & numbers[1]),
        len(numbers[0] ^ numbers[1]),
        abs(len(a) - len(b)),
    ]


def _pairs(path: Path) -> RecordedRungs:
    """Similarities: Jaro-Winkler, logistic; with the ratio; all of them on half of all pairs, boosted trees."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
        rows = [json.loads(line) for line in file]
    texts, labels = [], []
    for row in rows:
        if "prompt" in row:
            left, right = row["prompt"].split("Entity 1: ")[1].split(". Entity 2: ")
            labels.append(row["completion"] == "Yes")
        else:
            left, right = (
                " ".join(
                    str(v) for k, v in sorted(row.items()) if k.endswith(side) and not k.startswith(("id", "cluster"))
                )
                for side in ("_left", "_right")
            )
            labels.append(row["label"] == 1)
        texts.append((left, right))
    order = np.random.default_rng(0).permutation(len(rows))
    matched = np.array(labels)[order]
    # Two of three pairs do not match: as many as there are would make "No" right nine times in ten.
    order = np.concatenate([order[matched], order[~matched][: 2 * int(matched.sum())]])
    order = np.random.default_rng(1).permutation(order)
    x = np.array([_similarities(*texts[i]) for i in order])
    y = np.array(labels)[order]
    half = len(x) // 2
    models = [
        make_pipeline(StandardScaler(), LogisticRegression()).fit(x[:400, 4:5], y[:400]),
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(x[:400][:, [1, 4]], y[:400]),
        HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, random_state=0).fit(x[:half], y[:half]),
    ]
    fresh = x[half:]
    return _answers(models, [fresh[:, 4:5], fresh[:, [1, 4]], fresh], y[half:])


# -- calibrations ------------------------------------------------------------------------------------------


def _outcomes(recorded: RecordedRungs, places: npt.NDArray[np.intp], maps: Sequence[Any]) -> Outcomes:
    confidence = np.stack([apply(one, recorded.score[places, rung]) for rung, one in enumerate(maps)], axis=1)
    return Outcomes(confidence, recorded.right[places])


def _maps(recorded: RecordedRungs, places: npt.NDArray[np.intp]) -> list[Any]:
    return [
        fit_confidence(
            recorded.score[places, rung],
            recorded.right[places, rung],
            version=str(rung),
            score=ConfidenceScore.TOP_PROBABILITY,
            dataset_sha256="",
            pair=False,
        )
        for rung in range(recorded.score.shape[1] - 1)
    ]


def guaranteed(
    looks: int,
) -> Callable[[RecordedRungs, npt.NDArray[np.intp], Rule, int], MapsAndVector | None]:
    """Return the whole procedure: maps and plan on one half, tested on the other; the cheapest of so many looks.

    Each look makes its maps and plan on another resample of the first half; all test the same second half.
    """

    def choose(recorded: RecordedRungs, drawn: npt.NDArray[np.intp], rule: Rule, seed: int) -> MapsAndVector | None:
        rng, half, best = np.random.default_rng(seed), len(drawn) // 2, None
        for look in range(1, looks + 1):
            optimise = drawn[:half] if look == 1 else rng.choice(drawn[:half], size=half)
            maps = _maps(recorded, optimise)
            path = plan(rule, _outcomes(recorded, optimise, maps), COST, len(drawn) - half)
            items = _outcomes(recorded, drawn[half:], maps)
            found = certify(path, items, delta=DELTA, look=look, seed=seed)
            if found.chosen is None:
                continue
            vector = np.array([NEVER if t is None else t for t in found.chosen.thresholds])
            cost = float(cost_of(answered_by(items.confidence, vector)[:, None], COST)[0])
            if best is None or cost < best[0]:
                best = cost, maps, vector
        return None if best is None else best[1:]

    return choose


def naive(recorded: RecordedRungs, drawn: npt.NDArray[np.intp], rule: Rule, seed: int) -> MapsAndVector | None:
    """Take the cheapest vector whose risk on the items is at most alpha, with everything fitted on the same items."""
    del seed
    maps = _maps(recorded, drawn)
    path = plan(rule, _outcomes(recorded, drawn, maps), COST, len(drawn))
    good = np.flatnonzero(path.risk <= rule.alpha)
    return (maps, path.thresholds[good[np.argmin(path.cost[good])]]) if len(good) else None


def coverage(recorded: RecordedRungs, rule: Rule, n: int, calibrations: int, choose: Any) -> CoverageCount:
    """Draw and calibrate so often, and count on the population."""
    everything = np.arange(len(recorded.right))
    broken = certified = 0
    costs = []
    for draw in range(calibrations):
        drawn = np.random.default_rng([n, draw]).integers(len(everything), size=n)
        found = choose(recorded, drawn, rule, draw)
        if found is None:
            costs.append(sum(COST))
            continue
        certified += 1
        world = _outcomes(recorded, everything, found[0])
        who = answered_by(world.confidence, found[1])[:, None]
        broken += float(rule.risk(world, who)[0]) > rule.alpha
        costs.append(float(cost_of(who, COST)[0]))
    return CoverageCount(calibrations, broken, certified, float(np.mean(costs)))


def best_possible(recorded: RecordedRungs, rule: Rule) -> float:
    """Return the least cost of a vector that keeps alpha on the population, of a grid of it."""
    everything = np.arange(len(recorded.right))
    path = plan(rule, _outcomes(recorded, everything, _maps(recorded, everything)), COST, len(everything))
    good = path.risk <= rule.alpha
    return float(path.cost[good].min()) if good.any() else sum(COST)


def rules(recorded: RecordedRungs) -> dict[str, Rule]:
    """Return the two rules on recorded answers: loss against the incumbent; error of all, a little above its own."""
    error = 1.0 - float(recorded.right[:, -1].mean())
    return {"loss": Loss(ALPHA), "error": Error(round(error + ALPHA, 3))}


def runs(calibrations: int) -> list[tuple[str, int, int, int]]:
    """Return rule, n, looks and calibrations of each row: fewer where each takes long."""
    few = max(1, calibrations // 5)
    return [
        ("loss", 200, 1, calibrations),
        ("loss", 1_000, 1, calibrations),
        ("error", 200, 1, calibrations),
        ("error", 1_000, 5, few),
        ("loss", 4_000, 1, few),
    ]


def measure(name: str, recorded: RecordedRungs, calibrations: int) -> list[dict[str, Any]]:
    """Return the rows of one data set; the control is counted on a fifth of the calibrations."""
    rows = []
    for kind, n, looks, count in runs(calibrations):
        rule, began = rules(recorded)[kind], time.perf_counter()
        ours = coverage(recorded, rule, n, count, guaranteed(looks))
        control = coverage(recorded, rule, n, max(1, calibrations // 5), naive) if looks == 1 else None
        rows.append(
            {
                "data": name,
                "population": len(recorded.right),
                "quality": recorded.right.mean(axis=0).round(4).tolist(),
                "rule": kind,
                "alpha": rule.alpha,
                "delta": DELTA,
                "n": n,
                "looks": looks,
                "calibrations": count,
                "broken": ours.broken,
                "allowed": ours.allowed,
                "passed": ours.broken <= ours.allowed,
                "certified": ours.certified,
                "cost": round(ours.mean_cost, 1),
                "cost_best_possible": round(best_possible(recorded, rule), 1),
                "cost_incumbent_alone": COST[-1],
                "naive": None
                if control is None
                else {
                    "calibrations": control.calibrations,
                    "broken": control.broken,
                    "allowed": control.allowed,
                    "cost": round(control.mean_cost, 1),
                },
                "seconds": round(time.perf_counter() - began, 1),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> int:
    """Measure the data sets that are there, and merge their rows into the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root", type=Path, default=Path("../shared/data"), help="folder that relative paths start from"
    )
    parser.add_argument("--data", action="append", choices=FILES, help="repeatable; default: all")
    parser.add_argument("--calibrations", type=int, default=1_000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    for name in arguments.data or FILES:
        if not (arguments.root / FILES[name]).is_file():
            print(f"{name}: skipped, {arguments.root / FILES[name]} is not there (python -m lab.sources says whence)")
            continue
        rows = measure(name, record(name, arguments.root), arguments.calibrations)
        known = json.loads(arguments.results.read_text())["rows"] if arguments.results.exists() else []
        kept = [row for row in known if row["data"] != name]
        document = {
            "commit": commit(),
            "processor": processor(),
            "rows": sorted([*kept, *rows], key=lambda r: r["data"]),
        }
        arguments.results.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
