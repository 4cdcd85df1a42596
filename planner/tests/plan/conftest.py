"""One small plan that the tests of this folder look at."""

import pytest

from bessemer_planner.catalog import HardwareCatalog, load_catalog
from bessemer_planner.plan import Plan, make_plan
from bessemer_planner.workload import parse_workload

SMALL = """
name = "small"
[traffic]
requests_per_month = 2_000_000
batch_share = 0.2
prompt_tokens = { mean = 800, p95 = 2000 }
output_tokens = { mean = 200, p95 = 500 }
[[models]]
name = "llama-3.1-8b"
[[models]]
name = "llama-3.1-70b"
[cascade]
small = "llama-3.1-8b"
large = "llama-3.1-70b"
escalated = 0.2
[limits]
ttft_s = 2.0
tpot_s = 0.06
[[tuning]]
name = "quarterly"
accelerator_hours = 200
[fleet]
accelerators = ["h100_sxm", "b200_sxm"]
"""


@pytest.fixture(scope="session")
def catalog() -> HardwareCatalog:
    """The shipped catalogue."""
    return load_catalog()


@pytest.fixture(scope="session")
def heard() -> list[str]:
    """What the planner said while it worked."""
    return []


@pytest.fixture(scope="session")
def plan(catalog: HardwareCatalog, heard: list[str]) -> Plan:
    """The small plan."""
    return make_plan(parse_workload(SMALL), catalog, heard.append)
