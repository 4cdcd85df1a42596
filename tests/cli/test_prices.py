"""The user's own price table: fetched from a real server, appended, and never rewritten."""

import gzip
import json
import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bessemer.cli.prices import FILE, catalog_of, fetch_bytes, read_feed, read_file, store, stored
from bessemer.core.errors import ConfigError
from bessemer.planner.catalog import Catalog, load_catalog
from bessemer.planner.catalog.refresh import Feed
from bessemer.planner.catalog.refresh.aws import aws_sheet
from bessemer.planner.catalog.refresh.azure import azure_next_page, azure_retail
from bessemer.planner.types import Price

DAY = date(2026, 11, 1)


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


class Vendor(BaseHTTPRequestHandler):
    """Answers like a vendor: a packed sheet, two pages, an error."""

    def do_GET(self) -> None:
        port = self.server.server_address[1]
        bodies = {
            "/sheet": gzip.compress(sheet("31.5")),
            "/azure": azure(97.0, "eastus", f"http://127.0.0.1:{port}/azure2"),
            "/azure2": azure(99.0, "westeurope", None),
            "/busy": b"<html>busy</html>",
        }
        body = bodies.get(self.path)
        self.send_response(200 if body else 503)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def vendor() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


def test_a_packed_sheet_and_pages_are_read(vendor: str, catalog: Catalog) -> None:
    aws = read_feed(Feed("AWS", f"{vendor}/sheet", aws_sheet), catalog, DAY)
    assert [(row.instance, row.usd_per_hour, row.date) for row in aws.rows] == [("g7e.48xlarge", 31.5, "2026-11-01")]
    pages = read_feed(Feed("Azure", f"{vendor}/azure", azure_retail, azure_next_page), catalog, DAY)
    assert [(row.region, row.usd_per_hour) for row in pages.rows] == [("eastus", 97.0), ("westeurope", 99.0)]


@pytest.mark.parametrize("path", ["/busy", "/down"])
def test_a_vendor_that_fails_is_one_line(vendor: str, catalog: Catalog, path: str) -> None:
    reading = read_feed(Feed("AWS", vendor + path, aws_sheet), catalog, DAY)
    assert reading.rows == ()
    assert reading.failure
    assert "\n" not in reading.failure


def test_only_https_is_fetched() -> None:
    with pytest.raises(ConfigError, match="only https"):
        fetch_bytes("file:///etc/passwd")


def test_prices_are_appended_and_used(tmp_path: Path) -> None:
    assert stored(tmp_path) == ()
    moved = Price("g7e.48xlarge", 31.5, "on_demand", "us-east-1", "2026-11-01", "page")
    same = Price("p5.48xlarge", 55.04, "on_demand", "us-east-1", "2026-11-01", "page")
    assert store(tmp_path, [moved, same]) == (moved, same)
    assert store(tmp_path, [moved, same]) == ()
    later = Price("g7e.48xlarge", 30.0, "on_demand", "us-east-1", "2026-12-01", "page")
    assert store(tmp_path, [later]) == (later,)
    assert stored(tmp_path) == (moved, same, later)
    catalog = catalog_of(tmp_path)
    assert catalog.price("g7e.48xlarge", "on_demand").usd_per_hour == 30.0
    assert catalog.price("g7e.48xlarge", "on_demand", on="2026-11-15").usd_per_hour == 31.5
    with pytest.raises(ConfigError, match="append a row with a later date"):
        store(tmp_path, [Price("g7e.48xlarge", 1.0, "on_demand", "us-east-1", "2026-12-01", "page")])
    with pytest.raises(ConfigError, match="append a row with a later date"):  # a day that the shipped table has
        store(tmp_path, [Price("g7e.48xlarge", 1.0, "on_demand", "us-east-1", "2026-09-19", "page")])
    assert stored(tmp_path) == (moved, same, later)


def test_a_broken_table_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("instance,term,region,usd_per_hour,date,source\na,on_demand,us,0,2026-01-01,page\n")
    with pytest.raises(ConfigError, match=r"prices\.csv line 2: usd_per_hour: 0 is not positive"):
        catalog_of(tmp_path)


def test_a_file_at_hand(tmp_path: Path, catalog: Catalog) -> None:
    (tmp_path / "sheet.json").write_bytes(sheet("29.0"))
    assert read_file(tmp_path / "sheet.json", "aws-sheet", catalog, DAY).rows[0].usd_per_hour == 29.0
    with pytest.raises(ConfigError, match="known: aws-sheet"):
        read_file(tmp_path / "sheet.json", "pdf", catalog, DAY)
    with pytest.raises(ConfigError, match="No such file"):
        read_file(tmp_path / "none.json", "aws-sheet", catalog, DAY)
