"""The load that a fleet must carry: a year of weekdays and weekends by the hour, months of equal load merged.

Knows the workload alone. Rates are requests a second; a bucket stands for the hours a year that look like it.
"""

import msgspec
import numpy as np

from bessemer_planner.workload import Workload

DAYS_PER_MONTH = 365.25 / 12


class Demand(msgspec.Struct, frozen=True):
    """Rates [month group, day type (0 weekday, 1 weekend day), hour]."""

    months: tuple[int, ...]
    """Months of the year in each group."""
    hours: np.ndarray
    """[groups, 2, 24] hours a year that a bucket stands for."""
    interactive: dict[str, np.ndarray]
    """Per model: mean requests a second that must be answered within the limits."""
    batch: dict[str, np.ndarray]
    """Per model: mean requests a second that may wait until their deadline."""

    def requests_per_year(self, model: str) -> float:
        """Return the requests of a year that a model processes."""
        return float(((self.interactive[model] + self.batch[model]) * self.hours).sum() * 3600)


def demand_of(workload: Workload) -> Demand:
    """Spread a workload over the buckets of its first year."""
    traffic = workload.traffic
    shape = np.asarray(traffic.hours) / sum(traffic.hours)
    months = np.asarray(traffic.months or (1.0,) * 12)
    loads = months / months.mean() * (1 + traffic.growth_per_month) ** np.arange(12)
    factors, counts = np.unique(np.round(loads, 9), return_counts=True)
    weekdays, weekend_days = DAYS_PER_MONTH * 5 / 7, DAYS_PER_MONTH * 2 / 7
    per_weekday = traffic.requests_per_month / (weekdays + weekend_days * traffic.weekend)
    day = np.array([1.0, traffic.weekend])
    rate = factors[:, None, None] * per_weekday * day[None, :, None] * shape[None, None, :] / 3600
    days = np.array([weekdays, weekend_days])
    hours = counts[:, None, None] * days[None, :, None] * np.ones(24)[None, None, :]
    interactive = {use.name: rate * workload.share(use.name) * (1 - traffic.batch_share) for use in workload.models}
    batch = {use.name: rate * workload.share(use.name) * traffic.batch_share for use in workload.models}
    return Demand(tuple(int(count) for count in counts), hours, interactive, batch)
