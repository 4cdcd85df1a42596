"""Scaling of full training against published rows."""

import pytest

from lab.planner.scaling import scaling_efficiency

PUBLISHED = [  # mlcommons/training_results_v5.0, llama31_405b: count, batch, against, its batch, efficiency in percent
    (2048, 1152, 512, 1152, 96.9),
    (8192, 1536, 512, 1152, 87.5),
    (2496, 1248, 512, 896, 94.7),
]


@pytest.mark.parametrize(("count", "batch", "base", "base_batch", "percent"), PUBLISHED)
def test_scaling_is_within_five_points(count: int, batch: int, base: int, base_batch: int, percent: float) -> None:
    predicted = scaling_efficiency(count, batch, base_accelerators=base, base_batch=base_batch)
    assert abs(100 * predicted - percent) < 5
