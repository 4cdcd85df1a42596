"""What a job does by itself where its request says `auto`."""

import pytest

from bessemer.tuning.methods import named
from bessemer.tuning.options import Options

LIMITED, UNLIMITED = Options(max_seconds=60.0), Options()


@pytest.mark.parametrize(("rows", "epochs"), [(50, 10.0), (240, 10.0), (800, 3.0), (1142, 2400 / 1142), (20_000, 2.0)])
def test_demonstrations_are_seen_a_few_times_whatever_the_time_limit(rows: int, epochs: float) -> None:
    assert named("sft").epochs(rows, LIMITED) == named("sft").epochs(rows, UNLIMITED) == epochs


def test_rewards_are_asked_for_as_long_as_the_time_lasts() -> None:
    assert named("exact").epochs(1000, LIMITED) == 10.0
    assert named("grpo").epochs(1000, UNLIMITED) == 3.0


def test_rows_that_are_read_anew_are_read_more_often() -> None:
    anew = Options(mention_replacement=0.5)
    assert named("sft").epochs(1200, anew) == 3.0
    assert named("sft").epochs(100, anew) == 10.0
