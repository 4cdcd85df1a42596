"""What a job does by itself where its request says `auto`."""

import pytest

from bessemer.tuning.run import auto_epochs


@pytest.mark.parametrize(("rows", "epochs"), [(50, 10.0), (240, 10.0), (800, 3.0), (1142, 2400 / 1142), (20_000, 2.0)])
def test_demonstrations_are_seen_a_few_times_whatever_the_time_limit(rows: int, epochs: float) -> None:
    assert auto_epochs("sft", rows, limited=True) == auto_epochs("sft", rows, limited=False) == epochs


def test_rewards_are_asked_for_as_long_as_the_time_lasts() -> None:
    assert auto_epochs("exact", 1000, limited=True) == 10.0
    assert auto_epochs("grpo", 1000, limited=False) == 3.0


def test_rows_that_are_read_anew_are_read_more_often() -> None:
    assert auto_epochs("sft", 1200, limited=True, anew=True) == 3.0
    assert auto_epochs("sft", 100, limited=True, anew=True) == 10.0
