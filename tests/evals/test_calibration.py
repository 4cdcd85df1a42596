"""Isotonic calibration: optimality, monotonicity, ties, no certainty from few items; reliability and ECE."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.routes import Calibration, ConfidenceScore
from bessemer.evals.calibration import apply, centred_isotonic, ece, pool_adjacent_violators, reliability


def fit(scores: list[float], correct: list[float]):  # type: ignore[no-untyped-def]
    x, y = centred_isotonic(scores, correct, succession=True)
    score = ConfidenceScore.CHOICE_MARGIN
    return Calibration(version="m@0", score=score, dataset_sha256="d", x=tuple(x.tolist()), y=tuple(y.tolist()))


def test_golden_vector() -> None:
    calibration = fit([1, 2, 3, 4, 5, 6], [0, 1, 0, 1, 1, 1])
    assert calibration.x == (1.0, 2.5, 5.0)
    assert calibration.y == pytest.approx((1 / 3, 1 / 2, 4 / 5))
    assert apply(calibration, [0, 1.75, 2.5, 3.75, 9]).tolist() == pytest.approx([1 / 3, 5 / 12, 0.5, 0.65, 0.8])


def test_ties_get_one_value() -> None:
    calibration = fit([1, 1, 1, 2, 2], [1, 0, 0, 1, 0])
    assert apply(calibration, [1, 2]).tolist() == pytest.approx([2 / 5, 1 / 2])


def test_scores_stay_ranked_between_the_blocks() -> None:
    calibration = fit([1, 2, 3, 4, 5, 6], [0, 1, 0, 1, 0, 1])
    middle = apply(calibration, [1.5, 2.0, 2.5, 3.0, 4.0, 5.0])
    assert (np.diff(middle) > 0).all()


@pytest.mark.parametrize(("n", "most"), [(3, 0.80), (10, 0.917), (100, 0.9902)])
def test_faultless_items_show_as_much_as_their_number_does(n: int, most: float) -> None:
    calibration = fit([float(i) for i in range(n)], [1.0] * n)
    assert apply(calibration, [99.0])[0] == pytest.approx(most, abs=1e-3)
    assert apply(fit([float(i) for i in range(n)], [0.0] * n), [-9.0])[0] == pytest.approx(1 - most, abs=1e-3)


def test_few_items_at_an_end_do_not_make_the_map_fall() -> None:
    calibration = fit([*range(100), 200], [0.0] * 20 + [1.0] * 80 + [1.0])
    assert list(calibration.y) == sorted(calibration.y)
    calibration = fit([1.0] * 10 + [2.0], [1.0] * 9 + [0.0] + [1.0])
    assert calibration.y == pytest.approx((11 / 13,))


def test_what_is_said_at_the_tail_is_not_far_from_what_is_so() -> None:
    """100 items of a sharp score, the fit is shown to clients as P(correct): at either end it may not say "surely"."""
    rng, errors = np.random.default_rng(3), []
    for _ in range(200):
        score = rng.normal(size=100)
        correct = (rng.uniform(size=100) < 1 / (1 + np.exp(-2 * score))).astype(float)
        said = apply(fit(score.tolist(), correct.tolist()), [-2.5, 2.5])
        errors.append(np.abs(said - 1 / (1 + np.exp([5.0, -5.0]))).max())
        assert 0.005 < said[0] < said[1] < 0.995
    assert np.mean(errors) < 0.1


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
    assert 0 < calibration.y[0] <= calibration.y[-1] < 1
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
    calibration = fit(score[:4000].tolist(), correct[:4000].tolist())
    assert ece(apply(calibration, score[4000:]), correct[4000:]) < 0.03
