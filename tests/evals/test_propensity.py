"""Logged verdicts estimate a version where a route drew it at random, and nothing where it did not."""

import numpy as np
import pytest

from bessemer.core.datasets import Example, Split
from bessemer.evals.propensity import logged_accuracy


def logged(n: int, *, share: float, right: dict[str, float], seed: int, hard: float = 0.0) -> list[Example]:
    """Traffic of a route that draws `a@1` with probability `share`; `hard` of the items nobody answers rightly."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        drawn = "a@1" if rng.uniform() < share else "b@1"
        verdict = bool(rng.uniform() > hard and rng.uniform() < right[drawn])
        p = share if drawn == "a@1" else 1 - share
        row = Example(id=str(i), split=Split.HOLDOUT, input={"i": i}, messages=(), answer="x", verdict=verdict)
        rows.append(changed(row, version=drawn, propensity=p))
    return rows


@pytest.mark.parametrize("share", [0.5, 0.2, 0.9])
def test_the_interval_holds_the_truth_as_often_as_it_says(share: float) -> None:
    right = {"a@1": 0.7, "b@1": 0.4}
    misses = 0
    for seed in range(60):
        found = logged_accuracy(logged(600, share=share, right=right, seed=seed), "a@1", seed=seed)
        assert found is not None
        misses += not found.low <= 0.7 <= found.high
    assert misses <= 8  # 5 % of 60 are 3; more than 8 come in one of 200 such runs


def test_two_versions_of_one_route_are_told_apart() -> None:
    rows = logged(1000, share=0.5, right={"a@1": 0.9, "b@1": 0.3}, seed=1)
    a, b = logged_accuracy(rows, "a@1"), logged_accuracy(rows, "b@1")
    assert a is not None
    assert b is not None
    assert b.high < 0.5 < a.low


def changed(row: Example, **values: object) -> Example:
    return Example(**{name: getattr(row, name) for name in row.__struct_fields__} | values)


def test_nothing_is_said_where_it_would_not_hold() -> None:
    rows = logged(400, share=0.5, right={"a@1": 0.7, "b@1": 0.4}, seed=2)
    assert logged_accuracy(rows, "a@1") is not None
    assert logged_accuracy(rows, "new@1") is None  # never drawn
    assert logged_accuracy([changed(rows[0], propensity=None), *rows[1:]], "a@1") is None
    assert logged_accuracy(rows[:40], "a@1") is None  # too few
    cascade = [changed(row, propensity=1.0) for row in rows]  # who answered was decided by confidence, not by a draw
    assert logged_accuracy(cascade, "a@1") is None
    wrong = [changed(row, propensity=0.9 if row.version == "a@1" else 0.1) for row in rows]
    assert logged_accuracy(wrong, "a@1") is None


def test_a_faultless_log_is_no_point() -> None:
    found = logged_accuracy(logged(200, share=0.5, right={"a@1": 1.0, "b@1": 1.0}, seed=3), "a@1")
    assert found is not None
    assert found.value == 1.0
    assert found.low < 1.0
