"""The non-inferiority gate: its decision, its words, and what counts against the candidate."""

import pytest

from bessemer.core.errors import InvalidRequest
from bessemer.evals.gate import non_inferiority
from bessemer.evals.metrics import ItemTerms, Terms, Unknown, mean_terms

OPEN = Unknown(mean_terms(0.0), mean_terms(1.0))


def scores(values: list[float]) -> list[ItemTerms]:
    return [mean_terms(value) for value in values]


def test_equal_systems_pass_within_a_margin_that_the_items_can_show() -> None:
    same = scores([0.0, 1.0] * 150)
    result = non_inferiority(same, same, metric="accuracy", margin=0.02)
    assert result.passed
    assert "at least −0.02" in result.rule
    assert result.rule.endswith("passed.")
    assert "superior" not in result.rule
    assert not non_inferiority(same[:100], same[:100], metric="accuracy", margin=0.02).passed


def test_a_better_system_is_called_superior() -> None:
    result = non_inferiority(scores([1.0] * 100), scores([0.0, 1.0] * 50), metric="accuracy", margin=0.0)
    assert result.passed
    assert "superior" in result.rule


def test_a_worse_system_fails() -> None:
    result = non_inferiority(scores([0.0, 1.0] * 50), scores([1.0] * 100), metric="accuracy", margin=0.05)
    assert not result.passed
    assert result.rule.endswith("failed.")


def test_the_result_says_what_decided() -> None:
    candidate, reference = scores([1.0] * 380 + [0.0] * 20), scores([0.0] * 10 + [1.0] * 380 + [0.0] * 10)
    result = non_inferiority(candidate, reference, metric="accuracy", margin=0.05, look=2, min_items=50)
    assert (result.n, result.discordant, result.look, result.unknown) == (400, 20, 2, 0)
    assert result.alpha == pytest.approx(0.025 * 0.15198, rel=1e-4)
    assert result.p_value is not None
    assert result.power is not None
    assert result.passed == (result.p_value <= result.alpha)
    assert result.difference is not None
    assert result.passed == (result.difference.low >= -0.05)
    for words in ("number 2 at these items", "20 discordant", "about", "400 items", "0.025 over all looks"):
        assert words in result.rule


def test_later_looks_need_more() -> None:
    same = scores([0.0, 1.0] * 120)
    assert non_inferiority(same, same, metric="accuracy", margin=0.02, look=1).passed
    assert not non_inferiority(same, same, metric="accuracy", margin=0.02, look=2).passed


def test_floors_fail_what_the_test_would_pass() -> None:
    better, worse = scores([1.0] * 40), scores([0.0] * 40)
    few = non_inferiority(better, worse, metric="accuracy", margin=0.02, min_items=50)
    assert not few.passed
    assert "40 items are fewer than 50" in few.rule
    same = scores([1.0] * 1000)
    blind = non_inferiority(same, same, metric="reward", margin=0.02, min_discordant=1)
    assert not blind.passed
    assert "0 discordant pairs are fewer than 1" in blind.rule


def test_what_only_one_system_has_a_score_for_counts_against_the_candidate() -> None:
    same = scores([1.0, 0.0] * 300)
    for candidate, reference in (([None] * 50 + same[50:], same), (same, [None] * 50 + same[50:])):
        result = non_inferiority(candidate, reference, metric="accuracy", margin=0.02)
        assert not result.passed
        assert (result.n, result.unknown) == (600, 50)
        assert "50 with a score that is not known" in result.rule


def test_what_neither_has_a_score_for_is_left_out_and_too_many_fail() -> None:
    same = scores([1.0, 0.0] * 150)
    one: list[ItemTerms] = [None, *same[1:]]
    assert non_inferiority(one, one, metric="accuracy", margin=0.02).passed
    many: list[ItemTerms] = [None] * 30 + same[30:]
    result = non_inferiority(many, many, metric="accuracy", margin=0.02)
    assert not result.passed
    assert "10.0% of the items unscorable" in result.rule
    with pytest.raises(InvalidRequest, match="No item"):
        non_inferiority([None], [None], metric="accuracy", margin=0.01)


def test_an_open_truth_is_the_same_for_the_same_answer_and_the_worst_for_another() -> None:
    known, half = scores([1.0, 0.0] * 120), [OPEN] * 60
    candidate: list[ItemTerms] = [*known, *half]
    told = non_inferiority(candidate, candidate, metric="accuracy", margin=0.02, same=[True] * 300)
    assert told.passed
    assert told.difference is not None
    assert told.difference.value == 0
    other = non_inferiority(candidate, candidate, metric="accuracy", margin=0.02, same=[False] * 300)
    assert not other.passed
    assert other.difference is not None
    assert other.difference.value == pytest.approx(-0.2)


@pytest.mark.parametrize("undefined", ["candidate", "reference"])
def test_a_metric_that_is_undefined_on_the_items_fails_in_words(undefined: str) -> None:
    some, nothing = [Terms(2.0, 2.0), Terms(0.0, 0.0)], [Terms(0.0, 0.0)] * 2
    pair = (nothing, some) if undefined == "candidate" else (some, nothing)
    result = non_inferiority(*pair, metric="f1", margin=0.0)
    assert not result.passed
    assert result.difference is None
    assert result.rule.endswith("The f1 of 2 items is undefined, evaluate more: failed.")


def test_scores_that_no_bound_holds_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="between 0 and 1"):
        non_inferiority(scores([7.0]), scores([0.5]), metric="reward", margin=0.01)
