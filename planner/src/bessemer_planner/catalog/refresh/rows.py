"""What every price parser needs: JSON with a one-line error, checked amounts, and one row for each key."""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from bessemer_planner.errors import InputError
from bessemer_planner.types import InstancePrice

T = TypeVar("T")


def decode(body: bytes, kind: type[T], what: str) -> T:
    """Decode JSON into a declared shape; unknown fields are ignored, missing ones are an error."""
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{what}: not the expected format ({str(error).splitlines()[0]})") from None


def amount(value: float | str, what: str) -> float:
    """Return a price that is a positive number; a price of zero is an error, never free."""
    try:
        number = float(value)
    except ValueError:
        raise InputError(f"{what}: {value!r} is not a price") from None
    if not 0 < number < float("inf"):
        raise InputError(f"{what}: a price of {number:g} is refused; nothing is free")
    return number


def cheapest(rows: Iterable[InstancePrice]) -> tuple[InstancePrice, ...]:
    """Return one row for each instance, term and region, the cheapest (ways to pay for the same term), in order."""
    found: dict[tuple[str, str, str], InstancePrice] = {}
    for row in rows:
        key = (row.instance, row.term, row.region)
        if key not in found or row.usd_per_hour < found[key].usd_per_hour:
            found[key] = row
    return tuple(found.values())
