"""Measured files beside the repository, where they are."""

from pathlib import Path

import pytest

from bessemer_planner.catalog import HardwareCatalog, load_catalog

DATA = Path(__file__).parents[3].parent / "shared" / "data" / "planner"


@pytest.fixture(scope="session")
def measured() -> Path:
    path = DATA / "measured_ttft_tpot.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


@pytest.fixture(scope="session")
def catalog() -> HardwareCatalog:
    return load_catalog()
