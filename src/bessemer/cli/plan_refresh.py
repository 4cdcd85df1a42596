"""Fetching the vendors' public price files: keyless, one after the other; a file that fails does not stop the rest."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bessemer.core.errors import BessemerError

if TYPE_CHECKING:
    from bessemer.planner.catalog import Catalog
    from bessemer.planner.types import Price

_TIMEOUT_S = 30.0
_MOST_PAGES = 20


def fetch_prices(catalog: "Catalog", progress: Callable[[str], None]) -> tuple[tuple["Price", ...], dict[str, str]]:
    """Return the prices of all public files that could be read, and why the others could not, by feed."""
    from bessemer.planner.catalog.refresh import feeds

    today = datetime.now(UTC).date().isoformat()
    rows: list[Price] = []
    failed: dict[str, str] = {}
    for feed in feeds(catalog):
        progress(f"reading {feed.name}")
        url: str | None = feed.url
        try:
            for _ in range(_MOST_PAGES):
                if url is None:
                    break
                body = _get(url)
                rows += feed.parser(body, catalog, today, url)
                url = feed.next_page(body) if feed.next_page is not None else None
        except (OSError, http.client.HTTPException, urllib.error.URLError, ValueError) as error:
            failed[feed.name] = f"{feed.url}: {error}"
        except BessemerError as error:
            failed[feed.name] = f"{feed.url}: {error.message}"
    return tuple(rows), failed


def _get(url: str) -> bytes:
    if not url.startswith("https://"):
        raise ValueError(f"{url!r} is not https")
    request = urllib.request.Request(url, headers={"accept": "application/json"})  # noqa: S310 - https only, checked
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
        body: bytes = response.read()
    return body
