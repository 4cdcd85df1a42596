"""Intervals and tests against closed forms and golden values (statsmodels' formulas)."""

import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.evals.statistics import binomial_tail, ratio_difference, ratio_interval, terms_interval


def ones(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The terms of a mean."""
    return np.stack([scores, np.ones_like(scores)], axis=1)


def test_a_share_of_right_answers_has_wilsons_interval() -> None:
    interval = terms_interval(ones(np.array([1.0] * 8 + [0.0] * 2)))
    assert (interval.low, interval.high) == (pytest.approx(0.4901625, abs=1e-6), pytest.approx(0.9433178, abs=1e-6))
    assert interval.method == "Wilson"


@given(st.integers(1, 60), st.data())
def test_a_shares_interval_holds_it_and_binomial_tails_add_up(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    p = data.draw(st.floats(0.01, 0.99))
    interval = terms_interval(ones(np.arange(n) < k))
    assert 0 <= interval.low <= k / n + 1e-12
    assert k / n - 1e-12 <= interval.high <= 1
    assert binomial_tail(k, n, p) + binomial_tail(n - k - 1, n, 1 - p) == pytest.approx(1.0)


def test_bootstrap_is_as_wide_as_theory_says() -> None:
    scores = np.random.default_rng(1).normal(size=2000)
    interval = ratio_interval(ones(scores), seed=3)
    assert interval.value == pytest.approx(scores.mean())
    half = 1.96 * scores.std() / np.sqrt(2000)
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.05)


def test_grouped_and_direct_resampling_agree() -> None:
    rng = np.random.default_rng(2)
    rates = (rng.uniform(size=3000) < 0.3).astype(float)
    grouped = ratio_interval(ones(rates))
    direct = ratio_interval(ones(rates + rng.uniform(-1e-9, 1e-9, size=3000)))
    assert (grouped.low, grouped.high) == (pytest.approx(direct.low, abs=0.002), pytest.approx(direct.high, abs=0.002))


def test_pairing_removes_shared_noise() -> None:
    rng = np.random.default_rng(4)
    base = rng.normal(size=500)
    better = base + 0.05 + rng.normal(scale=0.02, size=500)
    interval = ratio_difference(ones(better), ones(base))
    assert interval.low > 0.04
    assert interval.method == "paired bootstrap"
    with pytest.raises(ValueError, match="equally many"):
        ratio_difference(ones(better), ones(base[:-1]))


@settings(max_examples=20)
@given(st.lists(st.sampled_from([(0.0, 0.0), (0.0, 1.0), (2.0, 2.0)]), min_size=3, max_size=40), st.integers(0, 9))
def test_ratio_intervals(items: list[tuple[float, float]], seed: int) -> None:
    terms = np.array([*items, (2.0, 2.0)])
    interval = ratio_interval(terms, resamples=200, seed=seed)
    assert interval.value == pytest.approx(terms[:, 0].sum() / terms[:, 1].sum())
    assert 0 <= interval.low <= interval.high <= 1
    assert interval == ratio_interval(terms, resamples=200, seed=seed)
    shuffled = np.random.default_rng(seed).permutation(terms)
    assert interval == ratio_interval(shuffled, resamples=200, seed=seed)
    same = ratio_difference(terms, terms, resamples=200, seed=seed)
    assert (same.low, same.value, same.high) == (0.0, 0.0, 0.0)


def test_f1_of_thousands_of_items_is_quick() -> None:
    rng = np.random.default_rng(5)
    predicted, actual = rng.uniform(size=(2, 5742)) < 0.2
    terms = np.stack([2.0 * (predicted & actual), predicted + 1.0 * actual], axis=1)
    start = time.perf_counter()
    ratio_difference(terms, terms[::-1])
    assert time.perf_counter() - start < 2.0
