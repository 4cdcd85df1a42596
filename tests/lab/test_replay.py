"""The record of a real vLLM server, replayed with step times that never saw it."""

from pathlib import Path

import pytest

from lab.planner import replay

RECORD = Path(__file__).resolve().parents[3] / "shared" / "data" / "planner" / "rtxpro6000"


@pytest.mark.skipif(not RECORD.exists(), reason="the record is not in ../shared/data")
def test_the_record_is_replayed_within_its_limits() -> None:
    errors = replay.measure(RECORD)
    assert errors is not None
    assert abs(errors["latency_error"]) <= 10
    assert abs(errors["ttft_p90_error"]) <= 20


@pytest.mark.skipif(not RECORD.exists(), reason="the record is not in ../shared/data")
def test_two_cards_without_nvlink_are_as_slow_as_their_links() -> None:
    errors = replay.two_cards(RECORD)
    assert errors is not None
    assert {name: abs(one["tpot_mean_error"]) <= 12 for name, one in errors.items()} == dict.fromkeys(errors, True)


def test_equal_beginnings_share_their_blocks_and_later_ones_do_not() -> None:
    first, second = list(range(40)), [*range(16), 99, *range(17, 40)]
    found = replay.blocks([first, second, first])
    assert found.offsets.tolist() == [0, 2, 4, 6]
    one, two, three = (found.hashes[start : start + 2].tolist() for start in (0, 2, 4))
    assert one == three
    assert one[0] == two[0]
    assert one[1] != two[1]
