"""Paired comparisons: published intervals, exact size by enumeration, what no sample shows, power."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln

from bessemer.evals.metrics import Terms, label_terms
from bessemer.evals.paired import Discordance, compare, exact_p, score_interval, score_statistic, spent


@pytest.mark.parametrize(
    ("gained", "lost", "n", "level", "low", "high"),
    [
        # Airway hyper-responsiveness before and after transplantation (Bentur et al. 2009), in the literature on paired
        # tables: 1 and 7 discordant of 21.
        (1, 7, 21, 0.95, -0.517, -0.026),
        # PropCIs::scoreci.mp(25, 28, 618, 0.9), which takes the counts the other way round.
        (28, 25, 618, 0.90, -0.0148, 0.0247),
    ],
)
def test_the_score_interval_is_the_published_one(
    gained: int, lost: int, n: int, level: float, low: float, high: float
) -> None:
    assert score_interval(gained, lost, n, level) == (pytest.approx(low, abs=6e-4), pytest.approx(high, abs=6e-4))


def test_without_discordant_pairs_the_statistic_is_that_of_n_items() -> None:
    assert float(score_statistic(0, 0, 100, -0.02)) == pytest.approx(math.sqrt(100 * 0.02 / 0.98))


def size(n: int, margin: float, alpha: float) -> float:
    """The largest chance, over all shares of discordant pairs, that a candidate worse by the margin passes."""
    cells = [(b, c) for b, c in product(range(n + 1), repeat=2) if b + c <= n and b - c > -n * margin]
    passing = np.array([(b, c, n - b - c) for b, c in cells if exact_p(b, c, n, -margin, alpha * 0.05) <= alpha])
    if not len(passing):
        return 0.0
    largest = 0.0
    for share in np.linspace(margin, 1.0, 60)[1:-1]:
        chances = np.array([(share - margin) / 2, (share + margin) / 2, 1 - share])
        log = gammaln(n + 1) - gammaln(passing + 1).sum(axis=1) + passing @ np.log(chances)
        largest = max(largest, float(np.exp(log).sum()))
    return largest


@pytest.mark.parametrize("n", [5, 12, 20])
@pytest.mark.parametrize("margin", [0.01, 0.05])
def test_the_exact_test_is_exact(n: int, margin: float) -> None:
    assert size(n, margin, 0.025) <= 0.025


@pytest.mark.long
@pytest.mark.parametrize("n", [30, 50])
@pytest.mark.parametrize("alpha", [0.025, 0.0152, 0.0038])
def test_the_exact_test_is_exact_at_more_items_and_later_looks(n: int, alpha: float) -> None:
    assert max(size(n, margin, alpha) for margin in (0.01, 0.02, 0.05)) <= alpha


def test_five_faultless_pairs_show_little() -> None:
    interval = Discordance(5, 0, 0).interval(0.025)
    assert interval.low < -0.3
    assert interval.high > 0.3


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 200), st.data())
def test_intervals_hold_the_estimate_and_turn_with_the_systems(n: int, data: st.DataObject) -> None:
    gained = data.draw(st.integers(0, n))
    lost = data.draw(st.integers(0, n - gained))
    one, other = Discordance(n, gained, lost).interval(0.02), Discordance(n, lost, gained).interval(0.02)
    assert -1 <= one.low < one.value < one.high <= 1 or (gained == n or lost == n)
    assert (one.low, one.high) == (pytest.approx(-other.high, abs=1e-3), pytest.approx(-other.low, abs=1e-3))


def test_the_kind_of_scores_decides_the_test() -> None:
    right = [Terms(1.0, 1.0), Terms(0.0, 1.0)] * 10
    graded = [Terms(0.5, 1.0), Terms(0.25, 1.0)] * 10
    labels = [label_terms("Yes", "Yes", "Yes"), label_terms("No", "Yes", "Yes")] * 10
    methods = {compare(terms, terms).method for terms in (right, graded, labels)}
    assert len(methods) == 3
    for terms in (right, graded, labels):
        comparison = compare(terms, terms)
        assert (comparison.n, comparison.discordant, comparison.value) == (20, 0, 0.0)
        interval = comparison.interval(0.02)
        assert interval.low < -0.05
        assert interval.high > 0.05
    with pytest.raises(ValueError, match="between 0 and 1"):
        compare([Terms(2.0, 1.0)], [Terms(0.0, 1.0)])
    with pytest.raises(ValueError, match="pairs"):
        compare(right, right[1:])


def graded(rng: np.random.Generator, n: int, loss: float) -> list[list[Terms]]:
    """Scores that are all alike but for rare answers that are worth nothing: the sample's variance often shows 0."""
    reference = np.full(n, 0.9)
    candidate = np.where(rng.uniform(size=n) < loss / 0.9, 0.0, reference)
    return [[Terms(float(x), 1.0) for x in side] for side in (candidate, reference)]


@pytest.mark.parametrize("n", [5, 20, 50, 100, 200])
def test_rare_total_failures_are_not_overlooked_in_graded_scores(n: int) -> None:
    rng = np.random.default_rng(n)
    passed = [compare(*graded(rng, n, 0.05)).p_value(0.05, 0.025) <= 0.025 for _ in range(300)]
    assert np.mean(passed) <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 300)


def test_power_is_about_how_often_an_equal_candidate_passes() -> None:
    rng, n, margin, alpha = np.random.default_rng(2), 400, 0.05, 0.0152
    passed, said = [], []
    for _ in range(150):
        draws = rng.choice(3, size=n, p=[0.9, 0.05, 0.05])
        comparison = Discordance(n, int((draws == 1).sum()), int((draws == 2).sum()))
        passed.append(comparison.p_value(margin, alpha) <= alpha)
        said.append(comparison.power(margin, alpha))
    assert np.mean(said) == pytest.approx(np.mean(passed), abs=0.1)
    scores = [[Terms(float(x), 1.0) for x in rng.uniform(0.4, 1, size=n)] for _ in range(2)]
    assert 0.3 < compare(*scores).power(margin, alpha) <= 1.0


def test_looks_share_what_may_be_spent() -> None:
    assert [spent(0.1, k) for k in (1, 2, 3, 4)] == pytest.approx([0.060793, 0.015198, 0.006755, 0.003800], abs=1e-6)
    assert sum(spent(0.1, k) for k in range(1, 5000)) <= 0.1
    with pytest.raises(ValueError, match="from 1"):
        spent(0.1, 0)
