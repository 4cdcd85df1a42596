"""Tuning hours on other accelerators than those they were counted on."""

import pytest

from bessemer.planner.catalog import load_catalog
from bessemer.planner.fleet.tuning import tuning_needs
from bessemer.planner.fleet.types import Offer
from bessemer.planner.workload import parse_workload

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
    assert need.hours_per_month["h"] == pytest.approx(300)
    assert need.hours_per_month["g"] == pytest.approx(300 * 811 / 1803, rel=0.02)
