"""Metrics: golden counts, the published scores of real recorded answers, and laws."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.evals.metrics import (
    AttributeCounts,
    attribute_counts,
    label_terms,
    parse_attributes,
    total,
)
from bessemer.evals.truth import parse_label

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
LABELS = ("Yes", "No")
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the shared data sets are not beside this checkout")


def rows(name: str) -> Iterator[dict[str, Any]]:
    path = DATA / name
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            yield json.loads(line)


def rates(items: list[AttributeCounts]) -> tuple[float, float]:
    """Precision and recall over all items."""
    _, nv, vn, vc, vw = (sum(column) for column in zip(*items, strict=True)) if items else (0,) * 5
    return vc / max(nv + vc + vw, 1), vc / max(vn + vc + vw, 1)


@needs_data
@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("record_matching/dblp-scholar.llama31_70b_recorded.jsonl.gz", 63.85),
        ("record_matching/amazon-google.gpt4o_mini_recorded.jsonl", 70.42),
    ],
)
def test_recorded_matching_scores_as_published(name: str, published: float) -> None:
    pairs = [(parse_label(row["recorded_answer"], LABELS), LABELS[1 - row["label"]]) for row in rows(name)]
    f1 = total(label_terms(said, actual, "Yes") for said, actual in pairs)
    assert f1 is not None
    assert round(100 * f1, 2) == published


@needs_data
def test_recorded_attributes_score_as_published() -> None:
    items = [
        attribute_counts(parse_attributes(row["gpt4_output"]), row["target_scores"])
        for row in rows("product_attributes/oa-mine.gpt4_10shot.jsonl")
    ]
    f1 = total(item.terms for item in items)
    assert len(items) == 491
    assert [round(100 * rate, 2) for rate in (*rates(items), f1 or 0)] == [83.98, 80.42, 82.16]


def test_f1_of_a_label_counts_every_mistake_and_no_true_negative() -> None:
    pairs = [("Yes", "Yes"), ("Yes", "No"), ("No", "Yes"), (None, "Yes"), (None, "No"), ("No", "No")]
    assert total(label_terms(said, actual, "Yes") for said, actual in pairs) == pytest.approx(0.4)
    assert total([]) is None


@pytest.mark.parametrize(
    ("predicted", "target", "counts"),
    [
        ({"a": "x"}, {"a": {"x": 1}}, AttributeCounts(vc=1)),
        ({"a": "y"}, {"a": {"x": 1, "y": 1}}, AttributeCounts(vc=1)),
        ({"a": "x "}, {"a": {" x": 1}}, AttributeCounts(vc=1)),
        ({"a": "X"}, {"a": {"x": 1}}, AttributeCounts(vw=1)),
        ({"a": "n/a"}, {"a": {"x": 1}}, AttributeCounts(vn=1)),
        ({}, {"a": {"x": 1}}, AttributeCounts(vn=1)),
        ({"a": None}, {"a": {"x": 1}}, AttributeCounts(vn=1)),
        ({"a": "n/a"}, {"a": {"n/a": 1}}, AttributeCounts(nn=1)),
        ({"a": "x"}, {"a": {"n/a": 1}}, AttributeCounts(nv=1)),
        ({"a": "None", "b": "None"}, {"a": {"n/a": 1}, "b": {"x": 1}}, AttributeCounts(nn=1, vn=1)),
        ({"a": "x", "b": "not annotated"}, {"a": "x"}, AttributeCounts(vc=1)),
        ({"a": 10}, {"a": "10"}, AttributeCounts(vc=1)),
        ({"a": ["x"]}, {"a": ["x"]}, AttributeCounts(vc=1)),
        ({"a": ["x", "y"]}, {"a": ["x", "y"]}, AttributeCounts(vw=1)),
        (None, {"a": "x", "b": "n/a"}, AttributeCounts(nn=1, vn=1)),
    ],
)
def test_attribute_counts(predicted: Any, target: Any, counts: AttributeCounts) -> None:
    assert attribute_counts(predicted, target) == counts


COUNTS = st.builds(AttributeCounts, *[st.integers(0, 5)] * 5)


@given(st.lists(COUNTS, max_size=8))
def test_micro_f1_is_the_harmonic_mean_of_its_rates(items: list[AttributeCounts]) -> None:
    precision, recall = rates(items)
    if precision and recall:
        harmonic = 2 * precision * recall / (precision + recall)
        assert total(item.terms for item in items) == pytest.approx(harmonic)


@given(COUNTS)
def test_an_items_reward_is_in_range_or_unknown(item: AttributeCounts) -> None:
    assert (item.reward is None) == (sum(item) == 0)
    assert item.reward is None or 0.0 <= item.reward <= 1.0


def test_nothing_to_find_and_nothing_said_is_right_though_it_counts_in_no_sum() -> None:
    nothing = attribute_counts({"Color": "n/a"}, {"Color": []})
    assert (nothing.terms.denominator, nothing.terms.quality, nothing.reward) == (0.0, 1.0, 1.0)
    assert attribute_counts({"Color": "red"}, {"Color": []}).terms.quality == 0.0
    half = attribute_counts({"Color": "red", "Size": "1"}, {"Color": ["red"], "Size": ["2"]})
    assert half.terms.quality == 0.5
