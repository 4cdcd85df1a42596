"""Solving the fleet: the whole year at once where HiGHS can, otherwise commitments first and then month by month.

In the second way commitments and columns are chosen on representative months (each stands for months of no more load),
and every month is then dispatched by itself. Which way is taken depends on the size of the problem and on the gap that
is left, never on the clock: the same problem has the same fleet on every machine.
"""

import time

import msgspec
import numpy as np

from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.fleet.combinations import ranked
from bessemer_planner.fleet.program import Fixed, Program
from bessemer_planner.fleet.types import Column, FleetProblem, FleetSolution

_REPRESENTATIVES = 3
_ACCEPTED_GAP = 0.01
_SHORTLIST = 3
"""Combinations that are solved exactly."""
_HOPELESS = 1.1
"""A combination estimated so much above the best solution is not solved."""
_MOST_WHOLES = 1000
"""Whole numbers of a problem with several configurations of a model up to which it is solved at once: its relaxation is
loose, and the root of the search alone takes minutes with a few thousand. One with one configuration is tight."""


Solved = dict[tuple[Column, ...], FleetSolution | None]
"""Combinations that were solved, for problems that differ in their columns alone."""


def solve_fleet(problem: FleetProblem, solved: Solved | None = None) -> FleetSolution:
    """Return the cheapest fleet. Raises Unsatisfiable with the reason and the nearest fleet that exists.

    `solved` remembers combinations between calls: between two rounds of `choose` only few columns change.
    """
    started = time.perf_counter()
    _check(problem)
    solution = _cheapest(problem, {} if solved is None else solved)
    if solution is None:
        raise _reason(problem)
    return msgspec.structs.replace(solution, seconds=time.perf_counter() - started)


def _cheapest(problem: FleetProblem, solved: Solved) -> FleetSolution | None:
    """Solve the best combinations of one column per model; where more are allowed, mixtures of them as well."""
    if problem.configurations == 1:
        return _best_combination(problem, solved)
    program = Program(problem)
    if program.wholes <= _MOST_WHOLES:
        return _solve(problem)
    alone = _best_combination(msgspec.structs.replace(problem, configurations=1), solved)
    mixed = _staged(problem, _months_within(problem, program.wholes))
    found = [one for one in (alone, mixed) if one is not None]
    if not found:
        return None
    best = min(found, key=lambda one: one.usd_per_year)
    return msgspec.structs.replace(best, gap=_over(program.bound(), best.usd_per_year))


def _months_within(problem: FleetProblem, wholes: int) -> int:
    """Return how many representative months keep the whole numbers few enough; at least one."""
    within = _MOST_WHOLES * int(problem.hours.shape[0]) // (2 * wholes)
    return max(1, min(_REPRESENTATIVES, within))


def _best_combination(problem: FleetProblem, solved: Solved) -> FleetSolution | None:
    best: FleetSolution | None = None
    bound = np.inf
    for estimate, chosen in ranked(problem)[:_SHORTLIST]:
        if best is not None and estimate > _HOPELESS * best.usd_per_year:
            break
        if chosen not in solved:
            solved[chosen] = _solve(_only(problem, chosen))
        found = solved[chosen]
        if found is None:
            continue
        bound = min(bound, found.usd_per_year * (1 - found.gap))
        if best is None or found.usd_per_year < best.usd_per_year:
            best = found
    return best and msgspec.structs.replace(best, gap=_over(bound, best.usd_per_year))


def _only(problem: FleetProblem, chosen: tuple[Column, ...]) -> FleetProblem:
    """Return the problem of one combination, with the offers that it or the tuning may use."""
    held = {column.instance for column in chosen} | {name for need in problem.tuning for name in need.hours_per_month}
    offers = tuple(offer for offer in problem.offers if offer.instance in held)
    return msgspec.structs.replace(problem, columns=chosen, offers=offers)


def _over(bound: float, usd: float) -> float:
    """Return how far a cost is above its bound, relative to the cost."""
    return max(1 - bound / usd, 0.0) if usd > 0 else 0.0


def _solve(problem: FleetProblem) -> FleetSolution | None:
    """Solve the whole year; where that stays far from its bound, month by month as well, and keep the cheaper."""
    whole = _whole(problem)
    if whole is None or whole.gap <= _ACCEPTED_GAP or problem.hours.shape[0] <= _REPRESENTATIVES:
        return whole
    staged = _staged(problem, _REPRESENTATIVES)
    if staged is None or staged.usd_per_year >= whole.usd_per_year:
        return whole
    return msgspec.structs.replace(staged, gap=_over(whole.usd_per_year * (1 - whole.gap), staged.usd_per_year))


def _whole(problem: FleetProblem) -> FleetSolution | None:
    program = Program(problem)
    found = program.solve()
    return None if found is None else program.solution(*found)


def _staged(problem: FleetProblem, representatives: int) -> FleetSolution | None:
    groups = problem.hours.shape[0]
    parts = np.array_split(_by_load(problem), representatives)
    rough = Program(_slice(problem, [int(part[-1]) for part in parts], [part.tolist() for part in parts]))
    found = rough.solve()
    if found is None:
        return None
    fixed, gap = rough.choices(found[0]), found[1]
    months = []
    for group in range(groups):
        program = Program(_slice(problem, [group], [[group]]), fixed)
        month = program.solve()
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
            raise Unsatisfiable(f"No configuration serves {name!r} within the limits.", param="models")
    bought = {offer.instance for offer in problem.offers}
    for column in problem.columns:
        assert column.instance in bought, f"no offer for {column.instance}"


def _reason(problem: FleetProblem) -> Unsatisfiable:
    """Find out which limit makes a problem infeasible by solving it without that limit."""
    if problem.budget_per_year is not None:
        free = _cheapest(msgspec.structs.replace(problem, budget_per_year=None), {})
        if free is not None:
            return Unsatisfiable(
                f"The budget of ${problem.budget_per_year / 12:,.0f} a month is not enough; the cheapest fleet costs "
                f"${free.usd_per_year / 12:,.0f} a month. Raise money.budget_per_month or relax the limits.",
                param="money.budget_per_month",
            )
    if problem.quota:
        free = _cheapest(msgspec.structs.replace(problem, quota={}, budget_per_year=None), {})
        if free is not None:
            needed = ", ".join(f"{name} {count}" for name, count in peak_units(free).items())
            return Unsatisfiable(
                f"The quota is too small for the demand; without it the fleet's peak is {needed}. Raise fleet.quota.",
                param="fleet.quota",
            )
    if problem.tuning:
        free = _cheapest(msgspec.structs.replace(problem, tuning=(), budget_per_year=None), {})
        if free is not None:
            names = ", ".join(need.name for need in problem.tuning)
            return Unsatisfiable(
                f"No allowed accelerator can run the tuning ({names}); allow another in tuning.accelerators or "
                "fleet.accelerators.",
                param="tuning",
            )
    return Unsatisfiable("No fleet of the allowed configurations carries the demand; allow more in [fleet].")


def peak_units(solution: FleetSolution) -> dict[str, int]:
    """Return the most units of each instance that run at the same time."""
    running: dict[str, np.ndarray] = {}
    for (instance, _), units in solution.on_demand.items():
        running[instance] = running.get(instance, np.zeros(())) + units
    for (instance, _), count in solution.committed.items():
        running[instance] = running.get(instance, np.zeros(())) + count
    return {name: int(np.max(units)) for name, units in running.items()}
