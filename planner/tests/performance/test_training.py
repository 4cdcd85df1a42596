"""Scaling, goodput and fine-tuning time against published rows and closed forms."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer_planner.catalog import load_catalog
from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.models import model_shape
from bessemer_planner.performance.training import goodput, scaling_efficiency, training_time, young_daly_s

PUBLISHED = [  # mlcommons/training_results_v5.0, llama31_405b: count, batch, against, its batch, efficiency in percent
    (2048, 1152, 512, 1152, 96.9),
    (8192, 1536, 512, 1152, 87.5),
    (2496, 1248, 512, 896, 94.7),
]


@pytest.mark.parametrize(("count", "batch", "base", "base_batch", "percent"), PUBLISHED)
def test_scaling_is_within_five_points(count: int, batch: int, base: int, base_batch: int, percent: float) -> None:
    predicted = scaling_efficiency(count, batch, base_accelerators=base, base_batch=base_batch)
    assert abs(100 * predicted - percent) < 5


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


def test_lora_throughput_is_the_published_one() -> None:
    catalog = load_catalog()
    job = training_time(model_shape("Llama-2-70B"), catalog.accelerator("b200_sxm"), 8, 3500 * 8192, batch=8, lora=True)
    assert job.tokens_s / 8192 == pytest.approx(5.28, rel=0.1)
    assert 60 * job.hours.low < 11.1 < 60 * job.hours.high


def test_training_that_does_not_fit_names_the_count_that_does() -> None:
    h100 = load_catalog().accelerator("h100_sxm")
    with pytest.raises(Unsatisfiable, match=r"nearest: 10\d"):
        training_time(model_shape("Llama-3.1-405B"), h100, 64, 1e9, batch=512)
    assert math.isfinite(training_time(model_shape("Llama-3.1-405B"), h100, 512, 1e9, batch=512).hours.value)
