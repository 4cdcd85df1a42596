"""Tuning beside serving: its hours on every instance, and what its runs cost when they are booked by themselves."""

import math
from collections.abc import Sequence

import msgspec

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.economics.types import HOURS_PER_YEAR
from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.fleet.types import Offer, TuningNeed
from bessemer_planner.performance.training import Goodput, goodput, training_flops
from bessemer_planner.workload import Tuning, Workload

_BOOKED_UNIT_HOURS = {"on_demand": 1.0, "spot": 1.0, "capacity_block": 24.0}
"""Capacity Blocks are booked by the day (AWS documentation); other hourly terms by the hour."""

_MACHINE = 8
"""Accelerators of the smallest machine that is usual for training."""


class Effective(msgspec.Struct, frozen=True):
    """The hours of one run with what failures, restarts and checkpoints cost."""

    accelerator_hours: float
    """Declared hours over the share that is not lost."""
    size: int
    """Accelerators that work together."""
    goodput: Goodput
    restart_s: float


def effective(tuning: Tuning, catalog: HardwareCatalog) -> Effective:
    """Return what a run takes where accelerators fail. Raises Unsatisfiable when they fail faster than it restarts."""
    months = HOURS_PER_YEAR / 12 * tuning.every_months
    size = tuning.size or max(_MACHINE, math.ceil(tuning.accelerator_hours / months))
    minutes, rate = tuning.restart_minutes, tuning.failures_per_accelerator_hour
    restart_s = 60.0 * (catalog.figure("reliability.restart_minutes").value if minutes is None else minutes)
    try:
        kept = goodput(
            size,
            save_s=tuning.save_seconds,
            restart_s=restart_s,
            checkpoint_s=None if tuning.checkpoint_minutes is None else 60.0 * tuning.checkpoint_minutes,
            failures_per_hour=catalog.figure("reliability.failures_per_gpu_hour").value if rate is None else rate,
        )
    except Unsatisfiable as error:
        raise Unsatisfiable(f"tuning {tuning.name!r}: {error.message}", param="tuning.size") from None
    return Effective(tuning.accelerator_hours / kept.share, size, kept, restart_s)


def tuning_needs(workload: Workload, catalog: HardwareCatalog, offers: Sequence[Offer]) -> tuple[TuningNeed, ...]:
    """Return the needs of a workload, failures included, converted to every offered accelerator by its training speed.

    MLPerf Training anchors it where it was measured: an hour of GB200 does 2.2 times the work of one of H100, not the
    2.5 times of their 16-bit peaks.
    """
    return tuple(_need(one, catalog, offers) for one in workload.tuning)


def _need(tuning: Tuning, catalog: HardwareCatalog, offers: Sequence[Offer]) -> TuningNeed:
    declared = effective(tuning, catalog)
    counted = training_flops(catalog.accelerator(tuning.accelerator))
    allowed = {catalog.accelerator(name).name for name in tuning.accelerators}
    hours: dict[str, float] = {}
    bookings: list[tuple[float, str, str]] = []
    for offer in offers:
        if allowed and offer.accelerator not in allowed:
            continue
        run = declared.accelerator_hours * counted / training_flops(catalog.accelerator(offer.accelerator))
        hours[offer.instance] = run / tuning.every_months
        if (step := _BOOKED_UNIT_HOURS.get(offer.term)) is not None:
            booked = math.ceil(run / offer.accelerators / step) * step * offer.usd_per_hour
            bookings.append((booked / tuning.every_months, offer.instance, offer.term))
    if not bookings:
        return TuningNeed(tuning.name, hours, goodput=declared.goodput.share)
    usd, instance, term = min(bookings)
    return TuningNeed(tuning.name, hours, usd, (instance, term), declared.goodput.share)
