"""The fleet as a mixed-integer program on HiGHS: the cheapest replicas and purchases that carry the demand.

Variables: x interactive and b batch requests a second, backlog q, replicas u, on-demand units o, tuning accelerators k
per bucket; committed units n, whether a commitment is taken z, and whether a column is used y. Commitments are paid all
year. The batch backlog runs around each day, so nothing is left to a day that never comes.

A model with one column needs neither x nor y: its whole replicas and units per bucket are known in advance, which makes
the relaxation tight. A configuration in use runs in every bucket, spares included.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from bessemer_planner.economics.types import HOURS_PER_MONTH
from bessemer_planner.errors import PlannerError
from bessemer_planner.fleet.types import Column, FleetProblem, FleetSolution, Offer, TuningNeed

_INTEGER_BELOW = 24.0
"""Replicas are whole numbers below this many at the peak; above it rounding up costs less than 4 %."""
_GAP = 0.005
_NODES = 400
"""Of the search tree. The ready plans are solved at its root."""
_SAFETY_S = 600.0
"""No plan is made of a search that the clock ended: it would differ from one day to the next."""
_LIMIT, _INFEASIBLE = 1, 2
"""scipy's status of a search that met a limit, and of a problem that has no solution."""


_Term = tuple[np.ndarray | int, np.ndarray | float]
"""Indices of variables (one per row, or the same in every row) and their coefficients."""


class Fixed(msgspec.Struct, frozen=True):
    """Choices that are already made: units of every commitment, and whether a column is used."""

    committed: Mapping[tuple[str, str], int]
    used: frozenset[str]


def needed_alone(problem: FleetProblem, column: Column) -> np.ndarray:
    """Return whole replicas per bucket [buckets] when a column serves its model alone, spares included."""
    wanted = problem.interactive[column.model].ravel()
    if not wanted.any():
        return np.zeros(wanted.size)
    needed: np.ndarray = np.maximum(np.ceil(wanted / column.rate - 1e-9), 1.0) + problem.spares
    return needed


class _Rows:
    """Sparse rows low <= A v <= high, gathered as triplets."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []
        self.columns: list[np.ndarray] = []
        self.values: list[np.ndarray] = []
        self.low: list[np.ndarray] = []
        self.high: list[np.ndarray] = []
        self.count = 0

    def add(self, terms: Sequence[_Term], low: object, high: object) -> None:
        """Add one row per element of the first term's indices; a scalar index or value is the same in every row."""
        length = max(np.size(index) for index, _ in terms)
        rows = np.arange(self.count, self.count + length)
        for index, value in terms:
            self.rows.append(rows)
            self.columns.append(np.broadcast_to(np.asarray(index), length))
            self.values.append(np.broadcast_to(np.asarray(value, dtype=float), length))
        self._bound(low, high, length)

    def add_sum(self, terms: Sequence[tuple[np.ndarray, np.ndarray | float]], low: float, high: float) -> None:
        """Add one row that sums all elements of all terms."""
        for index, value in terms:
            self.rows.append(np.full(np.size(index), self.count))
            self.columns.append(np.ravel(index))
            self.values.append(np.broadcast_to(np.ravel(np.asarray(value, dtype=float)), np.size(index)))
        self._bound(low, high, 1)

    def _bound(self, low: object, high: object, length: int) -> None:
        self.low.append(np.broadcast_to(np.asarray(low, dtype=float), length))
        self.high.append(np.broadcast_to(np.asarray(high, dtype=float), length))
        self.count += length

    def constraint(self, variables: int) -> LinearConstraint:
        """Return what milp takes."""
        rows, columns = np.concatenate(self.rows), np.concatenate(self.columns)
        matrix = coo_array((np.concatenate(self.values), (rows, columns)), shape=(self.count, variables)).tocsc()
        return LinearConstraint(matrix, np.concatenate(self.low), np.concatenate(self.high))


class Program:
    """Index blocks of the variables, and the rows over them."""

    def __init__(self, problem: FleetProblem, fixed: Fixed | None = None) -> None:
        self.problem = problem
        self.fixed = fixed
        self.shape = problem.hours.shape
        self.size = int(problem.hours.size)
        self.variables = 0
        self.cost: list[np.ndarray] = []
        self.whole: list[np.ndarray] = []
        self.upper: list[np.ndarray] = []
        self.lower: list[np.ndarray] = []
        self.rows = _Rows()
        self.x: dict[str, np.ndarray] = {}
        self.b: dict[str, np.ndarray] = {}
        self.u: dict[str, np.ndarray] = {}
        self.units: dict[tuple[str, str], np.ndarray] = {}
        self.y: dict[str, int] = {}
        self.k: dict[str, list[np.ndarray]] = {}
        self.booked: dict[str, np.ndarray] = {}
        for model in problem.interactive:
            self._serve(model, [column for column in problem.columns if column.model == model])
        for offer in problem.offers:
            self._buy(offer)
        for need in problem.tuning:
            self._tune(need)
        for instance in {offer.instance: None for offer in problem.offers}:
            self._place(instance)
        if problem.budget_per_year is not None:
            everything = np.arange(self.variables)
            self.rows.add_sum([(everything, np.concatenate(self.cost))], -np.inf, problem.budget_per_year)

    def _new(
        self, count: int, *, cost: object = 0.0, whole: bool = False, upper: object = np.inf, lower: object = 0.0
    ) -> np.ndarray:
        index = np.arange(self.variables, self.variables + count)
        self.variables += count
        self.cost.append(np.broadcast_to(np.asarray(cost, dtype=float), count))
        self.whole.append(np.full(count, int(whole)))
        self.upper.append(np.broadcast_to(np.asarray(upper, dtype=float), count))
        self.lower.append(np.broadcast_to(np.asarray(lower, dtype=float), count))
        return index

    def _serve(self, model: str, columns: list[Column]) -> None:
        """Every request is served; a column in use holds its spares in every bucket."""
        wanted = self.problem.interactive[model].ravel()
        waiting = self.problem.batch[model].ravel()
        for column in columns:
            whole = wanted.max() / column.rate + waiting.max() / column.batch_rate < _INTEGER_BELOW
            if len(columns) == 1:
                self.u[column.name] = self._new(self.size, whole=whole, lower=needed_alone(self.problem, column))
            else:
                self.u[column.name] = self._new(self.size, whole=whole)
                self._share(column, wanted)
            if waiting.any():
                b = self.b[column.name] = self._new(self.size)
                busy = wanted / column.rate if len(columns) == 1 else 0.0
                terms: list[_Term] = [(self.u[column.name], 1.0), (b, -1 / column.batch_rate)]
                if len(columns) > 1:
                    terms.append((self.x[column.name], -1 / column.rate))
                self.rows.add(terms, busy, np.inf)
        if len(columns) > 1:
            used = np.array([self.y[column.name] for column in columns])
            self.rows.add_sum([(used, 1.0)], 0.0, float(self.problem.configurations))
            self.rows.add([(self.x[column.name], 1.0) for column in columns], wanted, wanted)
        if waiting.any():
            self._batch([self.b[column.name] for column in columns], waiting)

    def _share(self, column: Column, wanted: np.ndarray) -> None:
        """A column that may take a part of its model's requests, if it is used at all."""
        u = self.u[column.name]
        x = self.x[column.name] = self._new(self.size, upper=wanted)
        if self.fixed is None:
            y = int(self._new(1, whole=True, upper=1.0)[0])
        else:
            known = float(column.name in self.fixed.used)
            y = int(self._new(1, lower=known, upper=known)[0])
        self.y[column.name] = y
        most = needed_alone(self.problem, column)
        if self.problem.batch[column.model].any():
            day = self.problem.batch[column.model].sum(axis=2, keepdims=True) / column.batch_rate
            most = most + np.ceil(np.broadcast_to(day, self.shape).ravel())
        spares = float(self.problem.spares) if wanted.any() else 0.0
        self.rows.add([(u, 1.0), (x, -1 / column.rate), (y, -spares)], 0.0, np.inf)
        self.rows.add([(u, 1.0), (y, -most)], -np.inf, 0.0)
        self.rows.add([(x, 1.0), (y, -wanted)], -np.inf, 0.0)

    def _batch(self, served: list[np.ndarray], arriving: np.ndarray) -> None:
        """q_h = q_{h-1} + arriving_h - served_h around the day; what waits after h is served within the deadline."""
        hour = np.arange(self.size)
        before = hour - hour % 24 + (hour % 24 - 1) % 24
        backlog = self._new(self.size)
        terms: list[_Term] = [(backlog, 1.0), (backlog[before], -1.0)]
        self.rows.add([*terms, *((b, 1.0) for b in served)], arriving, arriving)
        window: list[_Term] = [(backlog, -1.0)]
        for ahead in range(1, min(self.problem.deadline_hours, 23) + 1):
            later = hour - hour % 24 + (hour % 24 + ahead) % 24
            window += [(b[later], 1.0) for b in served]
        self.rows.add(window, 0.0, np.inf)

    def _buy(self, offer: Offer) -> None:
        key = (offer.instance, offer.term)
        most = np.inf if offer.most_units is None else float(offer.most_units)
        if not offer.committed:
            hourly = self.problem.hours.ravel() * offer.usd_per_hour
            self.units[key] = self._new(self.size, cost=hourly, whole=self._few(offer), upper=most)
            return
        yearly = offer.usd_per_hour * float(self.problem.hours.sum())
        if self.fixed is not None:
            known = float(self.fixed.committed.get(key, 0))
            self.units[key] = self._new(1, cost=yearly, lower=known, upper=known)
            return
        self.units[key] = n = self._new(1, cost=yearly, whole=True, upper=most)
        if offer.least_units > 1:
            z = self._new(1, whole=True, upper=1.0)
            self.rows.add([(n, 1.0), (z, -float(offer.least_units))], 0.0, np.inf)
            self.rows.add([(n, 1.0), (z, -1e6)], -np.inf, 0.0)

    def _few(self, offer: Offer) -> bool:
        """Whether an offer's peak is small enough that parts of a unit matter."""
        needs = [
            self.problem.interactive[column.model].max() / column.rate * column.accelerators / offer.accelerators
            for column in self.problem.columns
            if column.instance == offer.instance
        ]
        return max(needs, default=0.0) < _INTEGER_BELOW

    def _tune(self, need: TuningNeed) -> None:
        """Each month's hours of tuning run somewhere, each at its accelerator's speed."""
        groups = self.shape[0]
        per_group = self.size // groups
        months = self.problem.hours.sum(axis=(1, 2)) / HOURS_PER_MONTH
        blocks = []
        for instance, hours in need.hours_per_month.items():
            if not any(offer.instance == instance for offer in self.problem.offers):
                continue  # not for sale
            block = self._new(self.size)
            self.k.setdefault(instance, []).append(block)
            blocks.append((block, self.problem.hours.ravel() / hours))
        booked = None
        if need.booked_usd_per_month is not None:
            cost = need.booked_usd_per_month * months * np.ones(groups)
            self.booked[need.name] = booked = self._new(groups, cost=cost, upper=1.0)
        for group in range(groups):
            inside = slice(group * per_group, (group + 1) * per_group)
            terms = [(block[inside], value[inside]) for block, value in blocks]
            if booked is not None:
                terms.append((booked[group : group + 1], months[group : group + 1]))
            if not terms:  # nothing can run it: a row that cannot be kept
                terms = [(self._new(1, upper=0.0), np.array([1.0]))]
            self.rows.add_sum(terms, float(months[group]), np.inf)

    def _place(self, instance: str) -> None:
        """Replicas and tuning fit on the units that are paid."""
        offers = [offer for offer in self.problem.offers if offer.instance == instance]
        terms: list[_Term] = []
        for offer in offers:
            index = self.units[instance, offer.term]
            terms.append((index if index.size > 1 else int(index[0]), float(offer.accelerators)))
        taken: list[_Term] = [
            (self.u[column.name], -float(column.accelerators))
            for column in self.problem.columns
            if column.instance == instance
        ]
        taken += [(block, -1.0) for block in self.k.get(instance, [])]
        if not taken:
            return
        self.rows.add([*taken, *terms], 0.0, np.inf)
        self._whole_units(instance, [(index, 1.0) for index, _ in terms], offers[0].accelerators)
        if instance in self.problem.quota:
            limit = float(self.problem.quota[instance])
            units = [(index, 1.0) for index, _ in terms]
            if all(np.size(index) == 1 for index, _ in units):
                self.rows.add_sum([(np.asarray(index), value) for index, value in units], 0.0, limit)
            else:
                self.rows.add(units, 0.0, limit)

    def _whole_units(self, instance: str, units: list[_Term], size: int) -> None:
        """Models with one column need at least so many whole units; the relaxation does not know it."""
        alone = [column for column in self.problem.columns if column.name not in self.y and column.instance == instance]
        if alone:
            taken = sum(needed_alone(self.problem, column) * column.accelerators for column in alone)
            least = np.ceil(taken / size - 1e-9)
            if all(np.size(index) == 1 for index, _ in units):
                self.rows.add(units, float(least.max()), np.inf)
            else:
                self.rows.add(units, least, np.inf)

    @property
    def wholes(self) -> int:
        """Variables that must be whole numbers."""
        return int(np.concatenate(self.whole).sum())

    def solve(self) -> tuple[np.ndarray, float] | None:
        """Return the values of the variables and the gap, or None when there is no solution.

        The search ends at the gap or after so many nodes, whatever the machine does beside it. When no solution with
        whole replicas is found by then, parts of replicas are allowed and rounded up later.
        """
        whole = np.concatenate(self.whole)
        result = self._milp(whole)
        if result.x is None and result.status != _INFEASIBLE:
            few = np.zeros_like(whole)
            once = [index[0] for index in self.units.values() if index.size == 1] + list(self.y.values())
            few[once] = whole[once]
            result = self._milp(few)
        if result.x is None:
            return None
        return np.asarray(result.x), float(result.mip_gap or 0.0)

    def bound(self) -> float:
        """Return a cost in USD a year that no solution is below: that of parts of replicas and units."""
        result = self._milp(np.zeros_like(np.concatenate(self.whole)))
        return 0.0 if result.x is None else float(result.fun)

    def _milp(self, whole: np.ndarray) -> Any:
        result = milp(
            np.concatenate(self.cost),
            integrality=whole,
            bounds=Bounds(np.concatenate(self.lower), np.concatenate(self.upper)),
            constraints=[self.rows.constraint(self.variables)],
            options={"node_limit": _NODES, "time_limit": _SAFETY_S, "mip_rel_gap": _GAP, "presolve": True},
        )
        if result.status == _LIMIT and "Time" in result.message:
            raise PlannerError(
                f"The optimiser did not finish a fleet of {self.wholes:,} whole numbers within {_SAFETY_S:.0f} s on "
                "this machine; lower fleet.configurations or name fewer accelerators.",
                param="fleet",
            )
        return result

    def choices(self, values: np.ndarray) -> Fixed:
        """Return the commitments and the columns of a solution."""
        committed = {
            (offer.instance, offer.term): round(float(values[self.units[offer.instance, offer.term][0]]))
            for offer in self.problem.offers
            if offer.committed
        }
        return Fixed(committed, frozenset(name for name, index in self.y.items() if values[index] > 0.5))

    def solution(self, values: np.ndarray, gap: float) -> FleetSolution:
        """Read the variables; parts of replicas and units are rounded up and paid."""

        def at(index: np.ndarray) -> np.ndarray:
            block: np.ndarray = values[index].reshape(self.shape)
            return block

        replicas = {name: np.ceil(at(index) - 1e-6) + 0.0 for name, index in self.u.items() if at(index).max() > 1e-6}
        tuning = {name: sum((at(block) for block in blocks), np.zeros(self.shape)) for name, blocks in self.k.items()}
        committed, hourly = self._paid(values, replicas, tuning)
        total = 0.0
        for offer in self.problem.offers:
            key = (offer.instance, offer.term)
            hours = self.problem.hours * (hourly[key] if key in hourly else committed[key])
            total += float(hours.sum()) * offer.usd_per_hour
        months = self.problem.hours.sum(axis=(1, 2)) / HOURS_PER_MONTH
        booked = {name: float(values[index] @ months / months.sum()) for name, index in self.booked.items()}
        for need in self.problem.tuning:
            total += booked.get(need.name, 0.0) * (need.booked_usd_per_month or 0.0) * float(months.sum())
        return FleetSolution(
            usd_per_year=total,
            committed={key: count for key, count in committed.items() if count},
            on_demand={key: count for key, count in hourly.items() if count.any()},
            replicas=replicas,
            served=self._served(values),
            batch_served={name: at(index) for name, index in self.b.items() if at(index).max() > 1e-9},
            tuning=tuning,
            booked=booked,
            gap=gap,
            seconds=0.0,
        )

    def _served(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Return the interactive requests a second of the columns in use."""
        served = {name: values[index].reshape(self.shape) for name, index in self.x.items()}
        for column in self.problem.columns:
            if column.name not in self.x:
                served[column.name] = self.problem.interactive[column.model]
        return {name: rate for name, rate in served.items() if rate.max() > 1e-9}

    def _paid(
        self, values: np.ndarray, replicas: Mapping[str, np.ndarray], tuning: Mapping[str, np.ndarray]
    ) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], np.ndarray]]:
        """Return committed and hourly units; where rounding up replicas needs more units, the cheapest are added."""
        committed, hourly = {}, {}
        for offer in self.problem.offers:
            key = (offer.instance, offer.term)
            if offer.committed:
                committed[key] = round(float(values[self.units[key][0]]))
            else:
                hourly[key] = np.ceil(values[self.units[key]].reshape(self.shape) - 1e-6) + 0.0
        for instance in {offer.instance: None for offer in self.problem.offers}:
            taken = np.asarray(tuning.get(instance, np.zeros(self.shape)))
            for column in self.problem.columns:
                if column.instance == instance and column.name in replicas:
                    taken = taken + replicas[column.name] * column.accelerators
            offers = [offer for offer in self.problem.offers if offer.instance == instance]
            paid = sum(committed.get((instance, offer.term), 0) for offer in offers)
            paid = paid + sum((hourly.get((instance, offer.term), np.zeros(self.shape)) for offer in offers), 0)
            missing = np.maximum(np.ceil(taken / offers[0].accelerators - 1e-6) - paid, 0)
            if missing.any():
                more = min(offers, key=lambda offer: (offer.committed, offer.usd_per_hour))
                if more.committed:
                    committed[instance, more.term] += int(missing.max())
                else:
                    hourly[instance, more.term] = hourly[instance, more.term] + missing
        return committed, hourly
