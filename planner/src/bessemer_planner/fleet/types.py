"""The fleet problem and its solution, as the optimiser sees them: plain rates, counts and prices.

Knows no model of performance: a column says how many requests a second one replica carries, and that is all.
"""

from collections.abc import Mapping

import msgspec
import numpy as np

from bessemer_planner.types import InstancePrice


class Column(msgspec.Struct, frozen=True):
    """A configuration that may be deployed: a replica on some accelerators of an instance."""

    name: str
    model: str
    instance: str
    accelerators: int
    """Accelerators that one replica occupies."""
    rate: float
    """Interactive requests a second that one replica carries within the limits."""
    batch_rate: float
    """Requests a second of one replica when nobody waits."""


class Offer(msgspec.Struct, frozen=True):
    """A way to pay for an instance."""

    instance: str
    accelerator: str
    accelerators: int
    """Accelerators in one unit."""
    term: str
    usd_per_hour: float
    committed: bool
    """Paid for every hour of the year; otherwise by the hour, when it runs."""
    least_units: int = 0
    """Smallest number of units when any is taken."""
    most_units: int | None = None
    price: InstancePrice | None = None


class TuningNeed(msgspec.Struct, frozen=True):
    """Accelerator hours of tuning: hours a month when they run on an instance's accelerators."""

    name: str
    hours_per_month: Mapping[str, float]
    """By instance; an instance that is not named cannot run it."""
    booked_usd_per_month: float | None = None
    """Cost when its runs are booked by themselves, outside the fleet; None: not sold that way."""
    booked_on: tuple[str, str] | None = None
    """Instance and term of that booking."""
    goodput: float = 1.0
    """Share of these hours that moves it forward; failures, restarts and checkpoints take the rest."""


class FleetProblem(msgspec.Struct, frozen=True):
    """Columns and offers against demand. Arrays are [groups, 2 day types, 24 hours]."""

    hours: np.ndarray
    columns: tuple[Column, ...]
    offers: tuple[Offer, ...]
    interactive: Mapping[str, np.ndarray]
    """Requests a second to be carried within the limits, the service level's margin included."""
    batch: Mapping[str, np.ndarray]
    deadline_hours: int = 24
    spares: int = 0
    configurations: int = 2
    budget_per_year: float | None = None
    tuning: tuple[TuningNeed, ...] = ()
    quota: Mapping[str, int] = {}


class FleetSolution(msgspec.Struct, frozen=True):
    """What to deploy and to pay. Arrays are [groups, 2, 24]."""

    usd_per_year: float
    committed: Mapping[tuple[str, str], int]
    """Units by (instance, term)."""
    on_demand: Mapping[tuple[str, str], np.ndarray]
    """Running units by (instance, term)."""
    replicas: Mapping[str, np.ndarray]
    """Running replicas by column name, spares included."""
    served: Mapping[str, np.ndarray]
    """Interactive requests a second by column name."""
    batch_served: Mapping[str, np.ndarray]
    tuning: Mapping[str, np.ndarray]
    """Accelerators busy with tuning, by instance."""
    booked: Mapping[str, float]
    """Share of each tuning need that is booked by itself."""
    gap: float
    """Relative distance to the best cost that is not yet ruled out, of all combinations that were tried."""
    seconds: float
