"""Goodput against published rows and closed forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.performance.training import goodput, young_daly_s


@pytest.mark.parametrize(("count", "lost"), [(1024, 0.0135), (4096, 0.0538), (16384, 0.215)])
def test_hourly_checkpoints_lose_what_failures_cost(count: int, lost: float) -> None:
    assert 1 - goodput(count, checkpoint_s=3600, save_s=1e-6).share == pytest.approx(lost, abs=0.001)


@given(save=st.floats(1, 300), count=st.integers(8, 4096))
def test_the_young_daly_interval_is_the_best_one(save: float, count: int) -> None:
    best = young_daly_s(save, count)
    share = goodput(count, save_s=save, restart_s=0, checkpoint_s=best).share
    for factor in (0.5, 2.0):
        other = best * factor
        assume_long = other > save
        if assume_long:
            assert share >= goodput(count, save_s=save, restart_s=0, checkpoint_s=other).share - 2e-3


def test_more_accelerators_than_can_stay_up_are_refused() -> None:
    with pytest.raises(Unsatisfiable, match="nearest"):
        goodput(400_000, checkpoint_s=3600)
