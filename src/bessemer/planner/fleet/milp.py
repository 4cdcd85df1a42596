"""Solving the fleet: the whole year at once where HiGHS can, otherwise commitments first and then month by month.

In the second way commitments and columns are chosen on representative months (each stands for months of no more load),
and every month is then dispatched by itself.
"""

import time

import msgspec
import numpy as np

from bessemer.core.errors import Infeasible
from bessemer.planner.fleet.combinations import ranked
from bessemer.planner.fleet.program import Fixed, Program
from bessemer.planner.fleet.types import FleetProblem, FleetSolution

_REPRESENTATIVES = 3
_ACCEPTED_GAP = 0.01
_SHORTLIST = 3
"""Combinations that are solved exactly."""
_HOPELESS = 1.1
"""A combination estimated so much above the best solution is not solved."""


def solve_fleet(problem: FleetProblem, *, time_limit_s: float = 20.0) -> FleetSolution:
    """Return the cheapest fleet. Raises Infeasible with the reason and the nearest fleet that exists."""
    started = time.perf_counter()
    _check(problem)
    solution = _cheapest(problem, time_limit_s)
    if solution is None:
        raise _reason(problem, time_limit_s)
    return msgspec.structs.replace(solution, seconds=time.perf_counter() - started)


def _cheapest(problem: FleetProblem, time_limit_s: float) -> FleetSolution | None:
    """Solve the best combinations of one column per model, or everything at once where more are allowed."""
    if problem.configurations > 1:
        return _solve(problem, time_limit_s)
    best: FleetSolution | None = None
    bound = np.inf
    for estimate, chosen in ranked(problem)[:_SHORTLIST]:
        if best is not None and estimate > _HOPELESS * best.usd_per_year:
            break
        held = {column.instance for column in chosen} | {
            name for need in problem.tuning for name in need.hours_per_month
        }
        part = msgspec.structs.replace(
            problem, columns=chosen, offers=tuple(offer for offer in problem.offers if offer.instance in held)
        )
        found = _solve(part, time_limit_s / _SHORTLIST)
        if found is None:
            continue
        bound = min(bound, found.usd_per_year * (1 - found.gap))
        if best is None or found.usd_per_year < best.usd_per_year:
            best = found
    if best is None or best.usd_per_year <= 0:
        return best
    return msgspec.structs.replace(best, gap=max(1 - bound / best.usd_per_year, 0.0))


def _solve(problem: FleetProblem, time_limit_s: float) -> FleetSolution | None:
    """Solve the whole year; where that stays far from its bound, month by month as well, and keep the cheaper."""
    whole = _whole(problem, time_limit_s)
    if whole is None or whole.gap <= _ACCEPTED_GAP or problem.hours.shape[0] <= _REPRESENTATIVES:
        return whole
    staged = _staged(problem, time_limit_s)
    if staged is None or staged.usd_per_year >= whole.usd_per_year:
        return whole
    return msgspec.structs.replace(staged, gap=1 - whole.usd_per_year * (1 - whole.gap) / staged.usd_per_year)


def _whole(problem: FleetProblem, time_limit_s: float) -> FleetSolution | None:
    program = Program(problem)
    found = program.solve(time_limit_s)
    return None if found is None else program.solution(*found)


def _staged(problem: FleetProblem, time_limit_s: float) -> FleetSolution | None:
    groups = problem.hours.shape[0]
    parts = np.array_split(_by_load(problem), _REPRESENTATIVES)
    rough = Program(_slice(problem, [int(part[-1]) for part in parts], [part.tolist() for part in parts]))
    found = rough.solve(time_limit_s / 2)
    if found is None:
        return None
    fixed, gap = rough.choices(found[0]), found[1]
    months = []
    for group in range(groups):
        program = Program(_slice(problem, [group], [[group]]), fixed)
        month = program.solve(time_limit_s / 2 / groups)
        if month is None:
            return None
        months.append(program.solution(*month))
    return _joined(problem, fixed, months, gap)


def _by_load(problem: FleetProblem) -> np.ndarray:
    """Return the groups by rising load."""
    total = sum(problem.interactive.values()) + sum(problem.batch.values())
    return np.argsort(np.asarray(total).sum(axis=(1, 2)), kind="stable")


def _slice(problem: FleetProblem, chosen: list[int], stands_for: list[list[int]]) -> FleetProblem:
    """Return the problem of some groups, each with the hours of all groups that it stands for."""
    return msgspec.structs.replace(
        problem,
        hours=np.stack([problem.hours[groups].sum(axis=0) for groups in stands_for]),
        interactive={name: rate[chosen] for name, rate in problem.interactive.items()},
        batch={name: rate[chosen] for name, rate in problem.batch.items()},
        budget_per_year=problem.budget_per_year if len(chosen) > 1 else None,
    )


def _joined(problem: FleetProblem, fixed: Fixed, months: list[FleetSolution], gap: float) -> FleetSolution:
    shape = problem.hours.shape[1:]

    weights = problem.hours.sum(axis=(1, 2)) / problem.hours.sum()

    def stack(field: str) -> dict[object, np.ndarray]:
        parts = [getattr(month, field) for month in months]
        names = {name: None for part in parts for name in part}
        return {name: np.stack([part.get(name, np.zeros(shape)).reshape(shape) for part in parts]) for name in names}

    return FleetSolution(
        usd_per_year=sum(month.usd_per_year for month in months),
        committed={key: count for key, count in fixed.committed.items() if count},
        on_demand=stack("on_demand"),  # type: ignore[arg-type]
        replicas=stack("replicas"),  # type: ignore[arg-type]
        served=stack("served"),  # type: ignore[arg-type]
        batch_served=stack("batch_served"),  # type: ignore[arg-type]
        tuning=stack("tuning"),  # type: ignore[arg-type]
        booked={
            need.name: float(
                sum(month.booked.get(need.name, 0.0) * weight for month, weight in zip(months, weights, strict=True))
            )
            for need in problem.tuning
        },
        gap=max([gap, *(month.gap for month in months)]),
        seconds=0.0,
    )


def _check(problem: FleetProblem) -> None:
    for name in problem.interactive:
        if not any(column.model == name for column in problem.columns):
            raise Infeasible(f"No configuration serves {name!r} within the limits.", param="models")
    bought = {offer.instance for offer in problem.offers}
    for column in problem.columns:
        assert column.instance in bought, f"no offer for {column.instance}"


def _reason(problem: FleetProblem, time_limit_s: float) -> Infeasible:
    """Find out which limit makes a problem infeasible by solving it without that limit."""
    if problem.budget_per_year is not None:
        free = _cheapest(msgspec.structs.replace(problem, budget_per_year=None), time_limit_s)
        if free is not None:
            return Infeasible(
                f"The budget of ${problem.budget_per_year / 12:,.0f} a month is not enough; the cheapest fleet costs "
                f"${free.usd_per_year / 12:,.0f} a month. Raise money.budget_per_month or relax the limits.",
                param="money.budget_per_month",
            )
    if problem.quota:
        free = _cheapest(msgspec.structs.replace(problem, quota={}, budget_per_year=None), time_limit_s)
        if free is not None:
            needed = ", ".join(f"{name} {count}" for name, count in peak_units(free).items())
            return Infeasible(
                f"The quota is too small for the demand; without it the fleet's peak is {needed}. Raise fleet.quota.",
                param="fleet.quota",
            )
    if problem.tuning:
        free = _cheapest(msgspec.structs.replace(problem, tuning=(), budget_per_year=None), time_limit_s)
        if free is not None:
            names = ", ".join(need.name for need in problem.tuning)
            return Infeasible(
                f"No allowed accelerator can run the tuning ({names}); allow another in tuning.accelerators or "
                "fleet.accelerators.",
                param="tuning",
            )
    return Infeasible("No fleet of the allowed configurations carries the demand; allow more in [fleet].")


def peak_units(solution: FleetSolution) -> dict[str, int]:
    """Return the most units of each instance that run at the same time."""
    running: dict[str, np.ndarray] = {}
    for (instance, _), units in solution.on_demand.items():
        running[instance] = running.get(instance, np.zeros(())) + units
    for (instance, _), count in solution.committed.items():
        running[instance] = running.get(instance, np.zeros(())) + count
    return {name: int(np.max(units)) for name, units in running.items()}
