"""The non-inferiority gate: its decision, its words, and its error rate."""

import numpy as np
import pytest

from bessemer.core.errors import InvalidRequest
from bessemer.evals.gate import non_inferiority
from bessemer.evals.metrics import Terms, mean_terms


def scores(values: list[float]) -> list[Terms | None]:
    return [mean_terms(value) for value in values]


def test_equal_systems_pass_within_a_margin() -> None:
    same = scores([0.0, 1.0] * 50)
    result = non_inferiority(same, same, metric="accuracy", margin=0.01)
    assert result.passed
    assert "at least −0.01" in result.rule
    assert "passed." in result.rule
    assert "superior" not in result.rule.split("Found")[1]


def test_a_better_system_is_called_superior() -> None:
    result = non_inferiority(scores([1.0] * 100), scores([0.0, 1.0] * 50), metric="accuracy", margin=0.0)
    assert result.passed
    assert "superior" in result.rule


def test_a_worse_system_fails() -> None:
    result = non_inferiority(scores([0.0, 1.0] * 50), scores([1.0] * 100), metric="accuracy", margin=0.05)
    assert not result.passed
    assert result.rule.endswith("failed.")


def test_unscorable_items_are_left_out_and_too_many_fail() -> None:
    same = scores([1.0, 0.0] * 50)
    one_missing: list[Terms | None] = [None, *same[1:]]
    assert non_inferiority(one_missing, same, metric="accuracy", margin=0.01).passed
    many_missing: list[Terms | None] = [None] * 10 + same[10:]
    result = non_inferiority(many_missing, same, metric="accuracy", margin=0.01)
    assert not result.passed
    assert "10.0% of the items unscorable" in result.rule
    with pytest.raises(InvalidRequest, match="No item"):
        non_inferiority([None], [None], metric="accuracy", margin=0.01)


@pytest.mark.parametrize("undefined", ["candidate", "reference"])
def test_a_metric_that_is_undefined_on_the_items_fails_in_words(undefined: str) -> None:
    some, nothing = [Terms(2.0, 2.0), Terms(0.0, 0.0)], [Terms(0.0, 0.0)] * 2
    pair = (nothing, some) if undefined == "candidate" else (some, nothing)
    result = non_inferiority(*pair, metric="f1", margin=0.0)
    assert not result.passed
    assert result.difference is None
    assert result.rule.endswith("The f1 of 2 items is undefined, evaluate more: failed.")


def test_a_candidate_at_the_margin_passes_rarely() -> None:
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(200):
        reference = (rng.uniform(size=400) < 0.8).astype(float)
        candidate = (rng.uniform(size=400) < 0.75).astype(float)
        passed += non_inferiority(
            scores(candidate.tolist()), scores(reference.tolist()), metric="accuracy", margin=0.05, resamples=500
        ).passed
    assert passed / 200 <= 0.025 + 3 * (0.025 * 0.975 / 200) ** 0.5
