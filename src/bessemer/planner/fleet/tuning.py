"""Tuning beside serving: its hours on every instance, and what its runs cost when they are booked by themselves."""

import math
from collections.abc import Sequence

from bessemer.planner.catalog import Catalog
from bessemer.planner.fleet.types import Offer, TuningNeed
from bessemer.planner.performance.training import training_flops
from bessemer.planner.workload import Tuning, Workload

_BOOKED_UNIT_HOURS = {"on_demand": 1.0, "spot": 1.0, "capacity_block": 24.0}
"""Capacity Blocks are booked by the day (AWS documentation); other hourly terms by the hour."""


def tuning_needs(workload: Workload, catalog: Catalog, offers: Sequence[Offer]) -> tuple[TuningNeed, ...]:
    """Return the needs of a workload, converted to every offered accelerator by the training speed that each reaches.

    MLPerf Training anchors it where it was measured: an hour of GB200 does 2.2 times the work of one of H100, not the
    2.5 times of their 16-bit peaks.
    """
    return tuple(_need(one, catalog, offers) for one in workload.tuning)


def _need(tuning: Tuning, catalog: Catalog, offers: Sequence[Offer]) -> TuningNeed:
    counted = training_flops(catalog.accelerator(tuning.accelerator))
    allowed = {catalog.accelerator(name).name for name in tuning.accelerators}
    hours: dict[str, float] = {}
    bookings: list[tuple[float, str, str]] = []
    for offer in offers:
        if allowed and offer.accelerator not in allowed:
            continue
        run = tuning.accelerator_hours * counted / training_flops(catalog.accelerator(offer.accelerator))
        hours[offer.instance] = run / tuning.every_months
        if (step := _BOOKED_UNIT_HOURS.get(offer.term)) is not None:
            booked = math.ceil(run / offer.accelerators / step) * step * offer.usd_per_hour
            bookings.append((booked / tuning.every_months, offer.instance, offer.term))
    if not bookings:
        return TuningNeed(tuning.name, hours)
    usd, instance, term = min(bookings)
    return TuningNeed(tuning.name, hours, usd, (instance, term))
