"""The shipped catalogue, for what is measured of the planner."""

import pytest

from bessemer_planner.catalog import HardwareCatalog, load_catalog


@pytest.fixture(scope="session")
def catalog() -> HardwareCatalog:
    return load_catalog()
