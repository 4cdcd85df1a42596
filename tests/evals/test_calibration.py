"""Isotonic calibration: optimality, monotonicity, ties, clipping; reliability and ECE."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.evals.calibration import apply, ece, fit_isotonic, pool_adjacent_violators, reliability


def fit(scores: list[float], correct: list[float], clip: float = 0.0):  # type: ignore[no-untyped-def]
    return fit_isotonic(scores, correct, version="m@0", score="choice_margin", dataset_sha256="d", clip=clip)


def test_golden_vector() -> None:
    calibration = fit([1, 2, 3, 4, 5, 6], [0, 1, 0, 1, 1, 1])
    assert calibration.x == (1.0, 2.5, 5.0)
    assert calibration.y == (0.0, 0.5, 1.0)
    assert apply(calibration, [0, 1.75, 2.5, 3.75, 9]).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_ties_get_one_value() -> None:
    calibration = fit([1, 1, 1, 2, 2], [1, 0, 0, 1, 0])
    assert apply(calibration, [1, 2]).tolist() == pytest.approx([1 / 3, 0.5])


def test_scores_stay_ranked_between_the_blocks() -> None:
    calibration = fit([1, 2, 3, 4, 5, 6], [0, 1, 0, 1, 0, 1])
    middle = apply(calibration, [1.5, 2.0, 2.5, 3.0, 4.0, 5.0])
    assert (np.diff(middle) > 0).all()


def test_clipping_never_shows_certainty() -> None:
    calibration = fit([1, 2], [0, 1], clip=0.01)
    assert apply(calibration, [-9, 9]).tolist() == [0.01, 0.99]


def test_bad_scores_are_refused() -> None:
    for scores in ([], [float("nan")], [float("inf")]):
        with pytest.raises(ValueError, match="finite"):
            fit(scores, [1.0] * len(scores))


ITEMS = st.lists(st.tuples(st.integers(0, 12).map(float), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=40)


@given(ITEMS)
def test_fit_is_monotone_and_ignores_order(items: list[tuple[float, float]]) -> None:
    scores, correct = (list(column) for column in zip(*items, strict=True))
    calibration = fit(scores, correct)
    assert list(calibration.x) == sorted(set(calibration.x))
    assert list(calibration.y) == sorted(calibration.y)
    assert min(correct) - 1e-9 <= calibration.y[0] <= calibration.y[-1] <= max(correct) + 1e-9
    assert fit(scores[::-1], correct[::-1]).y == pytest.approx(calibration.y)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(0, 1000))
def test_pav_is_the_least_squares_fit(values: list[float], seed: int) -> None:
    y = np.array(values)
    means, lengths = pool_adjacent_violators(y, np.ones_like(y))
    fitted = np.repeat(means, lengths)
    other = np.sort(np.random.default_rng(seed).uniform(size=len(y)))
    for step in (1.0, 0.1, 0.001):
        rival = (1 - step) * fitted + step * other
        assert ((y - fitted) ** 2).sum() <= ((y - rival) ** 2).sum() + 1e-9


def test_ece_and_reliability() -> None:
    confidence, correct = [0.05, 0.15, 0.15, 1.0], [0, 0, 1, 1]
    table = reliability(confidence, correct)
    assert [(row.n, row.accuracy) for row in table] == [(1, 0.0), (2, 0.5), (1, 1.0)]
    assert ece(confidence, correct) == pytest.approx((0.05 + 2 * 0.35) / 4)
    assert ece([], []) == 0.0
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        reliability([1.5], [1])


def test_calibrated_confidence_is_calibrated_on_new_items() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=8000)
    correct = (rng.uniform(size=8000) < 1 / (1 + np.exp(-2 * score))).astype(float)
    calibration = fit_isotonic(score[:4000], correct[:4000], version="v", score="s", dataset_sha256="d")
    assert ece(apply(calibration, score[4000:]), correct[4000:]) < 0.03
