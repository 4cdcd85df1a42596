"""Joins what `ladder.py` kept of each test item with a large model's recorded answers: the cascades of ladder.json.

python -m lab.ladder_cascades --root ../shared/data [--seeds 0,1,2]
python -m lab.ladder_spans --root ../shared/data --final --outcomes    before, for the preset of JSON objects
python -m lab.ladder_cascades --name NAME --train FILE --test FILE --recorded FILE --recorded-price PRICE

The recorded items are split at random, by seed: thresholds are planned on three tenths, certified on four, and the
cascade is scored on the last three, which say whether its promise held there (`violated`; about delta of them may not).
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bessemer import registry
from bessemer.core.errors import BessemerError
from bessemer.evals.guarantee import certify
from bessemer.evals.metrics import attribute_counts, label_terms, parse_attributes
from bessemer.evals.outcomes import NEVER, Outcomes, answered_by, cost_of
from bessemer.evals.risk import F1Loss, Loss, Rule
from bessemer.evals.statistics import terms_interval
from bessemer.evals.thresholds import plan
from bessemer.evals.truth import parse_label
from lab.ladder import HOURLY, RESULTS
from lab.tasks import NO, YES, LabelledTask, load

PRESETS = Path(__file__).parent / "presets.toml"
RUNGS = ("embedding", "pairs")
"""In the order in which they are asked; those that were not fitted are left out."""
DELTA = 0.1
ALPHA = 0.03
"""Unless the preset says otherwise."""
_PER_TOKEN, _QUESTION = 4, 150
"""Characters of a token, and of what a prompt asks beside the records."""


class LargeModelAnswers(NamedTuple):
    """A set whose test items a large model has answered."""

    name: str
    task: LabelledTask
    alpha: float
    usd: float
    """Of one answer, by the characters of the prompts and the list price of input tokens."""


def main() -> int:
    """Write the cascades of every set that has outcomes; return 1 when a set could not be read."""
    arguments = _arguments()
    failed = 0
    for name, options in _options(arguments).items():
        try:
            found = _read(name, options, arguments.root)
        except BessemerError as error:
            print(f"{name}: {error.message}", file=sys.stderr)
            failed += 1
            continue
        rows = [row for seed in arguments.seeds for row in cascades(found, seed, arguments.data / "outcomes")]
        _written(arguments.out, name, rows)
    for name, options in () if arguments.name else _extracting():
        rows = [row for seed in arguments.seeds for row in extraction(name, options, seed, arguments)]
        _written(arguments.out, name, rows)
    return 1 if failed else 0


def _written(out: Path, name: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return  # there are no outcomes here: what is in the file stays
    document = json.loads(out.read_text()) if out.exists() else {"rows": []}
    others = [row for row in document.get("cascades", []) if row["data"] != name]
    document["cascades"] = [*others, *rows]
    out.write_text(json.dumps(document, indent=1) + "\n")
    for row in rows:
        print({key: row[key] for key in ("data", "seed", "metric", "quality", "usd_per_1k", "incumbent_quality")})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--data", type=Path, default=Path("data"), help="the --data of ladder.py")
    parser.add_argument("--out", type=Path, default=RESULTS)
    for option in ("name", "train", "test", "recorded", "recorded-price"):
        parser.add_argument("--" + option)
    return parser.parse_args()


def _options(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the set of the flags, else the presets of record pairs that have recorded answers."""
    if arguments.name:
        return {arguments.name: vars(arguments)}
    sections = tomllib.loads(PRESETS.read_text())
    matching = {name: one for name, one in sections.items() if "recorded" in one and "recorded_tokens" not in one}
    return {name.replace("_", "-"): one for name, one in matching.items()}


def _read(name: str, options: dict[str, Any], root: Path) -> LargeModelAnswers:
    task = load(name, *(root / options[part] for part in ("train", "test", "recorded")))
    prices = tomllib.loads((Path(registry.__file__).parent / "default.toml").read_text())["prices"]
    rate = prices[options["recorded_price"]]["input_per_million"]
    sizes = [
        sum(len(str(text)) for side in ("left", "right") for text in row.item.input[side].values()) for row in task.test
    ]
    usd = (float(np.mean(sizes)) + _QUESTION) / _PER_TOKEN * rate / 1e6
    return LargeModelAnswers(name, task, float(options.get("alpha") or ALPHA), usd)


def cascades(found: LargeModelAnswers, seed: int, outcomes: Path) -> list[dict[str, Any]]:
    """Return the cascade of each rule for the rungs that a seed fitted; none without outcomes."""
    files = {rung: outcomes / f"{found.name} {rung} {seed}.json" for rung in RUNGS}
    kept = {rung: json.loads(file.read_text()) for rung, file in files.items() if file.exists()}
    recorded = found.task.recorded
    if not kept or recorded is None:
        return []
    covered = [place for place, row in enumerate(found.task.test) if row.item.id in recorded.answers]
    truth = [found.task.test[place].answer for place in covered]
    large = [parse_label(recorded.answers[found.task.test[place].item.id], (YES, NO)) for place in covered]
    said = [[one["answers"][place] for place in covered] for one in kept.values()] + [large]
    items = Outcomes(
        np.array([[one["confidence"][place] for one in kept.values()] for place in covered]),
        np.array([[float(a == t) for a in answers] for *answers, t in zip(*said, truth, strict=True)]),
        np.array([[label_terms(a, t, YES) for a in answers] for *answers, t in zip(*said, truth, strict=True)]),
    )
    cost = [*(one["seconds"] * HOURLY / 3600 for one in kept.values()), found.usd]
    rules: dict[str, Rule] = {"accuracy": Loss(found.alpha, "accuracy"), "F1": F1Loss(found.alpha)}
    return [_cascade(found, seed, list(kept), rule, items, cost) for rule in rules.items()]


def _extracting() -> list[tuple[str, dict[str, Any]]]:
    """Return the presets whose answers are JSON objects and have recorded ones."""
    sections = tomllib.loads(PRESETS.read_text())
    return [(name.replace("_", "-"), one) for name, one in sections.items() if "recorded_tokens" in one]


def extraction(name: str, options: dict[str, Any], seed: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the cascade of the tagger and the recorded model by micro-F1, and one that is chosen without a promise."""
    file = arguments.data / "outcomes" / f"{name} spans {seed}.json"
    if not file.exists():
        return []
    task = load(name, *(arguments.root / options[part] for part in ("train", "test", "recorded")))
    prices = tomllib.loads((Path(registry.__file__).parent / "default.toml").read_text())["prices"]
    usd = options["recorded_tokens"] * prices[options["recorded_price"]]["input_per_million"] / 1e6
    kept, answers = json.loads(file.read_text()), {} if task.recorded is None else task.recorded.answers
    rows = [row for row in task.test if row.item.id in answers and row.item.id in kept["items"]]
    own = [kept["items"][row.item.id] for row in rows]
    large = [attribute_counts(parse_attributes(answers[row.item.id]), row.target or {}).terms for row in rows]
    terms = np.array([[one["terms"], other] for one, other in zip(own, large, strict=True)], np.float64)
    quality = np.divide(terms[..., 0], terms[..., 1], out=np.ones(terms.shape[:2]), where=terms[..., 1] > 0)
    confidence = np.array([[np.nan if one["confidence"] is None else one["confidence"]] for one in own])
    items = Outcomes(confidence, quality, terms)
    found = LargeModelAnswers(name, task, float(options.get("alpha") or ALPHA), usd)
    cost = [kept["seconds"] * HOURLY / 3600, usd]
    rule = F1Loss(found.alpha, "micro-F1", largest=float(terms[..., 1].max()))
    promised = _cascade(found, seed, ["spans"], ("F1", rule), items, cost)
    return [promised | {"metric": "micro-F1"}, _unpromised(promised, items, cost, seed)]


def _unpromised(promised: dict[str, Any], items: Outcomes, cost: list[float], seed: int) -> dict[str, Any]:
    """Return the cheapest threshold whose micro-F1 is the recorded model's on seven tenths, scored on the rest."""
    order = np.random.default_rng(seed).permutation(items.n)
    cut = int(0.7 * items.n)
    chosen, scored = items.take(order[:cut]), items.take(order[cut:])
    assert chosen.terms is not None

    def f1(who: Any) -> float:
        assert chosen.terms is not None
        total = chosen.terms[np.arange(chosen.n), who].sum(axis=0)
        return float(total[0] / total[1])

    levels = [NEVER, *sorted(set(chosen.confidence[np.isfinite(chosen.confidence)].tolist()), reverse=True)]
    alone = f1(np.ones(chosen.n, np.int64))
    best = [level for level in levels if f1(answered_by(chosen.confidence, [level])) >= alone][-1]
    who = answered_by(scored.confidence, [best])
    quality, ci95 = _interval(scored, "F1", who)
    return promised | {
        "metric": "micro-F1, chosen without a promise",
        "thresholds": [None if best == NEVER else best],
        "quality": quality,
        "ci95": ci95,
        "usd_per_1k": round(1000 * float(cost_of(who[:, None], cost)[0]), 6),
        "share_per_rung": [round(float((who == rung).mean()), 4) for rung in range(2)],
        "alpha": 0.0,
        "violated": quality < promised["incumbent_quality"],
        "n": [cut, 0, scored.n],
        "reason": "the cheapest threshold that keeps the recorded model's micro-F1 on the items it is chosen on",
    }


def _cascade(
    found: LargeModelAnswers,
    seed: int,
    rungs: list[str],
    promised: tuple[str, Rule],
    items: Outcomes,
    cost: list[float],
) -> dict[str, Any]:
    metric, rule = promised
    order = np.random.default_rng(seed).permutation(items.n)
    first, second = int(0.3 * items.n), int(0.7 * items.n)
    planned, tested, scored = (items.take(part) for part in (order[:first], order[first:second], order[second:]))
    choice = certify(plan(rule, planned, cost, tested.n), tested, delta=DELTA, names=(*rungs, "incumbent"))
    vector = [NEVER] * len(rungs)
    if choice.chosen is not None:
        vector = [NEVER if one is None else one for one in choice.chosen.thresholds]
    who = answered_by(scored.confidence, vector)
    interval, alone = (_interval(scored, metric, by) for by in (who, np.full(scored.n, len(rungs))))
    return {
        "data": found.name,
        "seed": seed,
        "metric": metric,
        "rungs": [*rungs, "incumbent"],
        "thresholds": [None if one == NEVER else one for one in vector],
        "quality": interval[0],
        "ci95": interval[1],
        "usd_per_1k": round(1000 * float(cost_of(who[:, None], cost)[0]), 6),
        "share_per_rung": [round(float((who == rung).mean()), 4) for rung in range(len(rungs) + 1)],
        "alpha": rule.alpha,
        "delta": DELTA,
        "violated": bool(rule.risk(scored, who[:, None])[0] > rule.alpha),
        "incumbent_quality": alone[0],
        "incumbent_usd_per_1k": round(1000 * cost[-1], 6),
        "n": [planned.n, tested.n, scored.n],
        "reason": choice.reason,
    }


def _interval(items: Outcomes, metric: str, who: Any) -> tuple[float, list[float]]:
    rows = np.arange(items.n)
    terms = items.terms[rows, who] if metric == "F1" and items.terms is not None else None
    if terms is None:
        terms = np.stack([items.quality[rows, who], np.ones(items.n)], axis=1)
    found = terms_interval(terms, resamples=2000)
    return round(100 * found.value, 2), [round(100 * found.low, 2), round(100 * found.high, 2)]


if __name__ == "__main__":
    sys.exit(main())
