"""Reading the vendors' public price files: bytes in, dated price rows out. Who fetches the bytes is no matter here.

A parser knows one format, keeps the instances of the catalogue and refuses a price of zero. Rows carry the day on which
the file was read and where it came from; `HardwareCatalog.with_prices` appends them without touching history.
"""

from collections.abc import Callable

import msgspec

from bessemer_planner.catalog.catalog import HardwareCatalog
from bessemer_planner.catalog.refresh.aws import (
    aws_capacity_blocks,
    aws_offer_csv,
    aws_offer_json,
    aws_savings_plan,
    aws_sheet,
)
from bessemer_planner.catalog.refresh.azure import azure_next_page, azure_retail
from bessemer_planner.catalog.refresh.oci import oci_products
from bessemer_planner.types import InstancePrice

Parser = Callable[[bytes, HardwareCatalog, str, str], tuple[InstancePrice, ...]]
"""(body, catalogue, day of reading as ISO date, where it came from) -> rows. Raises InputError with one line."""

PARSERS: dict[str, Parser] = {
    "aws-sheet": aws_sheet,
    "aws-offer-json": aws_offer_json,
    "aws-offer-csv": aws_offer_csv,
    "aws-savings-plan": aws_savings_plan,
    "aws-capacity-blocks": aws_capacity_blocks,
    "azure-retail": azure_retail,
    "oci-products": oci_products,
}
"""Formats by name, for files that are already at hand."""


class Feed(msgspec.Struct, frozen=True):
    """A public price file: keyless, and small enough to fetch (AWS's offer files have hundreds of megabytes)."""

    name: str
    url: str
    parser: Parser
    next_page: Callable[[bytes], str | None] | None = None
    """Address of the next page, when the answer comes in pages."""


_SHEET = "https://b0.p.awsstatic.com/pricing/2.0/meteredUnitMaps/ec2/USD/current/ec2-ondemand-without-sec-sel/{}/Linux/index.json"
_AZURE = (
    "https://prices.azure.com/api/retail/prices?api-version=2023-01-01-preview&$filter="
    "serviceName%20eq%20%27Virtual%20Machines%27%20and%20armSkuName%20eq%20%27Standard_{}%27"
)
_LOCATIONS = ("US East (N. Virginia)", "US East (Ohio)", "US West (Oregon)", "EU (Frankfurt)", "EU (Stockholm)")


def feeds(catalog: HardwareCatalog) -> tuple[Feed, ...]:
    """Return the price files that cover the catalogue's AWS, Azure and OCI instances."""
    sheets = (Feed(f"AWS on demand, {place}", _SHEET.format(_quoted(place)), aws_sheet) for place in _LOCATIONS)
    azure = (
        Feed(f"Azure {instance.name}", _AZURE.format(instance.name), azure_retail, azure_next_page)
        for instance in catalog.instances(provider="Azure")
    )
    return (
        *sheets,
        Feed(
            "AWS Capacity Blocks",
            "https://raw.githubusercontent.com/koyakimu/ec2-capacity-blocks-for-ml-pricing-json/main/data/pricing.json",
            aws_capacity_blocks,
        ),
        *azure,
        Feed(
            "OCI",
            "https://apexapps.oracle.com/pls/apex/cetools/api/v1/products/?currencyCode=USD",
            oci_products,
        ),
    )


def _quoted(place: str) -> str:
    return place.replace(" ", "%20")


__all__ = ["PARSERS", "Feed", "Parser", "feeds"]
