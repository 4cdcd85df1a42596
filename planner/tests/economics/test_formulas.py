"""Closed forms against numbers worked out by hand or published."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer_planner.economics.money import capital_recovery, npv, residual, value_of_launch
from bessemer_planner.economics.network import (
    cost_of_lost_utilisation,
    fleet_where_loss_exceeds,
    network_loss,
    step_time,
)
from bessemer_planner.economics.reliability import availability, k_of_n, spares
from bessemer_planner.errors import PlannerError, Unsatisfiable
from bessemer_planner.performance.training import FAILURES_PER_ACCELERATOR_HOUR, goodput, young_daly_s

LLAMA_3 = 419 / (54 * 24 * 16_384)
"""Unexpected interruptions per GPU hour, arXiv 2407.21783."""


def test_npv_of_a_repaid_loan_is_zero() -> None:
    cash = np.zeros((1, 13))
    cash[0, 0], cash[0, 12] = -1000.0, 1100.0
    assert npv(cash, np.array([0.10]))[0] == pytest.approx(0.0, abs=1e-9)


def test_capital_recovery_factor() -> None:
    assert capital_recovery(np.array([0.10]), np.array([5.0]))[0] == pytest.approx(0.2637974808, rel=1e-9)


@given(st.floats(0.001, 0.2), st.integers(1, 120))
def test_level_payments_repay_what_was_borrowed(rate: float, periods: int) -> None:
    payment = capital_recovery(np.array([rate]), np.array([float(periods)]))[0]
    assert sum(payment / (1 + rate) ** period for period in range(1, periods + 1)) == pytest.approx(1.0)


def test_residual_halves_along_a_curve() -> None:
    assert residual(np.array([0.2]), np.array([36.0]))[0] == pytest.approx(0.2)
    assert residual(np.array([0.2]), np.array([18.0]))[0] == pytest.approx(math.sqrt(0.2))


def test_value_of_launch_halves_its_fleeting_part_each_generation() -> None:
    late = value_of_launch(np.array([0.0, 6.0, 12.0]), np.full(3, 6.0), np.full(3, 0.5))
    assert late.tolist() == [1.0, 0.75, 0.625]


def test_llama_3_failure_rate() -> None:
    assert pytest.approx(LLAMA_3, rel=0.005) == FAILURES_PER_ACCELERATOR_HOUR


@pytest.mark.parametrize(("accelerators", "lost"), [(1024, 0.0134), (4096, 0.0538), (16_384, 0.2152)])
def test_goodput_with_hourly_checkpoints_and_ten_minute_restarts(accelerators: int, lost: float) -> None:
    kept = goodput(accelerators, save_s=0.0, restart_s=600.0, checkpoint_s=3600.0)
    assert 1.0 - kept.share == pytest.approx(lost, abs=1e-4)


def test_young_daly() -> None:
    """sqrt(2 x 60 s / (1024 x 1.97e-5 / 3600 s))."""
    assert young_daly_s(60.0, 1024) == pytest.approx(4627.6, abs=0.5)


@given(st.floats(1.0, 60.0), st.integers(8, 2048), st.floats(0.2, 5.0))
def test_no_interval_keeps_more_than_young_dalys(save: float, count: int, factor: float) -> None:
    """To first order; where failures are rare and restarts take no time."""
    best = young_daly_s(save, count)
    other = max(best * factor, save)
    at_best, elsewhere = (goodput(count, save_s=save, restart_s=0.0, checkpoint_s=one).share for one in (best, other))
    assert at_best >= elsewhere - 0.01


def test_k_of_n() -> None:
    assert k_of_n(2, 3, 0.9) == pytest.approx(0.972)
    assert k_of_n(0, 3, 0.1) == 1.0
    assert k_of_n(4, 3, 0.9) == 0.0
    assert availability(1e-2, 100.0) == 0.5


@given(st.integers(1, 8), st.integers(0, 4), st.floats(0.05, 0.95))
def test_k_of_n_equals_counting_all_outcomes(k: int, extra: int, up: float) -> None:
    n = k + extra
    total = sum(
        math.prod(up if one else 1 - up for one in outcome)
        for outcome in itertools.product((0, 1), repeat=n)
        if sum(outcome) >= k
    )
    assert k_of_n(k, n, up) == pytest.approx(total)


@given(st.integers(1, 300), st.floats(0.9, 0.99999))
def test_spares_are_the_fewest_that_reach_the_target(needed: int, up: float) -> None:
    extra = spares(needed, up)
    assert k_of_n(needed, needed + extra, up) >= 0.999
    assert extra == 0 or k_of_n(needed, needed + extra - 1, up) < 0.999


def test_spares_do_not_help_machines_that_are_always_down() -> None:
    with pytest.raises(Unsatisfiable, match="shorten the repair"):
        spares(100, 0.01)


def test_step_time_is_compute_or_what_communication_leaves() -> None:
    assert step_time(1.0, 100e9, 50e9, 1.0, overlap=0.6) == 1.0
    assert step_time(1.0, 100e9, 50e9, 0.5, overlap=0.6) == pytest.approx(1.6)
    with pytest.raises(PlannerError):
        step_time(1.0, 1.0, 1.0, 0.0, overlap=0.0)


def test_a_misconfigured_network_loses_utilisation() -> None:
    loss = network_loss(1.0, 100e9, 50e9, 0.5, overlap=0.6)
    assert loss.utilisation == pytest.approx(1 / 1.6)
    assert loss.lost == pytest.approx(1 - 1 / 1.6)
    assert network_loss(1.0, 100e9, 50e9, 1.0, overlap=0.6).lost == 0.0


def test_price_of_ten_percent() -> None:
    assert cost_of_lost_utilisation(3000, 10.58, 0.10) == pytest.approx(27.8e6, rel=0.001)
    assert fleet_where_loss_exceeds(1e6, 10.58, 0.10) == pytest.approx(107.9, abs=0.1)
