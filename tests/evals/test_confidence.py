"""Maps to P(correct) by the number of items, Venn-Abers pairs, and how calibrated they are."""

import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression
from scipy.special import expit

from bessemer.core.routes import Calibration, ConfidenceScore
from bessemer.evals.calibration import apply, calibration_error, centred_isotonic, ece, pool_adjacent_violators
from bessemer.evals.confidence import fit_confidence, platt
from bessemer.evals.venn_abers import venn_abers
from bessemer.gateway.cascade import calibrated, doubt

MARGIN = ConfidenceScore.CHOICE_MARGIN
Array = npt.NDArray[np.float64]


def fit(
    scores: npt.ArrayLike, correct: npt.ArrayLike, score: ConfidenceScore = ConfidenceScore.CHOICE_MARGIN
) -> Calibration:
    return fit_confidence(scores, correct, version="m@0", score=score, dataset_sha256="d")


def drawn(rng: np.random.Generator, n: int, slope: float = 0.5) -> tuple[Array, Array]:
    """Overconfident margins: the log-odds are half of what they say."""
    margin = np.abs(rng.normal(scale=3.0, size=n))
    return margin, (rng.uniform(size=n) < expit(slope * margin)).astype(float)


@pytest.mark.parametrize(
    ("n", "names"),
    [(10, {"platt"}), (199, {"platt"}), (400, {"platt", "beta"}), (1000, {"platt", "beta", "isotonic"})],
)
def test_the_map_suits_the_number_of_items(n: int, names: set[str]) -> None:
    found = fit(*drawn(np.random.default_rng(n), n))
    assert found.map in names
    assert found.n == n
    assert found.venn_abers is not None


def test_beta_is_taken_where_the_ends_differ() -> None:
    rng = np.random.default_rng(1)
    score = rng.uniform(0.01, 0.99, size=900)
    correct = (rng.uniform(size=900) < expit(0.1 * np.log(score) - 3 * np.log1p(-score) - 2)).astype(float)
    assert fit(score, correct, ConfidenceScore.FIELD_PROBABILITY).map == "beta"


def test_isotonic_is_taken_where_neither_curve_fits() -> None:
    rng = np.random.default_rng(5)
    margin = rng.uniform(0, 6, size=3000)
    correct = (rng.uniform(size=3000) < np.where(margin < 3, 0.55, 0.95)).astype(float)
    assert fit(margin, correct).map == "isotonic"


@pytest.mark.parametrize("n", [1, 3, 10, 150, 600, 1200])
@pytest.mark.parametrize("right", [0.0, 1.0])
def test_l19_n_items_show_no_more_certainty_than_n_items_can(n: int, right: float) -> None:
    found = fit(np.linspace(0, 20, n), np.full(n, right))
    said = apply(found, [-99.0, 0.0, 10.0, 99.0])
    assert 1 / (n + 2) - 1e-12 <= said.min() <= said.max() <= 1 - 1 / (n + 2) + 1e-12


def test_l19_ten_items_never_say_more_than_92_percent() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        found = fit(rng.normal(scale=8, size=10), (rng.uniform(size=10) < 0.9).astype(float))
        assert max(found.y) <= 0.92


@pytest.mark.long
@pytest.mark.parametrize("n", [1000, 4000])
def test_l19_what_is_said_is_so_within_three_points(n: int) -> None:
    errors = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        found = fit_confidence(*drawn(rng, n), version="v", score=MARGIN, dataset_sha256="d", pair=False)
        margin, correct = drawn(rng, 20_000)
        errors.append(calibration_error(apply(found, margin), correct, resamples=1).debiased)
    assert np.mean(errors) <= 0.02
    assert np.quantile(errors, 0.9) <= 0.03


def test_small_samples_are_calibrated_better_than_isotonic_regression_would_be() -> None:
    losses = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x, y = drawn(rng, 60)
        fresh, _ = drawn(rng, 2000)
        truth = expit(0.5 * fresh)
        isotonic = np.interp(fresh, *centred_isotonic(x, y))
        losses.append([np.mean((apply(fit(x, y), fresh) - truth) ** 2), np.mean((isotonic - truth) ** 2)])
    ours, other = np.mean(losses, axis=0)
    assert ours < 0.7 * other


def test_weights_and_graded_answers_count() -> None:
    rng = np.random.default_rng(2)
    x, y = drawn(rng, 120)
    doubled = fit_confidence(x, y, version="v", score=MARGIN, dataset_sha256="d", weights=np.full(120, 7.0))
    assert doubled.y == pytest.approx(fit(x, y).y)
    absent = fit_confidence(
        [*x, 0.0],
        [*y, 0.0],
        version="v",
        score=MARGIN,
        dataset_sha256="d",
        weights=[1.0] * 120 + [0],
    )
    assert absent.y == pytest.approx(fit(x, y).y)
    half = fit(x, np.full(120, 0.5))
    assert apply(half, [float(np.median(x))])[0] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("score", list(ConfidenceScore))
def test_every_score_gives_a_rising_map_that_the_gateway_reads_alike(score: ConfidenceScore) -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(scale=2, size=300)
    raw = z if score is ConfidenceScore.CHOICE_MARGIN else (expit(z) if "probability" in score else np.log(expit(z)))
    found = fit(raw, (rng.uniform(size=300) < expit(z)).astype(float), score)
    assert list(found.y) == sorted(found.y)
    assert list(found.x) == sorted(set(found.x))
    for one in raw[:20].tolist():
        assert calibrated(found, one) == pytest.approx(float(apply(found, [one])[0]))
    # Lines between the knots are as good as the curve.
    assert np.abs(apply(found, raw) - expit(z)).max() < 0.15


def test_platt_is_the_prior_without_items_and_the_truth_with_many() -> None:
    rng = np.random.default_rng(4)
    slope, offset = platt(np.zeros(0), np.zeros(0, dtype=bool))
    assert (slope, offset) == pytest.approx((1.0, 0.0))
    z = rng.normal(scale=2, size=20_000)
    slope, offset = platt(z, rng.uniform(size=20_000) < expit(0.6 * z - 0.4))
    assert (slope, offset) == pytest.approx((0.6, -0.4), abs=0.05)


# -- golden vectors ------------------------------------------------------------------------------------------


def test_golden_centred_isotonic() -> None:
    x, y = centred_isotonic([1, 2, 3, 4, 5, 6], [0, 1, 0, 1, 1, 1])
    clipped = np.clip(y, 0.001, 0.999)
    assert x.tolist() == [1.0, 2.5, 5.0]
    assert clipped.tolist() == pytest.approx([0.001, 0.5, 0.999])
    assert np.interp(3.25, x, clipped) == pytest.approx(0.6497, abs=1e-4)
    means, lengths = pool_adjacent_violators(np.array([0.0, 1, 0, 1, 1, 0]), np.ones(6))
    assert means.tolist() == pytest.approx([0, 0.5, 2 / 3])
    assert lengths.tolist() == [1, 2, 3]


def test_golden_venn_abers() -> None:
    found = fit([1, 2, 3, 4], [0, 1, 0, 1])
    pair = found.venn_abers
    assert pair is not None
    for score, expected in ((2.5, (0.3333, 0.6667)), (4.5, (0.5, 1.0)), (0.5, (0.0, 0.5))):
        assert pair.at(score) == pytest.approx(expected, abs=1e-4)
        assert doubt(found, score) == pytest.approx(expected[1] - expected[0], abs=1e-4)
    assert [pair.probability(s) for s in (2.5, 4.5, 0.5)] == pytest.approx([0.5, 2 / 3, 1 / 3], abs=1e-4)
    hundred = venn_abers(np.arange(100.0), np.ones(100))
    assert hundred.at(1e9) == pytest.approx((0.990099, 1.0), abs=1e-6)
    assert hundred.probability(1e9) == pytest.approx(0.990196, abs=1e-6)


def test_golden_ece() -> None:
    assert ece([0.9, 0.9, 0.6, 0.6], [1, 0, 1, 1]) == pytest.approx(0.4)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=25),
    st.integers(-1, 17),
)
def test_venn_abers_is_two_isotonic_fits_with_the_item_added(items: list[tuple[int, float]], twice: int) -> None:
    x, y = np.array([float(s) for s, _ in items]), np.array([v for _, v in items])
    at = twice / 2
    found = venn_abers(x, y).at(at)
    for label, said in zip((0.0, 1.0), found, strict=True):
        unique, group = np.unique([*x, at], return_inverse=True)
        mass = np.bincount(group).astype(float)
        mean = np.bincount(group, weights=[*y, label]) / mass
        fitted = isotonic_regression(mean, weights=mass).x
        assert said == pytest.approx(fitted[unique.tolist().index(at)], abs=2e-6)


def test_venn_abers_of_many_items_is_small_quick_and_holds_the_truth() -> None:
    rng = np.random.default_rng(6)
    margin, correct = drawn(rng, 4000)
    began = time.perf_counter()
    pair = venn_abers(margin, correct)
    assert time.perf_counter() - began < 30
    assert len(pair.x) < 1500
    fresh, _ = drawn(rng, 500)
    truth = expit(0.5 * fresh)
    low, high = np.array([pair.at(one) for one in fresh]).T
    assert (low <= high).all()
    assert np.abs((low + high) / 2 - truth).mean() < 0.05


# -- calibration error ------------------------------------------------------------------------------------------


def test_the_debiased_error_of_perfect_probabilities_is_near_zero_where_the_plain_one_is_not() -> None:
    plain, debiased = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        p = rng.uniform(0.5, 1, size=200)
        found = calibration_error(p, (rng.uniform(size=200) < p).astype(float))
        plain.append(found.plain)
        debiased.append(found.debiased)
        assert found.low <= found.debiased <= found.high
        assert found.n == 200
    assert np.mean(plain) > 0.06
    assert np.mean(debiased) < 0.5 * np.mean(plain)


def test_the_debiased_error_still_sees_what_is_wrong() -> None:
    rng = np.random.default_rng(7)
    p = rng.uniform(0.5, 0.8, size=4000)
    found = calibration_error(p, (rng.uniform(size=4000) < p + 0.15).astype(float))
    assert found.debiased == pytest.approx(0.15, abs=0.02)
    assert found.brier > 0.1


def test_bad_items_are_refused() -> None:
    for scores, correct in (([], []), ([np.nan], [1.0]), ([np.inf], [1.0]), ([1.0], [2.0]), ([1.0, 2.0], [1.0])):
        with pytest.raises(ValueError, match=r"\w{4}"):
            fit(scores, correct)
