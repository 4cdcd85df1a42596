"""The user's own price table: fetched from the vendors' public files, appended to `prices.csv` in the data folder.

A vendor that does not answer, or answers in another format, is reported and does not stop the others.
"""

import gzip
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path

import msgspec

from bessemer.core.errors import ConfigError
from bessemer.planner.catalog import Catalog, append_prices, load_catalog, read_prices, write_prices
from bessemer.planner.catalog.refresh import PARSERS, Feed
from bessemer.planner.types import Price

FILE = "prices.csv"
TIMEOUT_S = 60.0
MOST_BYTES = 64 * 1024 * 1024
"""A file that is larger is not one of the small public ones."""
MOST_PAGES = 50


class Reading(msgspec.Struct, frozen=True):
    """What one price file gave."""

    name: str
    rows: tuple[Price, ...]
    failure: str = ""
    """One line when it could not be read."""


def catalog_of(data: Path) -> Catalog:
    """Return the shipped catalogue with the user's own prices, if there are any."""
    return load_catalog(stored(data))


def stored(data: Path) -> tuple[Price, ...]:
    """Return the user's own prices; none when the file is not there yet."""
    file = data / FILE
    return read_prices(file.read_text(encoding="utf-8"), str(file)) if file.exists() else ()


def store(data: Path, rows: Iterable[Price]) -> tuple[Price, ...]:
    """Append rows to the user's own prices; return those that are new.

    A price that has not moved is a new row too: that it stood on that day is what keeps it from going stale.

    Raises:
        ConfigError: a row contradicts one of the same day.
    """
    old = stored(data)
    table = append_prices(old, rows)
    load_catalog(table)
    if len(table) > len(old):
        data.mkdir(parents=True, exist_ok=True)
        made = data / f"{FILE}.new"
        made.write_text(write_prices(table), encoding="utf-8")
        made.replace(data / FILE)
    return table[len(old) :]


def read_feed(feed: Feed, catalog: Catalog, on: date, fetch: Callable[[str], bytes] | None = None) -> Reading:
    """Fetch one price file, page by page, and read its rows; a failure becomes one line."""
    rows: list[Price] = []
    url: str | None = feed.url
    try:
        for _ in range(MOST_PAGES):
            if url is None:
                break
            body = (fetch or fetch_bytes)(url)
            rows += feed.parser(body, catalog, on.isoformat(), feed.url)
            url = feed.next_page(body) if feed.next_page else None
    except ConfigError as error:
        return Reading(feed.name, (), error.message)
    return Reading(feed.name, tuple(dict.fromkeys(rows)))


def read_file(path: Path, kind: str, catalog: Catalog, on: date) -> Reading:
    """Read a price file that is already at hand, such as an AWS offer file of hundreds of megabytes.

    Raises:
        ConfigError: there is no such file or format.
    """
    if kind not in PARSERS:
        raise ConfigError(f"No price file format {kind!r}; known: {', '.join(PARSERS)}.", param="format")
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"Cannot read {str(path)!r}: {error.strerror}.", param="file") from None
    return Reading(path.name, PARSERS[kind](body, catalog, on.isoformat(), path.name))


def fetch_bytes(url: str) -> bytes:
    """GET a public file, at most `MOST_BYTES`. Raises ConfigError with one line when it does not come."""
    if not url.startswith(("https://", "http://127.0.0.1:")):
        raise ConfigError(f"{url}: only https is fetched")
    request = urllib.request.Request(url, headers={"user-agent": "bessemer-plan"})  # noqa: S310 checked above
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 checked above
            body: bytes = answer.read(MOST_BYTES + 1)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise ConfigError(f"{url}: {getattr(error, 'reason', error)}") from None
    if body[:2] == b"\x1f\x8b":
        body = gzip.decompress(body)
    if len(body) > MOST_BYTES:
        raise ConfigError(f"{url}: larger than {MOST_BYTES // 2**20} MB; give the file itself with --file")
    return body
