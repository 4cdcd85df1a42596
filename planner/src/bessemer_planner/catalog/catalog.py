"""The catalogue as the planner asks it: hardware and prices by name; what is not known is blank, never guessed."""

import difflib
from collections.abc import Iterable
from datetime import date
from importlib import resources

import msgspec

from bessemer_planner.catalog.figures import Figure, System
from bessemer_planner.catalog.tables import (
    Announced,
    append_prices,
    read_accelerators,
    read_instances,
    read_parts,
    read_prices,
)
from bessemer_planner.errors import InputError, UnknownName, Unsatisfiable
from bessemer_planner.types import Accelerator, Instance, InstancePrice

FRESH_DAYS = 60
"""Prices of two regions that were read within so many days stand side by side."""
_FOLDER = "bessemer_planner.catalog"


class HardwareCatalog(msgspec.Struct, frozen=True):
    """Everything known about hardware and what it costs. Immutable; a refresh makes a new one (`with_prices`)."""

    accelerators: dict[str, Accelerator]
    aliases: dict[str, str]
    """Accelerator names by alias, lower case."""
    announced: dict[str, Announced]
    offers: dict[str, Instance]
    history: tuple[InstancePrice, ...]
    """All prices ever recorded, in the order they were appended."""
    figures: dict[str, Figure]
    """Parts and running costs of a data centre by `section.key`."""
    systems: dict[str, System]
    """Machines that can be bought, by accelerator."""

    def accelerator(self, name: str) -> Accelerator:
        """Return an accelerator by name or alias, whatever the case.

        Raises:
            Unsatisfiable: it was announced without figures.
            UnknownName: nothing is known of it.
        """
        known = self.aliases.get(name.lower())
        if known in self.announced:
            told = self.announced[known]
            raise Unsatisfiable(f"{known} was announced without figures ({told.known}); nearest: {told.nearest}")
        if known is None:
            raise UnknownName(f"no accelerator named {name!r}{_nearest(name, self.accelerators)}")
        return self.accelerators[known]

    def instance(self, name: str) -> Instance:
        """Return an instance by name.

        Raises:
            UnknownName: nothing is known of it.
        """
        if name not in self.offers:
            raise UnknownName(f"no instance named {name!r}{_nearest(name, self.offers)}")
        return self.offers[name]

    def instances(self, accelerator: str | None = None, provider: str | None = None) -> tuple[Instance, ...]:
        """Return the instances with an accelerator (name or alias), of a provider, in the order of the table."""
        wanted = None if accelerator is None else self.accelerator(accelerator).name
        return tuple(
            instance
            for instance in self.offers.values()
            if wanted in (None, instance.accelerator) and provider in (None, instance.provider)
        )

    def prices(
        self, instance: str, term: str | None = None, on: str | None = None, region: str | None = None
    ) -> tuple[InstancePrice, ...]:
        """Return the prices of an instance that were known on a day (ISO), those that count today first.

        For each term the newest price of each region comes first, cheapest first, unless another region has one that
        is `FRESH_DAYS` newer: a file of one region that was read a week later must not hide the others, and a price of
        last winter must not beat today's. The rest follows, newest first.
        """
        name = self.instance(instance).name
        found = [
            price
            for price in self.history
            if price.instance == name
            and term in (None, price.term)
            and region in (None, price.region)
            and (on is None or price.date <= on)
        ]
        newest = {(price.term, price.region): price for price in sorted(found, key=lambda price: price.date)}
        latest = {term: max(one.date for (of, _), one in newest.items() if of == term) for term, _ in newest}

        def rank(price: InstancePrice) -> tuple[bool, int, float]:
            day = date.fromisoformat(price.date).toordinal()
            counts = newest[price.term, price.region] is price
            counts &= date.fromisoformat(latest[price.term]).toordinal() - day <= FRESH_DAYS
            return (not counts, 0 if counts else -day, price.usd_per_hour)

        return tuple(sorted(found, key=rank))

    def price(self, instance: str, term: str, on: str | None = None, region: str | None = None) -> InstancePrice:
        """Return the price that counts: of the regions' newest ones the cheapest (see `prices`).

        Raises:
            Unsatisfiable: no price is known. The message names the terms that have one.
        """
        found = self.prices(instance, term, on, region)
        if found:
            return found[0]
        where = f" in {region}" if region else ""
        when = f" on or before {on}" if on else ""
        others = sorted({price.term for price in self.prices(instance, on=on)})
        known = f"known: {', '.join(others)}" if others else "no price of it is public"
        raise Unsatisfiable(f"no {term} price of {instance} is known{where}{when}; {known}")

    def figure(self, name: str) -> Figure:
        """Return a figure of the parts table, such as `power.usd_per_kwh`."""
        if name not in self.figures:
            raise UnknownName(f"no figure named {name!r}{_nearest(name, self.figures)}")
        return self.figures[name]

    def system(self, accelerator: str) -> System:
        """Return the machine with an accelerator that can be bought.

        Raises:
            Unsatisfiable: it is not sold, or nobody has named a price.
        """
        name = self.accelerator(accelerator).name
        system = self.systems.get(name)
        if system is None or system.price_usd is None:
            priced = ", ".join(key for key, value in self.systems.items() if value.price_usd is not None)
            raise Unsatisfiable(f"no purchase price of {name} is known; known: {priced}")
        return system

    def unseen(self, rows: Iterable[InstancePrice]) -> tuple[InstancePrice, ...]:
        """Return the rows of days that have none yet: a second reading of the same day changes nothing."""
        known = {(price.instance, price.term, price.region, price.date) for price in self.history}
        found = {(row.instance, row.term, row.region, row.date): row for row in reversed(tuple(rows))}
        return tuple(row for key, row in reversed(found.items()) if key not in known)

    def with_prices(self, rows: Iterable[InstancePrice]) -> "HardwareCatalog":
        """Return a catalogue with prices appended; rows of instances that it does not know are refused."""
        rows = tuple(rows)
        for row in rows:
            self.instance(row.instance)
        return msgspec.structs.replace(self, history=append_prices(self.history, rows))


def load_catalog(more: Iterable[InstancePrice] = ()) -> HardwareCatalog:
    """Read the shipped tables, check them against each other, and append `more` prices (a user's own refreshes).

    Raises:
        InputError: a table is wrong; one line names the row and the remedy.
    """
    accelerators, aliases, announced = read_accelerators(_shipped("accelerators.toml"))
    offers = read_instances(_shipped("instances.csv"))
    for instance in offers.values():
        if instance.accelerator not in accelerators:
            raise InputError(f"instance {instance.name!r}: no accelerator named {instance.accelerator!r}")
    history = read_prices(_shipped("prices.csv"))
    unknown = {price.instance for price in history} - offers.keys()
    if unknown:
        raise InputError(f"prices: no instance named {min(unknown)!r}")
    figures, systems = read_parts(_shipped("parts.toml"))
    if not systems.keys() <= accelerators.keys():
        raise InputError(f"parts: no accelerator named {min(systems.keys() - accelerators.keys())!r}")
    return HardwareCatalog(accelerators, aliases, announced, offers, history, figures, systems).with_prices(more)


def _shipped(name: str) -> str:
    return (resources.files(_FOLDER) / name).read_text(encoding="utf-8")


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; nearest: {close[0]}" if close else ""
