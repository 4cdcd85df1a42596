"""The Azure Retail Prices API, learn.microsoft.com/en-us/rest/api/cost-management/retail-prices/azure-retail-prices.

Reservations are priced for their whole term, not by the hour. Savings plans come nested in consumption rows of API
version 2023-01-01-preview. A spot price equal to pay-as-you-go is a placeholder and is left out.
"""

import msgspec

from bessemer_planner.catalog.catalog import HardwareCatalog
from bessemer_planner.catalog.refresh.rows import amount, cheapest, decode
from bessemer_planner.types import InstancePrice

_HOURS = {"1 Year": 8760.0, "3 Years": 26280.0}
_RESERVED = {"1 Year": "1yr", "3 Years": "3yr"}
_SAVINGS = {"1 Year": "savings_1yr", "3 Years": "savings_3yr"}


class _Savings(msgspec.Struct, frozen=True, rename="camel"):
    retail_price: float
    term: str


class _Item(msgspec.Struct, frozen=True, rename="camel"):
    currency_code: str
    retail_price: float
    arm_region_name: str
    product_name: str
    sku_name: str
    unit_of_measure: str
    arm_sku_name: str
    type: str
    reservation_term: str = ""
    savings_plan: tuple[_Savings, ...] = ()


class _Page(msgspec.Struct, frozen=True):
    items: tuple[_Item, ...] = msgspec.field(name="Items")
    next_page: str | None = msgspec.field(name="NextPageLink", default=None)


def azure_next_page(body: bytes) -> str | None:
    """Return the address of the next page, None on the last one."""
    return decode(body, _Page, "Azure retail prices").next_page or None


def azure_retail(body: bytes, catalog: HardwareCatalog, on: str, source: str) -> tuple[InstancePrice, ...]:
    """Read one page: Linux pay-as-you-go, spot, reservations and savings plans of the catalogue's instances."""
    rows: list[InstancePrice] = []
    for item in decode(body, _Page, "Azure retail prices").items:
        name = item.arm_sku_name.removeprefix("Standard_")
        skip = "Windows" in item.product_name or "Low Priority" in item.sku_name
        if name not in catalog.offers or item.currency_code != "USD" or item.unit_of_measure != "1 Hour" or skip:
            continue
        if item.type == "Reservation" and item.reservation_term in _HOURS:
            hourly = amount(item.retail_price, name) / _HOURS[item.reservation_term]
            rows.append(_row(name, hourly, _RESERVED[item.reservation_term], item, on, source))
        elif item.type == "Consumption":
            term = "spot" if item.sku_name.endswith("Spot") else "on_demand"
            rows.append(_row(name, amount(item.retail_price, name), term, item, on, source))
            for plan in item.savings_plan:
                if plan.term in _SAVINGS and term == "on_demand":
                    usd = amount(plan.retail_price, name)
                    rows.append(_row(name, usd, _SAVINGS[plan.term], item, on, source))
    return _without_placeholders(cheapest(rows))


def _row(name: str, usd: float, term: str, item: _Item, on: str, source: str) -> InstancePrice:
    return InstancePrice(name, round(usd, 6), term, item.arm_region_name, on, source)


def _without_placeholders(rows: tuple[InstancePrice, ...]) -> tuple[InstancePrice, ...]:
    hourly = {(row.instance, row.region): row.usd_per_hour for row in rows if row.term == "on_demand"}
    return tuple(
        row for row in rows if row.term != "spot" or hourly.get((row.instance, row.region)) != row.usd_per_hour
    )
