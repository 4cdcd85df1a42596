"""Fetching the vendors' public price files: keyless, one after the other; a file that fails does not stop the rest."""

import gzip
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bessemer.core.errors import BessemerError, ConfigError

if TYPE_CHECKING:
    from bessemer_planner.catalog import HardwareCatalog
    from bessemer_planner.catalog.refresh import Feed
    from bessemer_planner.types import InstancePrice

_TIMEOUT_S = 30.0
_MOST_PAGES = 20
_MOST_BYTES = 64 * 1024 * 1024
"""A larger file is not one of the small public ones."""
_GZIP = b"\x1f\x8b"


def fetch_prices(
    catalog: "HardwareCatalog", progress: Callable[[str], None], sources: "Sequence[Feed] | None" = None
) -> tuple[tuple["InstancePrice", ...], dict[str, str]]:
    """Return the prices of all public files that could be read, and why the others could not, by feed.

    `sources` are the catalogue's feeds unless others are given.
    """
    from bessemer_planner.catalog.refresh import feeds
    from bessemer_planner.errors import PlannerError

    today = datetime.now(UTC).date().isoformat()
    rows: list[InstancePrice] = []
    failed: dict[str, str] = {}
    for feed in feeds(catalog) if sources is None else sources:
        progress(f"reading {feed.name}")
        try:
            rows += _pages(feed, catalog, today)
        except (OSError, EOFError, http.client.HTTPException, urllib.error.URLError) as error:
            failed[feed.name] = f"{feed.url}: {error}"
        except (BessemerError, PlannerError) as error:
            failed[feed.name] = f"{feed.url}: {error.message}"
    return tuple(rows), failed


def _pages(feed: "Feed", catalog: "HardwareCatalog", today: str) -> "list[InstancePrice]":
    """Read one file, all pages or nothing; rows name the file, whichever page they came from."""
    rows: list[InstancePrice] = []
    url: str | None = feed.url
    for _ in range(_MOST_PAGES):
        if url is None:
            return rows
        body = _get(url)
        rows += feed.parser(body, catalog, today, feed.url)
        url = feed.next_page(body) if feed.next_page is not None else None
    if url is not None:
        raise ConfigError(f"more than {_MOST_PAGES} pages")
    return rows


def _get(url: str) -> bytes:
    """GET a public file; some vendors pack it whether or not that was asked for."""
    if not url.startswith(("https://", "http://127.0.0.1:")):
        raise ConfigError(f"{url!r} is not https")
    request = urllib.request.Request(url, headers={"accept": "application/json"})  # noqa: S310 - checked above
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
        body: bytes = response.read(_MOST_BYTES + 1)
    if len(body) > _MOST_BYTES:
        raise ConfigError(f"larger than {_MOST_BYTES // 2**20} MB")
    return gzip.decompress(body) if body.startswith(_GZIP) else body
