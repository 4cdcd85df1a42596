"""The plan: a recommendation with everything it rests on, as one serialisable value that other tools can read.

Intervals of predictions should hold 80 % of measurements; intervals of money are P50 with P10 and P90.
"""

from enum import StrEnum

import msgspec

from bessemer_planner.economics import HourCurve, Ownership, Swing
from bessemer_planner.fleet.configurations import Refusal
from bessemer_planner.fleet.verify import EndToEnd, LatencyCheck
from bessemer_planner.performance import NearestPoint
from bessemer_planner.types import IntervalEstimate
from bessemer_planner.workload import Workload


class Basis(StrEnum):
    """How a number came about."""

    MEASURED = "measured"
    PREDICTED = "predicted"
    """By the calibrated model, within the range that it was measured in."""
    EXTRAPOLATED = "extrapolated"
    """By the calibrated model, outside that range."""


class LoadPoint(msgspec.Struct, frozen=True):
    """One load of a throughput-latency curve."""

    concurrency: float
    ttft_s: IntervalEstimate
    tpot_s: IntervalEstimate
    output_tokens_s: IntervalEstimate
    """Of one replica."""


class ConfigurationRow(msgspec.Struct, frozen=True):
    """One way to serve a model, and what it does at the largest load within the limits."""

    name: str
    model: str
    accelerator: str
    instance: str | None
    """Cheapest allowed instance per request at full load; None: none holds it."""
    engine: str
    engine_version: str
    precision: str
    tensor_parallel: int
    prefill_replicas: int
    """Disaggregated; 0: prefill and decode on the same replica."""
    decode_replicas: int
    accelerators: int
    max_batch: int
    basis: Basis
    basis_note: str
    """What was never measured, when extrapolated."""
    requests_s: float
    """Of one replica, within the limits; confirmed by simulation when `verdict` is there."""
    concurrency: float
    ttft_s: IntervalEstimate
    tpot_s: IntervalEstimate
    output_tokens_s: IntervalEstimate
    """Of one replica, at that load."""
    usd_per_million_output_tokens: float | None
    """At full load, cheapest allowed price; None: nothing is priced."""
    joules_per_output_token: float | None
    """At the meter, at full load; None where the machine's power is not known."""
    verdict: LatencyCheck | None
    """The simulator's, for configurations that were simulated."""
    chosen: bool
    curve: tuple[LoadPoint, ...]
    nearest: tuple[NearestPoint, ...]
    """Measured points close to it."""
    warnings: tuple[str, ...]


class Purchase(msgspec.Struct, frozen=True):
    """Units of an instance under one term."""

    instance: str
    accelerator: str
    accelerators: int
    """In one unit."""
    term: str
    committed: bool
    units: int
    """Committed units, or the most that run at the same time."""
    usd_per_hour: float
    unit_hours_per_month: float
    usd_per_month: float
    region: str
    price_date: str
    price_source: str


class Booking(msgspec.Struct, frozen=True):
    """Tuning runs, in the fleet's idle hours and booked by themselves."""

    name: str
    instance: str | None
    term: str | None
    booked_share: float
    """Of its hours; the rest runs on idle accelerators of the fleet."""
    accelerator_hours_per_month: float
    """Booked, of the booked instance's accelerators."""
    usd_per_month: float
    goodput: float = 1.0
    """Share of its hours, booked or idle, that moves it forward: failures, restarts and checkpoints take the rest."""


class DayLine(msgspec.Struct, frozen=True):
    """24 hourly values of the busiest month."""

    name: str
    weekday: tuple[float, ...]
    weekend: tuple[float, ...]


class Fleet(msgspec.Struct, frozen=True):
    """What to run and to pay in the first year."""

    purchases: tuple[Purchase, ...]
    bookings: tuple[Booking, ...]
    replicas: tuple[DayLine, ...]
    """By configuration, spares included."""
    units: tuple[DayLine, ...]
    """Paid units by instance and term."""
    demand: tuple[DayLine, ...]
    """Requests a second by model, batch work included."""
    usd_per_month: float
    usd_per_million_tokens: float
    """Over input and output tokens of all models."""
    usd_per_million_output_tokens: float
    usd_per_thousand_requests: float
    peak_accelerators: float
    mean_accelerators: float
    load_share: float
    """Of the running replicas' planned capacity, over the year."""
    kwh_per_month: float | None
    peak_kw: float | None
    joules_per_output_token: float | None
    gap: float
    """Relative distance to the best cost that the optimiser has not ruled out for these configurations."""


class LimitStep(msgspec.Struct, frozen=True):
    """What the fleet would cost with other latency limits."""

    factor: float
    ttft_s: float
    tpot_s: float
    usd_per_month: float | None
    """None: infeasible."""
    what: str
    """The configurations, or why there is none."""


class VolumePoint(msgspec.Struct, frozen=True):
    """What the fleet would cost with another number of requests."""

    requests_per_month: float
    usd_per_month: float
    usd_per_million_output_tokens: float
    what: str


class Change(msgspec.Struct, frozen=True):
    """Something that would change the recommendation."""

    when: str
    then: str


class Assumed(msgspec.Struct, frozen=True):
    """Something the plan rests on, and where it is from."""

    name: str
    value: str
    source: str
    date: str | None = None


class Solving(msgspec.Struct, frozen=True):
    """How the answer was found."""

    configurations: int
    refused: int
    rounds: int
    """Of optimiser and simulator."""
    cuts: dict[str, int]
    """How often the simulator lowered a configuration's rate by a tenth."""
    seconds: float


class Plan(msgspec.Struct, frozen=True):
    """A workload, the recommended fleet, who should own it, and what the answer rests on."""

    made_at: str
    workload: Workload
    recommendation: str
    """One paragraph."""
    configurations: tuple[ConfigurationRow, ...]
    refused: tuple[Refusal, ...]
    fleet: Fleet
    end_to_end: EndToEnd | None
    """The whole cascade at the busiest hour, simulated; None without one."""
    ownership: tuple[Ownership, ...]
    """Public cloud, AI factory, own data centre."""
    owned_fleets: dict[str, str]
    """What was compared in each of them: every way has the fleet that is cheapest in it."""
    hours: tuple[HourCurve, ...]
    """What a held accelerator-hour costs in each of them, by years of use."""
    steps: tuple[LimitStep, ...]
    volumes: tuple[VolumePoint, ...]
    drivers: tuple[Swing, ...]
    """What moves the monthly cost, widest first; USD a month."""
    changes: tuple[Change, ...]
    assumptions: tuple[Assumed, ...]
    warnings: tuple[str, ...]
    solving: Solving
    schema: str = "bessemer.plan/1"
