"""The measured anchors against the published results, where that table lies beside the checkout."""

import csv
from pathlib import Path

import pytest

from bessemer_planner.catalog import load_catalog
from bessemer_planner.claims.anchors import ANCHORS, usd_per_million

TABLE = Path(__file__).resolve().parents[4] / "shared" / "data" / "planner" / "measured_throughput.csv"
MODELS = {"llama3.1-8b": "llama-3.1-8b", "llama2-70b-99": "llama-2-70b", "llama2-70b-99.9": "llama-2-70b"}


def test_a_million_tokens_by_hand() -> None:
    assert usd_per_million(36.0, 1000.0) == pytest.approx(10.0)


@pytest.mark.skipif(not TABLE.is_file(), reason="the measured results are not beside the checkout")
def test_anchors_are_the_best_published_results() -> None:
    catalog = load_catalog()
    best: dict[tuple[str, str, str], float] = {}
    with TABLE.open() as file:
        for row in csv.DictReader(file):
            card = row["accelerator"]
            if row["model"] in MODELS and card.lower() in catalog.aliases and row["output_tok_s_per_gpu"]:
                key = (MODELS[row["model"]], catalog.accelerator(card).name, row["scenario"].lower())
                best[key] = max(best.get(key, 0.0), float(row["output_tok_s_per_gpu"]))
    compared = 0
    for (model, accelerator), anchor in ANCHORS.items():
        for scenario in ("offline", "server", "interactive"):
            published, ours = best.get((model, accelerator, scenario)), getattr(anchor, scenario)
            if published is not None and ours is not None:
                assert ours == pytest.approx(published, rel=0.002), (model, accelerator, scenario)
                compared += 1
    assert compared >= 12
