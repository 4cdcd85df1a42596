"""Tuning hours on other accelerators than those they were counted on."""

import math

import pytest

from bessemer_planner.catalog import load_catalog
from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.fleet.tuning import effective, tuning_needs
from bessemer_planner.fleet.types import Offer
from bessemer_planner.workload import parse_workload

WORKLOAD = """
name = "x"
[traffic]
requests_per_month = 1e6
prompt_tokens = { mean = 1000 }
output_tokens = { mean = 300 }
[[models]]
name = "qwen3-8b"
[[tuning]]
name = "quarterly"
accelerator_hours = 900
accelerator = "h100_sxm"
every_months = 3
"""


def test_hours_are_converted_by_what_accelerators_reach_in_training() -> None:
    """MLPerf Training v5.1, Llama-3.1-405B on 512 accelerators: H100 811 and GB200 1,803 TFLOP/s each."""
    offers = [
        Offer("h", "h100_sxm", 8, "on_demand", 30.0, committed=False),
        Offer("g", "gb200", 36, "on_demand", 400.0, committed=False),
    ]
    (need,) = tuning_needs(parse_workload(WORKLOAD), load_catalog(), offers)
    assert need.hours_per_month["h"] * need.goodput == pytest.approx(300)
    assert need.hours_per_month["g"] * need.goodput == pytest.approx(300 * 811 / 1803, rel=0.02)


@pytest.mark.parametrize(("size", "lost"), [(1024, 0.014), (4096, 0.054), (16384, 0.215)])
def test_failures_and_checkpoints_add_to_the_declared_hours(size: int, lost: float) -> None:
    """Hourly checkpoints that take no time, restarts of ten minutes, 1.97e-5 failures an accelerator-hour."""
    text = WORKLOAD + f"size = {size}\ncheckpoint_minutes = 60\nsave_seconds = 1e-6\n"
    offers = [Offer("h", "h100_sxm", 8, "on_demand", 30.0, committed=False)]
    (need,) = tuning_needs(parse_workload(text), load_catalog(), offers)
    assert 1 - need.goodput == pytest.approx(lost, abs=0.0006)
    assert need.hours_per_month["h"] == pytest.approx(300 / need.goodput)
    assert need.booked_usd_per_month == pytest.approx(30.0 * math.ceil(900 / need.goodput / 8) / 3)


def test_what_a_run_loses_is_the_workload_s_to_say() -> None:
    (stated,) = parse_workload(WORKLOAD + "failures_per_accelerator_hour = 0.01\nrestart_minutes = 30\n").tuning
    found = effective(stated, load_catalog())
    assert (found.size, found.restart_s, found.goodput.failures_per_day) == (8, 1800.0, pytest.approx(8 * 0.24))
    assert found.goodput.share < effective(parse_workload(WORKLOAD).tuning[0], load_catalog()).goodput.share
    (large,) = parse_workload(WORKLOAD.replace("= 900", "= 1_500_000")).tuning
    assert effective(large, load_catalog()).size == 685
    (hopeless,) = parse_workload(WORKLOAD + "size = 1_000_000\nrestart_minutes = 60\n").tuning
    with pytest.raises(Unsatisfiable, match=r"^tuning 'quarterly': .*nearest: \d+ accelerators"):
        effective(hopeless, load_catalog())
