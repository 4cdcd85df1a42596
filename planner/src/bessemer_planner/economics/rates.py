"""What accelerators can be rented for, within the regions, operators and terms that a need allows."""

import math

import msgspec

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.economics.types import HOURS_PER_MONTH, Lot, Need
from bessemer_planner.types import Instance, InstancePrice

TERM_MONTHS = {
    "on_demand": 1,
    "spot": 1,
    "capacity_block": 6,
    "1yr": 12,
    "savings_1yr": 12,
    "3yr": 36,
    "savings_3yr": 36,
}
"""Months for which a price stands; a Capacity Block is booked for at most 182 days (AWS documentation)."""
BY_THE_HOUR = ("on_demand", "spot")
PREPAID = ("capacity_block",)

_LAW = {
    "AWS": "United States",
    "Google": "United States",
    "Microsoft": "United States",
    "Oracle": "United States",
    "CoreWeave": "United States",
    "Lambda": "United States",
    "Hyperstack": "United Kingdom",
    "Nebius": "Netherlands",
}
"""Where the operator's parent company sits."""


class Quote(msgspec.Struct, frozen=True):
    """A way to rent accelerators of a lot."""

    instance: Instance
    price: InstancePrice

    @property
    def rate(self) -> float:
        """USD per accelerator and hour."""
        return self.price.usd_per_hour / self.instance.count

    @property
    def months(self) -> int:
        """Months for which the price stands."""
        return TERM_MONTHS[self.price.term]

    @property
    def by_the_hour(self) -> bool:
        """Paid only while it runs."""
        return self.price.term in BY_THE_HOUR

    @property
    def law(self) -> str:
        """Whose law reaches the operator."""
        return _LAW.get(self.instance.operator, "not known")

    def units(self, accelerators: float) -> int:
        """Whole instances that hold so many accelerators."""
        return max(math.ceil(accelerators / self.instance.count - 1e-9), 1)

    def usd_per_month(self, lot: Lot) -> float:
        """Rent of a lot: by the hour what runs (never less than one instance), otherwise what the peak needs."""
        held = (
            max(lot.running, self.instance.count) if self.by_the_hour else self.units(lot.count) * self.instance.count
        )
        return held * self.rate * HOURS_PER_MONTH


def quotes(catalog: HardwareCatalog, lot: Lot, need: Need, on: str | None = None) -> tuple[Quote, ...]:
    """Return the ways to rent a lot that the need allows, cheapest month first; empty when there are none.

    When an optimiser has found the rent, the way that comes closest to it is first; when it has named the term, no
    other is returned.
    """
    instances = catalog.instances(lot.accelerator) if lot.instance is None else (catalog.instance(lot.instance),)
    found = []
    for instance in instances:
        if not _operator_allowed(instance, need):
            continue
        for term in need.terms if lot.term is None else (lot.term,):
            prices = [price for price in catalog.prices(instance.name, term, on) if _region_allowed(price, need)]
            if prices:
                found.append(Quote(instance, prices[0]))
    known = lot.cloud_usd_per_month or 0.0
    return tuple(sorted(found, key=lambda quote: abs(quote.usd_per_month(lot) - known)))


def operator_allowed(operator: str, need: Need) -> bool:
    """Return whether the need lets an operator run the machines."""
    return not need.operators or operator.lower() in {name.lower() for name in need.operators}


def _operator_allowed(instance: Instance, need: Need) -> bool:
    return operator_allowed(instance.operator, need) or operator_allowed(instance.provider, need)


def _region_allowed(price: InstancePrice, need: Need) -> bool:
    return not need.regions or price.region.startswith(need.regions)
