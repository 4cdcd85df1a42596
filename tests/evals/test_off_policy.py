"""Off-policy estimates: the golden vector, unbiasedness, and when nothing is concluded."""

import numpy as np
import pytest

from bessemer.evals.off_policy import off_policy_value

R, LOGGED, POLICY = [1, 0, 1, 0], [0.5, 0.25, 0.8, 0.1], [0.9, 0.5, 0.2, 0.4]
Q, Q_POLICY = [0.8, 0.3, 0.6, 0.2], [0.75, 0.4, 0.5, 0.3]


def test_l12_golden_vector() -> None:
    found = off_policy_value(R, LOGGED, POLICY, Q, Q_POLICY)
    assert found.ips == pytest.approx(0.5125)
    assert found.snips.value == pytest.approx(0.254658, abs=1e-6)
    assert found.dm == pytest.approx(0.4875)
    assert found.dr.value == pytest.approx(0.2525)
    assert found.effective == pytest.approx(2.780925, abs=1e-6)
    assert found.conclusive


def test_l12_doubly_robust_covers_the_value_with_a_wrong_model() -> None:
    truth, logging, policy = (np.array(v) for v in ([0.9, 0.5, 0.2], [0.2, 0.5, 0.3], [0.7, 0.2, 0.1]))
    wrong, held = np.array([0.3, 0.3, 0.9]), 0
    value, estimates = float(truth @ policy), []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a = rng.choice(3, size=300, p=logging)
        r = (rng.uniform(size=300) < truth[a]).astype(float)
        found = off_policy_value(r, logging[a], policy[a], wrong[a], np.full(300, wrong @ policy))
        estimates.append([found.ips, found.dr.value])
        held += found.dr.low <= value <= found.dr.high
    assert np.mean(estimates, axis=0) == pytest.approx([value, value], abs=0.015)
    assert held / 200 > 0.9
    assert abs(float(wrong @ policy) - value) > 0.2


def test_a_policy_that_the_log_says_little_of_is_not_concluded_about() -> None:
    n = 200
    chances = np.where(np.arange(n) < 5, 0.01, 0.99)
    found = off_policy_value(np.ones(n), chances, np.where(np.arange(n) < 5, 0.99, 0.01), np.ones(n), np.ones(n))
    assert found.effective < 6
    assert not found.conclusive
    never = off_policy_value(np.ones(n), chances, np.zeros(n), np.ones(n), np.ones(n))
    assert np.isnan(never.snips.value)
    assert not never.conclusive


def test_bad_columns_are_refused() -> None:
    for logged in ([0.0, 0.25, 0.8, 0.1], [0.5], [1.5, 1, 1, 1]):
        with pytest.raises(ValueError, match=r"probability|many"):
            off_policy_value(R, logged, POLICY, Q, Q_POLICY)
    with pytest.raises(ValueError, match="items"):
        off_policy_value([], [], [], [], [])
