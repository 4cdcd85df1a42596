"""The fleet as a mixed-integer program on HiGHS: the cheapest replicas and purchases that carry the demand.

Variables: x interactive and b batch requests a second, backlog q, replicas u, on-demand units o, tuning accelerators k
per bucket; committed units n, whether a commitment is taken z, and whether a column is used y. Commitments are paid all
year. The batch backlog runs around each day, so nothing is left to a day that never comes.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from bessemer.planner.fleet.types import Column, FleetProblem, FleetSolution, Offer, TuningNeed

_INTEGER_BELOW = 24.0
"""Replicas are whole numbers below this many at the peak; above it rounding up costs less than 4 %."""
_GAP = 0.005
_HOURS_PER_YEAR = 8766.0


class Fixed(msgspec.Struct, frozen=True):
    """Choices that are already made: units of every commitment, and whether a column is used."""

    committed: Mapping[tuple[str, str], int]
    used: frozenset[str]


class _Rows:
    """Sparse rows low <= A v <= high, gathered as triplets."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []
        self.columns: list[np.ndarray] = []
        self.values: list[np.ndarray] = []
        self.low: list[np.ndarray] = []
        self.high: list[np.ndarray] = []
        self.count = 0

    def add(self, terms: Sequence[tuple[np.ndarray | int, np.ndarray | float]], low: object, high: object) -> None:
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
        self, count: int, *, cost: object = 0.0, whole: bool = False, upper: object = np.inf, lower: float = 0.0
    ) -> np.ndarray:
        index = np.arange(self.variables, self.variables + count)
        self.variables += count
        self.cost.append(np.broadcast_to(np.asarray(cost, dtype=float), count))
        self.whole.append(np.full(count, int(whole)))
        self.upper.append(np.broadcast_to(np.asarray(upper, dtype=float), count))
        self.lower.append(np.full(count, lower))
        return index

    def _serve(self, model: str, columns: list[Column]) -> None:
        """Every request is served; a column in use holds its spares in every bucket."""
        wanted = self.problem.interactive[model].ravel()
        waiting = self.problem.batch[model].ravel()
        has_batch = bool(waiting.any())
        used = []
        for column in columns:
            whole = wanted.max() / column.rate + waiting.max() / column.batch_rate < _INTEGER_BELOW
            x = self.x[column.name] = self._new(self.size, upper=wanted)
            u = self.u[column.name] = self._new(self.size, whole=whole)
            y = self._use(column)
            used.append(y)
            spares = float(self.problem.spares) if wanted.any() else 0.0
            self.rows.add([(u, 1.0), (x, -1 / column.rate), (int(y[0]), -spares)], 0.0, np.inf)
            self.rows.add([(x, 1.0), (int(y[0]), -wanted)], -np.inf, 0.0)
            if has_batch:
                b = self.b[column.name] = self._new(self.size)
                self.rows.add([(u, 1.0), (x, -1 / column.rate), (b, -1 / column.batch_rate)], 0.0, np.inf)
        self.rows.add([(self.x[column.name], 1.0) for column in columns], wanted, wanted)
        self.rows.add_sum([(y, 1.0) for y in used], 0.0, float(self.problem.configurations))
        if has_batch:
            self._batch([self.b[column.name] for column in columns], waiting)

    def _use(self, column: Column) -> np.ndarray:
        if self.fixed is None:
            y = self._new(1, whole=True, upper=1.0)
        else:
            known = float(column.name in self.fixed.used)
            y = self._new(1, lower=known, upper=known)
        self.y[column.name] = int(y[0])
        return y

    def _batch(self, served: list[np.ndarray], arriving: np.ndarray) -> None:
        """q_h = q_{h-1} + arriving_h - served_h around the day; what waits after h is served within the deadline."""
        hour = np.arange(self.size)
        before = hour - hour % 24 + (hour % 24 - 1) % 24
        backlog = self._new(self.size)
        terms: list[tuple[np.ndarray | int, np.ndarray | float]] = [(backlog, 1.0), (backlog[before], -1.0)]
        self.rows.add([*terms, *((b, 1.0) for b in served)], arriving, arriving)
        window: list[tuple[np.ndarray | int, np.ndarray | float]] = [(backlog, -1.0)]
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
        months = self.problem.hours.sum(axis=(1, 2)) / (_HOURS_PER_YEAR / 12)
        blocks = []
        for instance, hours in need.hours_per_month.items():
            if not any(offer.instance == instance for offer in self.problem.offers):
                continue
            block = self._new(self.size)
            self.k.setdefault(instance, []).append(block)
            blocks.append((block, self.problem.hours.ravel() / hours))
        for group in range(groups):
            inside = slice(group * per_group, (group + 1) * per_group)
            terms = [(block[inside], value[inside]) for block, value in blocks]
            if not terms:  # an empty row cannot be satisfied: no allowed instance runs it
                terms = [(self._new(1, upper=0.0), np.array([1.0]))]
            self.rows.add_sum(terms, float(months[group]), np.inf)

    def _place(self, instance: str) -> None:
        """Replicas and tuning fit on the units that are paid."""
        offers = [offer for offer in self.problem.offers if offer.instance == instance]
        terms: list[tuple[np.ndarray | int, np.ndarray | float]] = []
        for offer in offers:
            index = self.units[instance, offer.term]
            terms.append((index if index.size > 1 else int(index[0]), float(offer.accelerators)))
        taken: list[tuple[np.ndarray | int, np.ndarray | float]] = [
            (self.u[column.name], -float(column.accelerators))
            for column in self.problem.columns
            if column.instance == instance
        ]
        taken += [(block, -1.0) for block in self.k.get(instance, [])]
        if not taken:
            return
        self.rows.add([*taken, *terms], 0.0, np.inf)
        if instance in self.problem.quota:
            limit = float(self.problem.quota[instance])
            units = [(index, 1.0) for index, _ in terms]
            if all(np.size(index) == 1 for index, _ in units):
                self.rows.add_sum([(np.asarray(index), value) for index, value in units], 0.0, limit)
            else:
                self.rows.add(units, 0.0, limit)

    def solve(self, time_limit_s: float) -> tuple[np.ndarray, float] | None:
        """Return the values of the variables and the gap, or None when there is no solution."""
        result = milp(
            np.concatenate(self.cost),
            integrality=np.concatenate(self.whole),
            bounds=Bounds(np.concatenate(self.lower), np.concatenate(self.upper)),
            constraints=[self.rows.constraint(self.variables)],
            options={"time_limit": time_limit_s, "mip_rel_gap": _GAP, "presolve": True},
        )
        if result.x is None:
            return None
        return np.asarray(result.x), float(result.mip_gap or 0.0)

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

        committed, on_demand, total = {}, {}, 0.0
        for offer in self.problem.offers:
            key = (offer.instance, offer.term)
            if offer.committed:
                committed[key] = round(float(values[self.units[key][0]]))
                total += committed[key] * offer.usd_per_hour * float(self.problem.hours.sum())
            else:
                on_demand[key] = np.ceil(at(self.units[key]) - 1e-6)
                total += float((on_demand[key] * self.problem.hours).sum()) * offer.usd_per_hour
        return FleetSolution(
            usd_per_year=total,
            committed={key: count for key, count in committed.items() if count},
            on_demand={key: count for key, count in on_demand.items() if count.any()},
            replicas={name: np.ceil(at(index) - 1e-6) for name, index in self.u.items() if at(index).max() > 1e-6},
            served={name: at(index) for name, index in self.x.items() if at(index).max() > 1e-9},
            batch_served={name: at(index) for name, index in self.b.items() if at(index).max() > 1e-9},
            tuning={
                name: sum((at(block) for block in blocks), np.zeros(self.shape)) for name, blocks in self.k.items()
            },
            gap=gap,
            seconds=0.0,
        )
