"""The shipped catalogue and its figures, once."""

import pytest

from bessemer_planner.catalog import HardwareCatalog, load_catalog
from bessemer_planner.economics import Assumptions, default_assumptions


@pytest.fixture(scope="session")
def catalog() -> HardwareCatalog:
    return load_catalog()


@pytest.fixture(scope="session")
def assumptions(catalog: HardwareCatalog) -> Assumptions:
    return default_assumptions(catalog)
