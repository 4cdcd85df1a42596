"""Measures false hits of the semantic cache, with and without its guards, and what its online bound lets through.

python -m lab.semantic_cache --encoder FOLDER [--root ../shared/data]

`near_duplicates`: the pairs of near_duplicates.py at each similarity. `banking77`: training messages in a fixed random
order, each held against those before it; an intent stands for the answer, so that a hit on another intent is a false
one. `online`: the same stream, where answers are given only while the bound of the budget says so, and one in twenty of
those is checked. Writes results/semantic_cache.json.
"""

import argparse
import csv
import datetime
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bessemer.engine.embedder import Embedder
from bessemer.gateway.false_hits import FalseHits
from bessemer.gateway.likeness import may_be_alike
from lab.near_duplicates import SAME, TURNED, pairs
from lab.provenance import commit, processor

Vectors = npt.NDArray[np.float32]
RESULTS = Path(__file__).parent / "results" / "semantic_cache.json"
SIMILARITIES = (0.8, 0.9, 0.95)
BUDGETS = (0.01, 0.02, 0.05)
ROWS = 4_000
_EXAMINED = 8
_CHECKED = 0.05


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"), help="folder of the public sets")
    parser.add_argument("--encoder", type=Path, required=True, help="folder of the sentence encoder")
    arguments = parser.parse_args()
    encoder = Embedder(arguments.encoder)
    with (arguments.root / "banking77" / "train.csv").open() as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    rows = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))[:ROWS]]
    near = neighbours(rows, unit(encoder, [text for text, _ in rows]))
    document = {
        "machine": processor(),
        "date": str(datetime.datetime.now(datetime.UTC).date()),
        "commit": commit(),
        "encoder": encoder.fingerprint,
        "near_duplicates": [duplicates(encoder, least) for least in SIMILARITIES],
        "banking77": [hits(rows, near, least, guards=on) for least in SIMILARITIES for on in (False, True)],
        "online": [online(rows, near, least, budget) for least in SIMILARITIES for budget in BUDGETS],
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(RESULTS.read_text())
    return 0


def unit(encoder: Embedder, texts: list[str]) -> Vectors:
    """Return the vectors, each of length 1."""
    found = np.array(encoder.embed(texts), np.float32)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def duplicates(encoder: Embedder, least: float) -> dict[str, Any]:
    """Count the pairs that would share an answer."""
    row: dict[str, Any] = {"similarity": least}
    for name, text in (("turned", TURNED), ("same", SAME)):
        both = pairs(text)
        left, right = (unit(encoder, [pair[side] for pair in both]) for side in (0, 1))
        near = [float(cosine) >= least for cosine in (left * right).sum(axis=1)]
        guarded = sum(close and may_be_alike(*pair) for close, pair in zip(near, both, strict=True))
        row |= {name: len(both), f"{name}_without_guards": sum(near), f"{name}_with_guards": guarded}
    return row


def neighbours(rows: list[tuple[str, str]], vectors: Vectors) -> list[list[tuple[int, float, bool]]]:
    """Return of each message the nearest ones before it, their cosines, and what the guards say."""
    found: list[list[tuple[int, float, bool]]] = [[]]
    for place in range(1, len(rows)):
        near = vectors[:place] @ vectors[place]
        best = [one for one in np.argsort(-near)[:_EXAMINED].tolist() if near[one] >= min(SIMILARITIES)]
        found.append([(one, float(near[one]), may_be_alike(rows[place][0], rows[one][0])) for one in best])
    return found


def nearest(found: list[tuple[int, float, bool]], least: float, *, guards: bool) -> int | None:
    """Return the one whose answer would be given."""
    return next((one for one, cosine, alike in found if cosine >= least and (alike or not guards)), None)


def hits(
    rows: list[tuple[str, str]], near: list[list[tuple[int, float, bool]]], least: float, *, guards: bool
) -> dict[str, Any]:
    """Count hits and false ones."""
    found = [(place, nearest(one, least, guards=guards)) for place, one in enumerate(near)]
    wrong = [rows[place][1] != rows[other][1] for place, other in found if other is not None]
    share = round(sum(wrong) / max(1, len(wrong)), 4)
    return {
        "similarity": least, "guards": guards, "n": len(rows), "hits": len(wrong), "false": sum(wrong), "share": share
    }  # fmt: skip


def online(
    rows: list[tuple[str, str]], near: list[list[tuple[int, float, bool]]], least: float, budget: float
) -> dict[str, Any]:
    """Run the stream by the bound."""
    evidence, draw = FalseHits(budget), np.random.default_rng(1)
    given = false = 0
    for place, one in enumerate(near):
        if (other := nearest(one, least, guards=True)) is None:
            continue
        wrong = rows[place][1] != rows[other][1]
        if evidence.proven and draw.random() >= _CHECKED:
            given, false = given + 1, false + wrong
        else:
            evidence.add(wrong=wrong)
    return {
        "similarity": least, "budget": budget, "checked": evidence.checked, "found_false": evidence.wrong,
        "bound": round(evidence.bound, 4), "given": given, "given_false": false, "given_at_the_end": evidence.proven,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
