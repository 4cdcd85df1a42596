"""What can be rented or bought: accelerators, instances, dated prices, and the parts of a data centre."""

from bessemer_planner.catalog.catalog import HardwareCatalog, load_catalog
from bessemer_planner.catalog.figures import Figure, System
from bessemer_planner.catalog.tables import Announced, append_prices, read_price_file, read_prices, write_prices

__all__ = [
    "Announced",
    "Figure",
    "HardwareCatalog",
    "System",
    "append_prices",
    "load_catalog",
    "read_price_file",
    "read_prices",
    "write_prices",
]
