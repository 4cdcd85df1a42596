"""The rung that extracts spans, on a set of attributes, beside plain scikit-learn: rows of results/ladder.json.

python -m lab.ladder_spans --root ../shared/data [--seeds 0,1,2]           development: a quarter of the training rows
python -m lab.ladder_spans --root ../shared/data --final                   the single final scoring
python -m lab.ladder_spans --name NAME --train FILE --test FILE --final    any other set of the form
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from bessemer.core.errors import BessemerError
from bessemer.engine.rungs.artefact import encode
from bessemer.engine.rungs.rung import RungItem
from bessemer.engine.rungs.spans import Spans
from bessemer.evals import calibration
from bessemer.evals.metrics import NONE_VALUE, Terms, attribute_counts
from bessemer.evals.statistics import terms_interval
from bessemer.ladder.lessons import Lesson
from bessemer.ladder.spans import fit_spans
from lab.ladder import HOURLY, RESULTS, SIZES, Document
from lab.provenance import commit
from lab.sealed import Seal, open_file
from lab.tasks import Labelled, load


class SaidValue(NamedTuple):
    """What is said of a field."""

    text: str
    confidence: float | None = None


Said = Callable[[Labelled], dict[str, SaidValue]]
OURS, PLAIN = "spans", "baseline words + logistic regression"


def main() -> int:
    """Measure both at every number of labels; return 1 when the set cannot be read."""
    arguments = _arguments()
    try:
        rows = list(load(arguments.name, open_file(arguments.train, Seal.DEVELOPMENT), arguments.train).train)
        test = [] if not arguments.final else _test(arguments)
    except BessemerError as error:
        print(error.message, file=sys.stderr)
        return 1
    if arguments.outcomes:
        for seed in arguments.seeds:
            drawn = [rows[place] for place in np.random.default_rng(seed).permutation(len(rows)).tolist()]
            _keep(arguments, seed, drawn, test)
        return 0
    document = Document(arguments.out, Seal.FINAL if arguments.final else Seal.DEVELOPMENT)
    for seed in arguments.seeds:
        order = np.random.default_rng(seed).permutation(len(rows)).tolist()
        drawn = [rows[place] for place in order]
        train, held_out = (drawn, test) if arguments.final else (drawn[len(rows) // 4 :], drawn[: len(rows) // 4])
        for size in [*(n for n in SIZES if n < len(train)), len(train)]:
            taught = train[:size]
            for rung, learn in ((PLAIN, _plain), (OURS, _ours)):
                key = (arguments.name, rung, seed, "all" if size == len(train) else size, "labels")
                if not document.has(key):
                    row = dict(zip(("data", "rung", "seed", "asked_labels", "feedback"), key, strict=True))
                    document.add(row | _measured(learn, taught, held_out, seed))
                    print(row, flush=True)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--name", default="oa-mine")
    parser.add_argument("--train", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--final", action="store_true")
    parser.add_argument("--outcomes", action="store_true", help="keep what is said of each test item, for cascades")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where outcomes are kept")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    arguments.train = arguments.train or arguments.root / "product_attributes/oa-mine.train.jsonl"
    arguments.test = arguments.test or arguments.root / "product_attributes/oa-mine.test.jsonl"
    return arguments


def _test(arguments: argparse.Namespace) -> list[Labelled]:
    return list(load(arguments.name, arguments.train, open_file(arguments.test, Seal.FINAL)).test)


def _keep(arguments: argparse.Namespace, seed: int, taught: Sequence[Labelled], test: Sequence[Labelled]) -> None:
    """Keep the terms and the confidence of each test item's answer, by its id."""
    rung = Spans(fit_spans([Lesson(_item(row), row.answer) for row in taught], seed=seed).artefact)
    began = time.perf_counter()
    said = rung.answered([_item(row) for row in test])
    seconds = (time.perf_counter() - began) / max(1, len(test))
    kept = {
        row.item.id: {
            "terms": list(attribute_counts(json.loads(one.text), row.target or {}).terms),
            "confidence": one.confidence,
        }
        for row, one in zip(test, said, strict=True)
    }
    file = arguments.data / "outcomes" / f"{arguments.name} {OURS} {seed}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"seconds": seconds, "items": kept}))


def _measured(
    learn: Callable[[Sequence[Labelled], int], tuple[Said, dict[str, Any]]],
    taught: Sequence[Labelled],
    test: Sequence[Labelled],
    seed: int,
) -> dict[str, Any]:
    began = time.perf_counter()
    said, told = learn(taught, seed)
    fitted = time.perf_counter() - began
    began = time.perf_counter()
    answers = [said(row) for row in test]
    seconds = (time.perf_counter() - began) / len(test)
    texts = [{name: value.text for name, value in answer.items()} for answer in answers]
    counts = [attribute_counts(text, row.target or {}) for text, row in zip(texts, test, strict=True)]
    terms = [Terms(2.0 * one.vc, 2.0 * one.vc + one.nv + 2.0 * one.vw + one.vn) for one in counts]
    interval = terms_interval(terms, resamples=2000)
    return {
        "n_labels": len(taught),
        "n_test": len(test),
        "commit": commit(),
        "f1_or_accuracy": round(100 * interval.value, 2),
        "ci95": [round(100 * interval.low, 2), round(100 * interval.high, 2)],
        "fit_s": round(fitted, 2),
        "ms_per_request": round(1e3 * seconds, 4),
        "usd_per_1k": round(seconds * HOURLY / 3600 * 1000, 8),
        "calibrated_ece": _ece(answers, test),
        **told,
    }


def _ece(answers: Sequence[dict[str, SaidValue]], test: Sequence[Labelled]) -> float | None:
    """Return the calibration error of the values of annotated fields; None where no confidence is told."""
    pairs = [
        (value.confidence, float(value.text in (row.target or {})[name]))
        for answer, row in zip(answers, test, strict=True)
        for name, value in answer.items()
        if name in (row.target or {}) and value.confidence is not None
    ]
    return round(calibration.ece([p for p, _ in pairs], [right for _, right in pairs]), 4) if pairs else None


def _item(row: Labelled) -> RungItem:
    return RungItem(input={name: row.item.input[name] for name in ("title", "category")})


def _ours(taught: Sequence[Labelled], seed: int) -> tuple[Said, dict[str, Any]]:
    made = fit_spans([Lesson(_item(row), row.answer) for row in taught], seed=seed)
    rung = Spans(made.artefact)

    def said(row: Labelled) -> dict[str, SaidValue]:
        found = rung.extract([_item(row)])[0].values
        return {name: SaidValue(value.text, value.confidence) for name, value in found.items()}

    return said, {
        "sha256": made.artefact.sha256[:16],
        "artefact_bytes": sum(map(len, encode(made.artefact))),
    }


def _plain(taught: Sequence[Labelled], seed: int) -> tuple[Said, dict[str, Any]]:
    """Words at spaces, each with its neighbours and its category; runs of one label are a value."""
    features, labels = [], []
    for row in taught:
        words = row.item.input["title"].split()
        named = [""] * len(words)
        for name, value in json.loads(row.answer).items():
            parts = value.split()
            for begin in range(len(words) - len(parts) + 1) if value != NONE_VALUE and parts else ():
                if [word.strip(",") for word in words[begin : begin + len(parts)]] == parts:
                    named[begin : begin + len(parts)] = [name] * len(parts)
                    break
        features += _words(words, row.item.input["category"])
        labels += named
    model = make_pipeline(DictVectorizer(), LogisticRegression(C=1.0, max_iter=60, random_state=seed))
    model.fit(features, labels)

    def said(row: Labelled) -> dict[str, SaidValue]:
        words = row.item.input["title"].split()
        found: dict[str, list[str]] = {}
        before = ""
        for word, name in zip(words, model.predict(_words(words, row.item.input["category"])), strict=True):
            if name and (name == before or name not in found):
                found.setdefault(name, []).append(word)
            before = name
        return {name: SaidValue(" ".join(parts).strip(",")) for name, parts in found.items()}

    return said, {}


def _words(words: Sequence[str], category: str) -> list[dict[str, str]]:
    padded = ["", *(word.strip(",").lower() for word in words), ""]
    return [
        {"word": padded[i], "before": padded[i - 1], "after": padded[i + 1], "category": f"{category} {padded[i]}"}
        for i in range(1, len(padded) - 1)
    ]


if __name__ == "__main__":
    sys.exit(main())
