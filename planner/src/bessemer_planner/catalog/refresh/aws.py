"""AWS's public price files: the on-demand sheet, the EC2 offer file (JSON and CSV), Savings Plans, Capacity Blocks.

Formats: docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/reading-service-price-list-files; the sheet is what
aws.amazon.com/ec2/pricing/on-demand reads; Capacity Blocks are the page as the repository
koyakimu/ec2-capacity-blocks-for-ml-pricing-json records it.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable

import msgspec

from bessemer_planner.catalog.catalog import HardwareCatalog
from bessemer_planner.catalog.refresh.rows import amount, cheapest, decode
from bessemer_planner.errors import InputError
from bessemer_planner.types import InstancePrice

_REGIONS = {
    "US East (N. Virginia)": "us-east-1",
    "US East (Ohio)": "us-east-2",
    "US West (N. California)": "us-west-1",
    "US West (Oregon)": "us-west-2",
    "EU (Frankfurt)": "eu-central-1",
    "EU (Ireland)": "eu-west-1",
    "EU (London)": "eu-west-2",
    "EU (Paris)": "eu-west-3",
    "EU (Milan)": "eu-south-1",
    "EU (Spain)": "eu-south-2",
    "EU (Stockholm)": "eu-north-1",
    "EU (Zurich)": "eu-central-2",
    "Asia Pacific (Tokyo)": "ap-northeast-1",
    "Asia Pacific (Mumbai)": "ap-south-1",
}
_YEARS = {"1yr": 1, "3yr": 3}
_HOURS_PER_YEAR = 8760.0  # of a contract: the vendor counts 365 days
_CSV_PREAMBLE = 5
"""Lines of metadata before the column names."""


class _SheetRow(msgspec.Struct, frozen=True):
    price: str
    instance: str = msgspec.field(name="Instance Type")


class _Sheet(msgspec.Struct, frozen=True):
    regions: dict[str, dict[str, _SheetRow]]


def aws_sheet(body: bytes, catalog: HardwareCatalog, on: str, source: str) -> tuple[InstancePrice, ...]:
    """Read the sheet behind the on-demand page: Linux, one location, about 60 kB."""
    rows = []
    for place, entries in decode(body, _Sheet, "AWS on-demand sheet").regions.items():
        region = _REGIONS.get(place.replace("Europe (", "EU ("))
        if region is None:
            raise InputError(f"AWS on-demand sheet: the region code of {place!r} is not known; add it to the parser")
        for entry in entries.values():
            if entry.instance in catalog.offers:
                usd = amount(entry.price, entry.instance)
                rows.append(InstancePrice(entry.instance, usd, "on_demand", region, on, source))
    return cheapest(rows)


class _Attributes(msgspec.Struct, frozen=True, rename="camel"):
    instance_type: str = ""
    region_code: str = ""
    operating_system: str = ""
    tenancy: str = ""
    pre_installed_sw: str = ""
    capacitystatus: str = ""


class _Product(msgspec.Struct, frozen=True):
    attributes: _Attributes


class _Dimension(msgspec.Struct, frozen=True, rename="camel"):
    unit: str
    price_per_unit: dict[str, str]


class _TermAttributes(msgspec.Struct, frozen=True):
    lease: str = msgspec.field(name="LeaseContractLength", default="")
    offering: str = msgspec.field(name="OfferingClass", default="")


class _Term(msgspec.Struct, frozen=True, rename="camel"):
    price_dimensions: dict[str, _Dimension]
    term_attributes: _TermAttributes = _TermAttributes()


class _Terms(msgspec.Struct, frozen=True):
    on_demand: dict[str, dict[str, _Term]] = msgspec.field(name="OnDemand", default_factory=dict)
    reserved: dict[str, dict[str, _Term]] = msgspec.field(name="Reserved", default_factory=dict)


class _Offer(msgspec.Struct, frozen=True):
    products: dict[str, _Product]
    terms: _Terms


def aws_offer_json(body: bytes, catalog: HardwareCatalog, on: str, source: str) -> tuple[InstancePrice, ...]:
    """Read an EC2 offer file (`offers/v1.0/aws/AmazonEC2/current/<region>/index.json`): on demand and reserved.

    Reserved prices are effective ones: what is paid upfront is spread over the hours of the term.
    """
    offer = decode(body, _Offer, "AWS offer file")
    rows = []
    for sku, product in offer.products.items():
        what = product.attributes
        plain = (what.operating_system, what.tenancy, what.pre_installed_sw, what.capacitystatus)
        if what.instance_type not in catalog.offers or plain != ("Linux", "Shared", "NA", "Used"):
            continue
        terms = [("on_demand", term) for term in offer.terms.on_demand.get(sku, {}).values()]
        terms += [
            (term.term_attributes.lease, term)
            for term in offer.terms.reserved.get(sku, {}).values()
            if term.term_attributes.lease in _YEARS and term.term_attributes.offering == "standard"
        ]
        for name, term in terms:
            parts = [(one.unit, one.price_per_unit.get("USD", "")) for one in term.price_dimensions.values()]
            usd = _effective(parts, name, what.instance_type)
            rows.append(InstancePrice(what.instance_type, usd, name, what.region_code, on, source))
    return cheapest(rows)


def aws_offer_csv(body: bytes, catalog: HardwareCatalog, on: str, source: str) -> tuple[InstancePrice, ...]:
    """Read the same offer file as CSV: five lines of metadata, then column names."""
    lines = body.decode("utf-8").splitlines()[_CSV_PREAMBLE:]
    reader = csv.DictReader(io.StringIO("\n".join(lines)))
    needed = {"SKU", "OfferTermCode", "TermType", "Unit", "PricePerUnit", "Currency", "Instance Type", "Region Code"}
    missing = needed - set(reader.fieldnames or ())
    if missing:
        raise InputError(f"AWS offer CSV: column {min(missing)!r} is missing on line {_CSV_PREAMBLE + 1}")
    parts: dict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
    for row in reader:
        if row["Instance Type"] not in catalog.offers or row["Currency"] != "USD" or not _plain(row):
            continue
        term = "on_demand" if row["TermType"] == "OnDemand" else row.get("LeaseContractLength", "")
        if term == "on_demand" or (term in _YEARS and row.get("OfferingClass") == "standard"):
            key = (row["Instance Type"], f"{term} {row['SKU']} {row['OfferTermCode']}", row["Region Code"])
            parts[key].append((row["Unit"], row["PricePerUnit"]))
    return cheapest(
        InstancePrice(instance, _effective(values, offer.split()[0], instance), offer.split()[0], region, on, source)
        for (instance, offer, region), values in parts.items()
    )


def _plain(row: dict[str, str]) -> bool:
    return (
        row.get("Operating System") == "Linux"
        and row.get("Tenancy") == "Shared"
        and row.get("Pre Installed S/W") in ("NA", "")
        and row.get("CapacityStatus") in ("Used", "")
    )


def _effective(parts: Iterable[tuple[str, str]], term: str, instance: str) -> float:
    """Return USD per hour: hourly parts, and upfront ones (`Quantity`) over the hours of the term."""
    total = 0.0
    for unit, usd in parts:
        try:
            value = float(usd)
        except ValueError:
            raise InputError(f"{instance}: {usd!r} is not a price in USD") from None
        total += value / (_YEARS[term] * _HOURS_PER_YEAR) if unit == "Quantity" and term in _YEARS else value
    return amount(total, f"{instance} {term}")


class _Rate(msgspec.Struct, frozen=True, rename="camel"):
    discounted_usage_type: str
    discounted_operation: str
    discounted_rate: dict[str, str]
    unit: str
    discounted_region_code: str = ""


class _Lease(msgspec.Struct, frozen=True):
    duration: int
    unit: str


class _Plan(msgspec.Struct, frozen=True, rename="camel"):
    lease_contract_length: _Lease
    rates: tuple[_Rate, ...]


class _PlanTerms(msgspec.Struct, frozen=True, rename="camel"):
    savings_plan: tuple[_Plan, ...]


class _Plans(msgspec.Struct, frozen=True):
    terms: _PlanTerms
    region: str = msgspec.field(name="regionCode", default="")


def aws_savings_plan(body: bytes, catalog: HardwareCatalog, on: str, source: str) -> tuple[InstancePrice, ...]:
    """Read a Compute Savings Plan file (`savingsPlan/v1.0/aws/AWSComputeSavingsPlan/<version>/<region>/index.json`).

    Only Linux on shared hardware (`BoxUsage:<type>`, operation `RunInstances`); the cheapest way to pay for each term.
    """
    plans = decode(body, _Plans, "AWS Savings Plan file")
    rows = []
    for plan in plans.terms.savings_plan:
        term = {1: "savings_1yr", 3: "savings_3yr"}.get(plan.lease_contract_length.duration)
        if term is None or plan.lease_contract_length.unit != "year":
            continue
        for rate in plan.rates:
            usage, _, instance = rate.discounted_usage_type.rpartition(":")
            if not usage.endswith("BoxUsage") or rate.discounted_operation != "RunInstances" or rate.unit != "Hrs":
                continue
            region = rate.discounted_region_code or plans.region
            if instance in catalog.offers and region and rate.discounted_rate.get("currency") == "USD":
                usd = amount(rate.discounted_rate["price"], f"{instance} {term}")
                rows.append(InstancePrice(instance, usd, term, region, on, source))
    return cheapest(rows)


class _BlockRegion(msgspec.Struct, frozen=True):
    region_code: str
    hourly_rate_usd: float
    accelerator_hourly_rate_usd: float


class _BlockType(msgspec.Struct, frozen=True):
    accelerator_count: int
    pricing: tuple[_BlockRegion, ...]


class _BlockMetadata(msgspec.Struct, frozen=True):
    last_updated: str
    source_url: str


class _Blocks(msgspec.Struct, frozen=True):
    metadata: _BlockMetadata
    instance_types: dict[str, _BlockType]


def aws_capacity_blocks(body: bytes, catalog: HardwareCatalog, on: str, source: str) -> tuple[InstancePrice, ...]:
    """Read the recorded Capacity Blocks page; rows carry the day on which the page was recorded, not `on`.

    The page prices UltraServers (`u-...`) by accelerator, everything else by instance.
    """
    blocks = decode(body, _Blocks, "Capacity Blocks file")
    day = blocks.metadata.last_updated[:10]
    if day > on:
        raise InputError(f"Capacity Blocks file: recorded on {day}, after {on}; check the clock")
    rows = []
    for name, block in blocks.instance_types.items():
        if name not in catalog.offers:
            continue
        if block.accelerator_count != catalog.instance(name).count:
            raise InputError(f"Capacity Blocks file: {name} has {block.accelerator_count} accelerators there")
        for place in block.pricing:
            usd = amount(place.hourly_rate_usd, name)
            if name.startswith("u-") and place.accelerator_hourly_rate_usd == 0:
                usd = round(usd * block.accelerator_count, 6)
            where = f"{source} (of {blocks.metadata.source_url})"
            rows.append(InstancePrice(name, usd, "capacity_block", place.region_code, day, where))
    return cheapest(rows)
