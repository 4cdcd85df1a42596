"""The vendors' price files, fetched from a real server that answers as they do."""

import gzip
import json
from collections.abc import Iterator

import pytest
from tests.cli.foreign import Quiet, serving

from bessemer.cli.plan_refresh import fetch_prices
from bessemer_planner.catalog import HardwareCatalog, load_catalog
from bessemer_planner.catalog.refresh import Feed
from bessemer_planner.catalog.refresh.aws import aws_sheet
from bessemer_planner.catalog.refresh.azure import azure_next_page, azure_retail


def sheet(price: str) -> bytes:
    row = {"price": price, "Instance Type": "g7e.48xlarge"}
    return json.dumps({"regions": {"US East (N. Virginia)": {"x": row}}}).encode()


def azure(price: float, region: str, following: str | None) -> bytes:
    item = {
        "currencyCode": "USD",
        "retailPrice": price,
        "armRegionName": region,
        "productName": "Virtual Machines NDSv5 Series",
        "skuName": "ND96isr H100 v5",
        "unitOfMeasure": "1 Hour",
        "armSkuName": "Standard_ND96isr_H100_v5",
        "type": "Consumption",
    }
    return json.dumps({"Items": [item], "NextPageLink": following}).encode()


class Vendor(Quiet):
    """A packed sheet, two pages, pages without end, something else, and an error."""

    def do_GET(self) -> None:  # noqa: N802 - http.server calls it so
        here = f"http://127.0.0.1:{self.server.server_address[1]}"
        bodies = {
            "/sheet": gzip.compress(sheet("31.5")),
            "/azure": azure(97.0, "eastus", f"{here}/azure2"),
            "/azure2": azure(99.0, "westeurope", None),
            "/endless": azure(97.0, "eastus", f"{here}/endless"),
            "/away": azure(97.0, "eastus", "http://prices.example/"),
            "/busy": b"<html>busy</html>",
            "/cut": gzip.compress(sheet("31.5"))[:-9],
        }
        body = bodies.get(self.path)
        self.send_response(200 if body else 503)
        self.end_headers()
        self.wfile.write(body or b"")


@pytest.fixture(scope="module")
def vendor() -> Iterator[str]:
    with serving(Vendor) as url:
        yield url


@pytest.fixture(scope="module")
def catalog() -> HardwareCatalog:
    return load_catalog()


def test_a_packed_sheet_and_pages_are_read(vendor: str, catalog: HardwareCatalog) -> None:
    told: list[str] = []
    sources = [
        Feed("AWS", f"{vendor}/sheet", aws_sheet),
        Feed("Azure", f"{vendor}/azure", azure_retail, azure_next_page),
    ]
    rows, failed = fetch_prices(catalog, told.append, sources)
    assert failed == {}
    assert told == ["reading AWS", "reading Azure"]
    assert [(row.instance, row.region, row.usd_per_hour) for row in rows] == [
        ("g7e.48xlarge", "us-east-1", 31.5),
        ("ND96isr_H100_v5", "eastus", 97.0),
        ("ND96isr_H100_v5", "westeurope", 99.0),
    ]
    assert {row.source for row in rows} == {f"{vendor}/sheet", f"{vendor}/azure"}
    assert catalog.with_prices(rows).price("g7e.48xlarge", "on_demand").usd_per_hour == 31.5


@pytest.mark.parametrize("path", ["/busy", "/down", "/endless", "/away", "/cut"])
def test_a_vendor_that_fails_does_not_stop_the_others(vendor: str, catalog: HardwareCatalog, path: str) -> None:
    broken = Feed("broken", vendor + path, azure_retail, azure_next_page)
    rows, failed = fetch_prices(catalog, lambda _: None, [broken, Feed("AWS", f"{vendor}/sheet", aws_sheet)])
    assert len(rows) == 1
    assert list(failed) == ["broken"]
    assert "\n" not in failed["broken"]


def test_only_https_is_fetched(catalog: HardwareCatalog) -> None:
    rows, failed = fetch_prices(catalog, lambda _: None, [Feed("file", "file:///etc/hostname", aws_sheet)])
    assert rows == ()
    assert "is not https" in failed["file"]
