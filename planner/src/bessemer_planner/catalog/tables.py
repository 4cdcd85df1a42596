"""Reading the catalogue's tables into the planner's nouns; a bad row is refused with one line that names it.

Price tables are only ever appended to: `append_prices` refuses a row that contradicts one that is already there.
"""

import csv
import io
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from bessemer_planner.catalog.figures import Figure, System
from bessemer_planner.errors import InputError
from bessemer_planner.types import Accelerator, Instance, InstancePrice, Source

TERMS = ("on_demand", "capacity_block", "1yr", "3yr", "savings_1yr", "savings_3yr", "spot")
PRICE_COLUMNS = ("instance", "term", "region", "usd_per_hour", "date", "source")


class Announced(msgspec.Struct, frozen=True):
    """An accelerator that was announced without the figures a prediction needs."""

    name: str
    known: str
    nearest: str
    """The accelerator that can be planned with instead."""
    source: Source


def read_accelerators(text: str) -> tuple[dict[str, Accelerator], dict[str, str], dict[str, Announced]]:
    """Read `accelerators.toml`. Returns accelerators by name, names by alias (lower case), announced ones by name."""
    tables = tomllib.loads(text)
    announced_tables: dict[str, dict[str, Any]] = tables.pop("announced", {})
    aliases: dict[str, str] = {}
    accelerators = {name: _accelerator(name, table) for name, table in tables.items()}
    announced = {
        name: Announced(name, table["known"], table["nearest"], Source(table["source"], table["date"]))
        for name, table in announced_tables.items()
    }
    for name, table in (*tables.items(), *announced_tables.items()):
        for alias in (name, *table.get("aliases", ())):
            if aliases.setdefault(alias.lower(), name) != name:
                raise InputError(f"accelerators: {alias!r} names both {aliases[alias.lower()]!r} and {name!r}")
    return accelerators, aliases, announced


def _accelerator(name: str, table: Mapping[str, Any]) -> Accelerator:
    unknown = set(table) - set(Accelerator.__struct_fields__) - {"aliases", "date"}
    if unknown:
        raise InputError(f"accelerator {name!r}: unknown key {min(unknown)!r}")
    numbers = {key: value for key, value in table.items() if isinstance(value, int | float)}
    for key in ("memory_gb", "bandwidth_tbs", "bf16_tflops"):
        if key not in numbers:
            raise InputError(f"accelerator {name!r}: {key} is missing; leave the whole accelerator out when unknown")
    bad = [key for key, value in numbers.items() if value <= 0]
    if bad:
        raise InputError(f"accelerator {name!r}: {bad[0]} must be positive; leave it out when unknown")
    return Accelerator(
        name=name,
        architecture=table["architecture"],
        memory_gb=float(table["memory_gb"]),
        bandwidth_tbs=float(table["bandwidth_tbs"]),
        bf16_tflops=float(table["bf16_tflops"]),
        fp8_tflops=_optional(numbers.get("fp8_tflops")),
        fp4_tflops=_optional(numbers.get("fp4_tflops")),
        link_gbs=_optional(numbers.get("link_gbs")),
        power_w=_optional(numbers.get("power_w")),
        source=Source(table["source"], _iso(table.get("date"), f"accelerator {name!r}")),
        nominal_gb=_optional(numbers.get("nominal_gb")),
        note=table.get("note", ""),
        bf16_matmul_tflops=_optional(numbers.get("bf16_matmul_tflops")),
        fp8_matmul_tflops=_optional(numbers.get("fp8_matmul_tflops")),
        link_group=int(numbers["link_group"]) if "link_group" in numbers else None,
    )


def read_instances(text: str) -> dict[str, Instance]:
    """Read `instances.csv`; names are unique."""
    instances: dict[str, Instance] = {}
    for line, row in _rows(text, "instances"):
        name = row["name"]
        if name in instances:
            raise InputError(f"instances line {line}: {name!r} is there twice")
        instances[name] = Instance(
            name=name,
            provider=row["provider"],
            accelerator=row["accelerator"],
            count=int(_positive(row["count"], f"instances line {line}: count")),
            network_gbps=_blank(row["network_gbps"], f"instances line {line}: network_gbps"),
            domain=int(_positive(row["domain"], f"instances line {line}: domain")),
            source=f"{row['source']}, {_iso(row['date'], f'instances line {line}')}",
            operator=row["operator"],
            vcpu=int(row["vcpu"]) if row["vcpu"] else None,
            ram_gib=_blank(row["ram_gib"], f"instances line {line}: ram_gib"),
        )
    return instances


def read_prices(text: str, name: str = "prices") -> tuple[InstancePrice, ...]:
    """Read a price table (CSV with the columns `PRICE_COLUMNS`), in the order of the file. Raises InputError."""
    header = next(csv.reader(io.StringIO(text)), [])
    if missing := [column for column in PRICE_COLUMNS if column not in header]:
        raise InputError(f"{name}: columns missing: {', '.join(missing)}; write them, or delete the file")
    prices = []
    for line, row in _rows(text, name):
        if row["term"] not in TERMS:
            raise InputError(f"{name} line {line}: term {row['term']!r} is not one of {', '.join(TERMS)}")
        if not row["source"]:
            raise InputError(f"{name} line {line}: a price without a source; name the page or file")
        prices.append(
            InstancePrice(
                instance=row["instance"],
                usd_per_hour=_positive(row["usd_per_hour"], f"{name} line {line}: usd_per_hour"),
                term=row["term"],
                region=row["region"],
                date=_iso(row["date"], f"{name} line {line}") or "",
                source=row["source"],
            )
        )
    return append_prices((), prices)


def read_price_file(path: Path) -> tuple[InstancePrice, ...]:
    """Read a price table from a file; none when there is no such file. Raises InputError."""
    if not path.is_file():
        return ()
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the prices {str(path)!r}: {error}; mend or delete it.", param="data") from None
    return read_prices(text, str(path))


def append_prices(history: Iterable[InstancePrice], rows: Iterable[InstancePrice]) -> tuple[InstancePrice, ...]:
    """Return the history followed by the rows that are new.

    A row that is already there is skipped. A row that gives another price for the same instance, term, region and day
    is refused: history is never re-priced.
    """
    prices = list(history)
    known = {_key(price): price for price in prices}
    for row in rows:
        found = known.get(_key(row))
        if found is None:
            known[_key(row)] = row
            prices.append(row)
        elif found.usd_per_hour != row.usd_per_hour:
            raise InputError(
                f"prices: {row.instance} {row.term} {row.region} {row.date} is already {found.usd_per_hour}, "
                f"not {row.usd_per_hour}; append a row with a later date instead"
            )
    return tuple(prices)


def write_prices(prices: Iterable[InstancePrice]) -> str:
    """Return the price table as CSV text that `read_prices` reads back."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(PRICE_COLUMNS)
    writer.writerows([getattr(price, column) for column in PRICE_COLUMNS] for price in prices)
    return out.getvalue()


def read_parts(text: str) -> tuple[dict[str, Figure], dict[str, System]]:
    """Read `parts.toml`: figures by name (section dot key) and systems by accelerator name."""
    tables = tomllib.loads(text)
    systems = {name: _system(name, table) for name, table in tables.pop("system").items()}
    figures = {
        f"{section}.{key}": _figure(f"{section}.{key}", table)
        for section, entries in tables.items()
        for key, table in entries.items()
    }
    return figures, systems


def _system(accelerator: str, table: Mapping[str, Any]) -> System:
    price = table.get("price_usd")
    return System(
        name=table["name"],
        accelerator=accelerator,
        count=table["count"],
        price_usd=_figure(f"system.{accelerator}.price_usd", price) if price else None,
        rack_kw=_figure(f"system.{accelerator}.rack_kw", table["rack_kw"]),
        liquid=table["liquid"],
    )


def _figure(name: str, table: Mapping[str, Any]) -> Figure:
    missing = {"low", "value", "high", "unit", "source", "date"} - set(table)
    if missing:
        raise InputError(f"figure {name!r}: {min(missing)} is missing")
    source = Source(table["source"], _iso(table["date"], f"figure {name!r}"))
    low, value, high = (float(table[key]) for key in ("low", "value", "high"))
    return Figure(name, table["unit"], low, value, high, source, assumption=table.get("assumption", False))


def _rows(text: str, name: str) -> Iterable[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(text))
    for line, row in enumerate(reader, start=2):
        if None in row or None in row.values():
            raise InputError(f"{name} line {line}: {len(reader.fieldnames or ())} columns are needed")
        yield line, row


def _key(price: InstancePrice) -> tuple[str, str, str, str]:
    return (price.instance, price.term, price.region, price.date)


def _optional(value: float | None) -> float | None:
    return None if value is None else float(value)


def _blank(text: str, what: str) -> float | None:
    return _positive(text, what) if text else None


def _positive(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{what}: {text!r} is not a number") from None
    if not 0 < value < float("inf"):
        raise InputError(f"{what}: {text} is not positive; leave the row or cell out when unknown")
    return value


def _iso(text: str | None, what: str) -> str | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise InputError(f"{what}: {text!r} is not a date like 2026-09-19") from None
