"""The loop: solve the fleet, simulate what it uses, lower the rate of what fails by a tenth, solve again."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.fleet.configurations import Configuration, Refusal
from bessemer_planner.fleet.demand import Demand
from bessemer_planner.fleet.milp import Solved, solve_fleet
from bessemer_planner.fleet.offers import columns
from bessemer_planner.fleet.tuning import tuning_needs
from bessemer_planner.fleet.types import Column, FleetProblem, FleetSolution, Offer
from bessemer_planner.fleet.verify import LatencyCheck, verify
from bessemer_planner.workload import Workload

_CUT = 0.9
_MOST_CUTS = 30
"""The lowest rate tried is 4 % of the first: long prompts that come close together are what breaks a limit."""
_PROBE = 12
"""Cuts after which the lowest rate is tried at once: where even that is broken, those between are not worth a look."""
_MOST_ROUNDS = 60
"""A round lowers one rate or rules one configuration out: a workload of long prompts rules many of them out."""
_MOST_SIMULATED = 8
"""Replicas simulated at most: more of them only pool better."""
OnProgress = Callable[[str], None]


class ConfirmedFleet(msgspec.Struct, frozen=True):
    """A solved fleet whose configurations the simulator has confirmed."""

    problem: FleetProblem
    solution: FleetSolution
    behind: dict[str, Configuration]
    """Configuration by column name, at the rate that was confirmed."""
    verdicts: dict[str, LatencyCheck]
    """By configuration name, at that rate."""
    rounds: int
    cuts: dict[str, int]
    """How often a configuration's rate was lowered by a tenth."""
    refused: tuple[Refusal, ...]
    """Configurations that the simulator ruled out."""

    def column(self, name: str) -> Column:
        """Return a column by name."""
        return next(column for column in self.problem.columns if column.name == name)


def problem_of(
    workload: Workload,
    catalog: HardwareCatalog,
    demand: Demand,
    found: Sequence[Configuration],
    offers: Sequence[Offer],
) -> tuple[FleetProblem, dict[str, Configuration]]:
    """Return the optimiser's problem over the configurations worth considering. Raises Unsatisfiable."""
    for use in workload.models:
        if not any(one.model == use.name for one in found):
            raise Unsatisfiable(f"No allowed accelerator serves {use.name!r} within the limits.", param="models")
    chosen, behind = columns(found, offers, workload.fleet.spares)
    for use in workload.models:
        if not any(column.model == use.name for column in chosen):
            raise Unsatisfiable(f"No allowed instance is large enough for {use.name!r}.", param="fleet.instances")
    tuning = tuning_needs(workload, catalog, offers)
    held = {column.instance for column in chosen}
    held |= {need.booked_on[0] for need in tuning if need.booked_on is not None}
    margin = margin_of(workload)
    budget = workload.money.budget_per_month
    problem = FleetProblem(
        hours=demand.hours,
        columns=chosen,
        offers=tuple(offer for offer in offers if offer.instance in held),
        interactive={name: rate * margin for name, rate in demand.interactive.items()},
        batch=demand.batch,
        deadline_hours=workload.traffic.batch_deadline_hours,
        spares=workload.fleet.spares,
        configurations=workload.fleet.configurations,
        budget_per_year=None if budget is None else budget * 12,
        tuning=tuning,
        quota=workload.fleet.quota,
    )
    return problem, behind


def margin_of(workload: Workload) -> float:
    """Return the load that the fleet covers over the mean of the same hour."""
    return 1 + workload.fleet.service_level * workload.traffic.variation


def choose(
    workload: Workload,
    catalog: HardwareCatalog,
    demand: Demand,
    found: Sequence[Configuration],
    offers: Sequence[Offer],
    *,
    seed: int = 0,
    progress: OnProgress = lambda _: None,
) -> ConfirmedFleet:
    """Return the cheapest fleet that the simulator confirms. Raises Unsatisfiable."""
    current = {one.name: one for one in found}
    verdicts: dict[str, LatencyCheck] = {}
    cuts: dict[str, int] = {}
    refused: list[Refusal] = []
    broken: list[tuple[Configuration, LatencyCheck]] = []
    solved: Solved = {}
    for rounds in range(1, _MOST_ROUNDS + 1):
        _check_left(workload, list(current.values()), broken)
        problem, behind = problem_of(workload, catalog, demand, list(current.values()), offers)
        progress(f"solving for the cheapest fleet (round {rounds})")
        solution = solve_fleet(problem, solved)
        changed = False
        for column in solution.served:
            one = behind[column]
            replicas = _needed(solution.replicas[column], workload.fleet.spares)
            known = verdicts.get(one.name)
            if known is not None and known.replicas <= replicas:
                continue
            progress(f"simulating {one.name}")
            verdict, cut = _confirmed(one, workload, replicas, seed)
            cuts[one.name] = cuts.get(one.name, 0) + cut
            if not verdict.keeps:
                del current[one.name]
                broken.append((one, verdict))
                refused.append(_refusal(one, verdict))
                changed = True
                continue
            verdicts[one.name] = verdict
            if cut:
                current[one.name] = msgspec.structs.replace(one, rate=verdict.rate)
                changed = True
        if not changed:
            return ConfirmedFleet(problem, solution, behind, verdicts, rounds, cuts, tuple(refused))
    raise Unsatisfiable(
        f"After {_MOST_ROUNDS} rounds the simulator still finds broken limits; relax them.", param="limits"
    )


def _needed(running: np.ndarray, spares: int) -> int:
    """Return how many replicas to simulate: those of the peak without spares, at most a few."""
    return int(np.clip(running.max() - spares, 1, _MOST_SIMULATED))


def _confirmed(one: Configuration, workload: Workload, replicas: int, seed: int) -> tuple[LatencyCheck, int]:
    """Lower the rate until the simulated percentiles keep the limits. Returns the last verdict and the cuts."""
    rate, cut = one.rate, 0
    verdict = verify(one, workload, rate, replicas, seed=seed)
    while not verdict.keeps and cut < _MOST_CUTS:
        if cut == _PROBE:
            lowest = verify(one, workload, one.rate * _CUT**_MOST_CUTS, replicas, seed=seed)
            if not lowest.keeps:
                return lowest, _MOST_CUTS
        rate, cut = rate * _CUT, cut + 1
        verdict = verify(one, workload, rate, replicas, seed=seed)
    return verdict, cut


def _refusal(one: Configuration, verdict: LatencyCheck) -> Refusal:
    reason = f"simulated, the limits are still broken at {verdict.rate:.3g} requests a second: {_met(verdict)}"
    where = one.deployment.accelerator
    return Refusal(one.model, where, one.name.removeprefix(f"{one.model} on {where} "), reason)


def _met(verdict: LatencyCheck) -> str:
    return f"TTFT {verdict.ttft_s:.3g} s and TPOT {verdict.tpot_s:.3g} s at the percentile"


def _check_left(
    workload: Workload, left: Sequence[Configuration], broken: Sequence[tuple[Configuration, LatencyCheck]]
) -> None:
    """Refuse a model of which the simulator has ruled out every configuration, naming the one that came nearest."""
    limits = workload.limits

    def excess(row: tuple[Configuration, LatencyCheck]) -> float:
        return max(row[1].ttft_s / limits.ttft_s, row[1].tpot_s / limits.tpot_s)

    for use in workload.models:
        tried = [row for row in broken if row[0].model == use.name]
        if not tried or any(one.model == use.name for one in left):
            continue
        one, verdict = min(tried, key=excess)
        raise Unsatisfiable(
            f"No allowed accelerator serves {use.name!r} within the limits: {len(tried)} configurations were simulated "
            f"down to {_CUT**_MOST_CUTS:.0%} of their rate. Nearest: {one.name} with {_met(verdict)} "
            f"({limits.percentile:g}), the limits are {limits.ttft_s:g} and {limits.tpot_s:g} s. Relax [limits], or "
            "shorten the longest prompts.",
            param="limits",
        )
