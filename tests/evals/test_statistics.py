"""Intervals and tests against closed forms and golden values (scipy 1.17, statsmodels' formulas)."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.evals.statistics import (
    binomial_tail,
    clopper_pearson,
    discordant,
    mcnemar_exact,
    mean_difference,
    mean_interval,
    normal_quantile,
    ratio_difference,
    ratio_interval,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (8, 10, 0.4439045, 0.9747893),
        (0, 20, 0.0, 0.1684335),
        (20, 20, 0.8315665, 1.0),
        (430, 1000, 0.3990603, 0.4613530),
    ],
)
def test_clopper_pearson(successes: int, n: int, low: float, high: float) -> None:
    interval = clopper_pearson(successes, n)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=2e-6), pytest.approx(high, abs=2e-6))


def test_wilson() -> None:
    interval = wilson(8, 10)
    assert (interval.low, interval.high) == (pytest.approx(0.4901625, abs=1e-6), pytest.approx(0.9433178, abs=1e-6))


def test_normal_quantile() -> None:
    assert normal_quantile(0.975) == pytest.approx(1.959963985, abs=1e-8)


def test_mcnemar() -> None:
    assert mcnemar_exact(1, 9) == pytest.approx(0.021484375)
    assert mcnemar_exact(0, 0) == 1.0
    assert discordant([True, True, False], [True, False, True]) == (1, 1)


@given(st.integers(1, 60), st.data())
def test_exact_intervals_hold_the_rate_and_binomial_tails_add_up(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    p = data.draw(st.floats(0.01, 0.99))
    for interval in (clopper_pearson(k, n), wilson(k, n)):
        assert 0 <= interval.low <= k / n + 1e-12
        assert k / n - 1e-12 <= interval.high <= 1
    assert binomial_tail(k, n, p) + binomial_tail(n - k - 1, n, 1 - p) == pytest.approx(1.0)


def test_bootstrap_is_as_wide_as_theory_says() -> None:
    scores = np.random.default_rng(1).normal(size=2000)
    interval = mean_interval(scores, seed=3)
    assert interval.value == pytest.approx(scores.mean())
    half = 1.96 * scores.std() / np.sqrt(2000)
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.05)


def test_grouped_and_direct_resampling_agree() -> None:
    rng = np.random.default_rng(2)
    rates = (rng.uniform(size=3000) < 0.3).astype(float)
    grouped = mean_interval(rates)
    direct = mean_interval(rates + rng.uniform(-1e-9, 1e-9, size=3000))
    assert (grouped.low, grouped.high) == (pytest.approx(direct.low, abs=0.002), pytest.approx(direct.high, abs=0.002))


def test_pairing_removes_shared_noise() -> None:
    rng = np.random.default_rng(4)
    base = rng.normal(size=500)
    better = base + 0.05 + rng.normal(scale=0.02, size=500)
    interval = mean_difference(better, base)
    assert interval.low > 0.04
    assert interval.method == "paired bootstrap"
    with pytest.raises(ValueError, match="equally many"):
        mean_difference(better, base[:-1])


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
