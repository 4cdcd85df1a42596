"""Small samples in the vendors' own formats, and what the traps in them must become."""

import json
from typing import Any

import pytest

from bessemer_planner.catalog import HardwareCatalog, load_catalog
from bessemer_planner.catalog.refresh import PARSERS, feeds
from bessemer_planner.catalog.refresh.azure import azure_next_page
from bessemer_planner.errors import InputError

DAY = "2026-10-05"
CATALOG = load_catalog()


def parsed(name: str, body: bytes, catalog: HardwareCatalog = CATALOG) -> dict[tuple[str, str, str], float]:
    rows = PARSERS[name](body, catalog, DAY, "test")
    assert all(row.source.startswith("test") for row in rows)
    found = {(row.instance, row.term, row.region): row.usd_per_hour for row in rows}
    assert len(found) == len(rows)
    return found


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


SHEET = {
    "manifest": {"serviceId": "ec2", "currencyCode": "USD", "hawkFilePublicationDate": "2026-10-02T17:45:21Z"},
    "sets": {},
    "regions": {
        "US East (N. Virginia)": {
            "p6 b200 48xlarge Linux": {
                "rateCode": "ABC.JRTCKXETXF.6YS6EN2CT7",
                "price": "113.9328000000",
                "Location": "US East (N. Virginia)",
                "Instance Type": "p6-b200.48xlarge",
                "vCPU": "192",
                "Operating System": "Linux",
            },
            "t3 micro Linux": {
                "rateCode": "DEF.JRTCKXETXF.6YS6EN2CT7",
                "price": "0.0104000000",
                "Location": "US East (N. Virginia)",
                "Instance Type": "t3.micro",
            },
        },
        "Europe (Stockholm)": {"x": {"price": "70.1", "Instance Type": "p5en.48xlarge"}},
    },
}


def test_aws_sheet() -> None:
    assert parsed("aws-sheet", encoded(SHEET)) == {
        ("p6-b200.48xlarge", "on_demand", "us-east-1"): 113.9328,
        ("p5en.48xlarge", "on_demand", "eu-north-1"): 70.1,
    }


def test_a_region_or_price_that_is_not_known_is_refused() -> None:
    with pytest.raises(InputError, match="region code of 'Moon'"):
        parsed("aws-sheet", encoded({"regions": {"Moon": {}}}))
    free = {"regions": {"EU (Frankfurt)": {"x": {"price": "0.0000000000", "Instance Type": "p5.48xlarge"}}}}
    with pytest.raises(InputError, match="a price of 0 is refused"):
        parsed("aws-sheet", encoded(free))


def dimension(unit: str, usd: str) -> dict[str, Any]:
    return {"rateCode": "r", "unit": unit, "endRange": "Inf", "pricePerUnit": {"USD": usd}}


def product(instance: str, **changes: str) -> dict[str, Any]:
    attributes = {
        "instanceType": instance,
        "regionCode": "us-east-1",
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    return {"sku": "s", "productFamily": "Compute Instance", "attributes": attributes | changes}


OFFER = {
    "formatVersion": "v1.0",
    "offerCode": "AmazonEC2",
    "products": {
        "P5": product("p5.48xlarge"),
        "P5WIN": product("p5.48xlarge", operatingSystem="Windows"),
        "P5RES": product("p5.48xlarge", capacitystatus="UnusedCapacityReservation"),
        "T3": product("t3.micro"),
    },
    "terms": {
        "OnDemand": {
            "P5": {"P5.J": {"priceDimensions": {"a": dimension("Hrs", "55.0400000000")}, "termAttributes": {}}},
            "P5WIN": {"P5WIN.J": {"priceDimensions": {"a": dimension("Hrs", "70")}, "termAttributes": {}}},
            "P5RES": {"P5RES.J": {"priceDimensions": {"a": dimension("Hrs", "0")}, "termAttributes": {}}},
        },
        "Reserved": {
            "P5": {
                "none": {
                    "priceDimensions": {"a": dimension("Hrs", "25.0")},
                    "termAttributes": {"LeaseContractLength": "3yr", "OfferingClass": "standard"},
                },
                "all": {
                    "priceDimensions": {"a": dimension("Quantity", "604440"), "b": dimension("Hrs", "0.0")},
                    "termAttributes": {"LeaseContractLength": "3yr", "OfferingClass": "standard"},
                },
                "convertible": {
                    "priceDimensions": {"a": dimension("Hrs", "1.0")},
                    "termAttributes": {"LeaseContractLength": "3yr", "OfferingClass": "convertible"},
                },
            }
        },
    },
}


def test_aws_offer_json_spreads_upfront_payments_over_the_term() -> None:
    assert parsed("aws-offer-json", encoded(OFFER)) == {
        ("p5.48xlarge", "on_demand", "us-east-1"): 55.04,
        ("p5.48xlarge", "3yr", "us-east-1"): pytest.approx(604_440 / 26_280),
    }


OFFER_CSV = """"FormatVersion","v1.0"
"Disclaimer","This pricing list is for informational purposes only."
"Publication Date","2026-10-02T20:59:55Z"
"Version","20261002205955"
"OfferCode","AmazonEC2"
"SKU","OfferTermCode","RateCode","TermType","PriceDescription","EffectiveDate","StartingRange","EndingRange","Unit",\
"PricePerUnit","Currency","LeaseContractLength","PurchaseOption","OfferingClass","Instance Type","Tenancy",\
"Operating System","Pre Installed S/W","CapacityStatus","Region Code"
"A","J","r","OnDemand","d","2026-09-01","0","Inf","Hrs","33.1443200000","USD","","","","g7e.48xlarge","Shared","Linux",\
"NA","Used","us-west-2"
"A","J","r","OnDemand","d","2026-09-01","0","Inf","Hrs","40.0","USD","","","","g7e.48xlarge","Dedicated","Linux","NA",\
"Used","us-west-2"
"A","K","r","Reserved","d","2026-09-01","0","Inf","Hrs","5.0","USD","1yr","Partial Upfront","standard","g7e.48xlarge",\
"Shared","Linux","NA","Used","us-west-2"
"A","K","r","Reserved","d","2026-09-01","0","Inf","Quantity","87600","USD","1yr","Partial Upfront","standard",\
"g7e.48xlarge","Shared","Linux","NA","Used","us-west-2"
"""


def test_aws_offer_csv() -> None:
    assert parsed("aws-offer-csv", OFFER_CSV.encode()) == {
        ("g7e.48xlarge", "on_demand", "us-west-2"): 33.14432,
        ("g7e.48xlarge", "1yr", "us-west-2"): pytest.approx(15.0),
    }
    with pytest.raises(InputError, match="column 'Currency' is missing on line 6"):
        parsed("aws-offer-csv", OFFER_CSV.replace('"Currency"', '"Money"').encode())


PLANS = {
    "version": "20261002",
    "regionCode": "us-east-1",
    "products": [],
    "terms": {
        "savingsPlan": [
            {
                "sku": "X",
                "description": "3 year No Upfront Compute Savings Plan",
                "leaseContractLength": {"duration": 3, "unit": "year"},
                "rates": [
                    {
                        "discountedUsageType": "BoxUsage:p6-b200.48xlarge",
                        "discountedOperation": operation,
                        "discountedRate": {"price": price, "currency": "USD"},
                        "unit": "Hrs",
                    }
                    for operation, price in (("RunInstances", "68.5"), ("RunInstances:0002", "90.0"))
                ],
            }
        ]
    },
}


def test_aws_savings_plan_is_linux_only() -> None:
    assert parsed("aws-savings-plan", encoded(PLANS)) == {("p6-b200.48xlarge", "savings_3yr", "us-east-1"): 68.5}


def blocks(name: str, count: int, hourly: float, each: float, day: str = "2026-09-30T14:19:47Z") -> bytes:
    place = {
        "region": "Dallas Local Zone",
        "region_code": "us-east-1-dfw-2a",
        "hourly_rate_usd": hourly,
        "accelerator_hourly_rate_usd": each,
    }
    kind = {"instance_family": "P6e", "accelerator_type": "GB200", "accelerator_count": count, "pricing": [place]}
    page = "https://aws.amazon.com/ec2/capacityblocks/pricing/"
    metadata = {"last_updated": day, "source_url": page, "version": "1.0.0"}
    return encoded({"metadata": metadata, "instance_types": {name: kind}})


def test_capacity_blocks_price_ultraservers_by_the_accelerator() -> None:
    rack = parsed("aws-capacity-blocks", blocks("u-p6e-gb200x72", 72, 10.582, 0.0))
    assert rack == {("u-p6e-gb200x72", "capacity_block", "us-east-1-dfw-2a"): pytest.approx(761.904)}
    node = parsed("aws-capacity-blocks", blocks("p6-b200.48xlarge", 8, 98.84, 12.355))
    assert set(node.values()) == {98.84}


def test_capacity_blocks_carry_the_day_of_the_record() -> None:
    rows = PARSERS["aws-capacity-blocks"](blocks("p5.48xlarge", 8, 41.528, 5.191), CATALOG, DAY, "test")
    assert {row.date for row in rows} == {"2026-09-30"}
    with pytest.raises(InputError, match="after 2026-10-05"):
        parsed("aws-capacity-blocks", blocks("p5.48xlarge", 8, 41.5, 5.2, day="2027-01-01T00:00:00Z"))
    with pytest.raises(InputError, match="has 4 accelerators there"):
        parsed("aws-capacity-blocks", blocks("p5.48xlarge", 4, 41.5, 5.2))


def item(price: float, **changes: Any) -> dict[str, Any]:
    return {
        "currencyCode": "USD",
        "retailPrice": price,
        "unitPrice": price,
        "armRegionName": "eastus",
        "productName": "Virtual Machines NDSv5 Series",
        "skuName": "ND96isr H100 v5",
        "serviceName": "Virtual Machines",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "armSkuName": "Standard_ND96isr_H100_v5",
    } | changes


AZURE = {
    "BillingCurrency": "USD",
    "Items": [
        item(98.32, savingsPlan=[{"unitPrice": 70.0, "retailPrice": 70.0, "term": "1 Year"}]),
        item(150.0, productName="Virtual Machines NDSv5 Series Windows"),
        item(19.664, skuName="ND96isr H100 v5 Low Priority"),
        item(18.984, skuName="ND96isr H100 v5 Spot"),
        item(1_134_310.0, type="Reservation", reservationTerm="3 Years"),
        item(551_221.0, type="Reservation", reservationTerm="1 Year"),
        item(1_722_566.0, type="Reservation", reservationTerm="5 Years"),
        item(84.8, armSkuName="Standard_ND96isr_H200_v5", skuName="ND96isr H200 v5"),
        item(84.8, armSkuName="Standard_ND96isr_H200_v5", skuName="ND96isr H200 v5 Spot"),
        item(0.1, armSkuName="Standard_D2s_v5", skuName="D2s v5"),
    ],
    "NextPageLink": "https://prices.azure.com:443/api/retail/prices?$skip=100",
    "Count": 10,
}


def test_azure_reservations_are_for_the_whole_term_and_placeholders_are_dropped() -> None:
    assert parsed("azure-retail", encoded(AZURE)) == {
        ("ND96isr_H100_v5", "on_demand", "eastus"): 98.32,
        ("ND96isr_H100_v5", "savings_1yr", "eastus"): 70.0,
        ("ND96isr_H100_v5", "spot", "eastus"): 18.984,
        ("ND96isr_H100_v5", "3yr", "eastus"): pytest.approx(1_134_310 / 26_280, abs=1e-6),
        ("ND96isr_H100_v5", "1yr", "eastus"): pytest.approx(551_221 / 8_760, abs=1e-6),
        ("ND96isr_H200_v5", "on_demand", "eastus"): 84.8,
    }


def test_azure_pages() -> None:
    assert azure_next_page(encoded(AZURE)) == "https://prices.azure.com:443/api/retail/prices?$skip=100"
    assert azure_next_page(encoded(AZURE | {"NextPageLink": None})) is None
    assert azure_next_page(encoded(AZURE | {"NextPageLink": ""})) is None


OCI = {
    "lastUpdated": "2026-10-01T14:26:53.943Z",
    "items": [
        {
            "partNumber": "B110979",
            "displayName": "OCI - Compute - GPU - GB200",
            "metricName": "GPU Per Hour",
            "serviceCategory": "Compute - GPU",
            "currencyCodeLocalizations": [
                {"currencyCode": "USD", "prices": [{"model": "PAY_AS_YOU_GO", "value": 16.0}]},
                {"currencyCode": "EUR", "prices": [{"model": "PAY_AS_YOU_GO", "value": 1.0}]},
            ],
        },
        {
            "partNumber": "B93113",
            "displayName": "OCI - Compute - Standard - E4 - OCPU",
            "metricName": "OCPU Per Hour",
            "serviceCategory": "Compute",
            "currencyCodeLocalizations": [
                {"currencyCode": "USD", "prices": [{"model": "PAY_AS_YOU_GO", "value": 0.025}]}
            ],
        },
    ],
}


def test_oci_is_priced_by_the_gpu() -> None:
    assert parsed("oci-products", encoded(OCI)) == {("BM.GPU.GB200.4", "on_demand", "global"): 64.0}


@pytest.mark.parametrize("name", sorted(PARSERS))
@pytest.mark.parametrize("body", [b"<html>busy</html>", b"", b"{}", b"[1, 2]"])
def test_another_format_is_refused_with_one_line(name: str, body: bytes) -> None:
    with pytest.raises(InputError) as error:
        PARSERS[name](body, CATALOG, DAY, "test")
    assert "\n" not in error.value.message


def test_rows_are_appended_and_history_stays() -> None:
    rows = PARSERS["aws-sheet"](encoded(SHEET), CATALOG, DAY, "test")
    fresh = CATALOG.with_prices(rows)
    assert fresh.history[: len(CATALOG.history)] == CATALOG.history
    assert fresh.price("p6-b200.48xlarge", "on_demand").date == DAY
    assert fresh.price("p6-b200.48xlarge", "on_demand", on="2026-09-30").date == "2026-09-19"


def test_feeds_are_keyless_addresses() -> None:
    found = feeds(CATALOG)
    assert {feed.url.split("/")[2] for feed in found} == {
        "b0.p.awsstatic.com",
        "raw.githubusercontent.com",
        "prices.azure.com",
        "apexapps.oracle.com",
    }
    assert all(" " not in feed.url for feed in found)
    assert len({feed.name for feed in found}) == len(found)
