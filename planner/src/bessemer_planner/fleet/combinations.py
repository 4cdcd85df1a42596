"""One configuration per model: which combination is cheapest, before batch work and tuning are placed exactly.

For a given combination the units of every hour are known, and each unit is paid in the cheaper of two ways: committed
for the whole year, or by the hour while it is needed. That is exact without batch work, tuning, quota and budget; with
batch work the day's mean is taken to run beside the interactive load.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from bessemer_planner.fleet.program import needed_alone
from bessemer_planner.fleet.types import Column, FleetProblem, Offer

_MOST = 4096


def ranked(problem: FleetProblem) -> list[tuple[float, tuple[Column, ...]]]:
    """Return combinations of one column per model with their USD a year without tuning, cheapest first."""
    return sorted(_priced(problem), key=lambda pair: pair[0])


def cheapest(problem: FleetProblem) -> tuple[float, tuple[Column, ...]]:
    """Return the USD a year of the cheapest combination, and the combination; tuning is counted as booked."""
    usd, chosen = min(_priced(problem), key=lambda pair: pair[0])
    return usd + sum(12 * (need.booked_usd_per_month or 0.0) for need in problem.tuning), chosen


def _priced(problem: FleetProblem) -> list[tuple[float, tuple[Column, ...]]]:
    choices = [[column for column in problem.columns if column.model == model] for model in problem.interactive]
    hours = problem.hours.ravel()
    needs = {column.name: running_replicas(problem, column) * column.accelerators for column in problem.columns}
    priced = []
    for chosen in itertools.islice(itertools.product(*choices), _MOST):
        usd = 0.0
        for instance in dict.fromkeys(column.instance for column in chosen):
            offers = [offer for offer in problem.offers if offer.instance == instance]
            taken = np.sum([needs[column.name] for column in chosen if column.instance == instance], axis=0)
            usd += cheapest_payment(np.ceil(taken / offers[0].accelerators - 1e-9), hours, offers)
        priced.append((usd, chosen))
    return priced


def running_replicas(problem: FleetProblem, column: Column) -> np.ndarray:
    """Return replicas per bucket [buckets] of a column alone, the day's mean batch work beside it."""
    wanted = problem.interactive[column.model]
    daily = np.broadcast_to(problem.batch[column.model].mean(axis=2, keepdims=True), wanted.shape)
    together: np.ndarray = np.ceil(wanted / column.rate + daily / column.batch_rate - 1e-9).ravel()
    most: np.ndarray = np.maximum(needed_alone(problem, column), together)
    return most


def cheapest_payment(units: np.ndarray, hours: np.ndarray, offers: Sequence[Offer]) -> float:
    """Return USD a year for units [buckets] of one instance: the k-th unit is committed, or paid while it runs."""
    year = float(hours.sum())
    committed = min((offer.usd_per_hour for offer in offers if offer.committed), default=np.inf) * year
    hourly = min((offer.usd_per_hour for offer in offers if not offer.committed), default=np.inf)
    levels = np.unique(units[units > 0])
    order = np.argsort(units, kind="stable")
    longest = np.append(np.cumsum(hours[order][::-1])[::-1], 0.0)  # hours of as many or more units, by rising units
    running = longest[np.searchsorted(units[order], levels)]
    count = np.diff(levels, prepend=0.0)
    with np.errstate(invalid="ignore"):
        each = np.minimum(committed, np.where(np.isinf(hourly), np.inf, hourly * running))
    return float((count * each).sum())
