"""What the answer depends on: the same question with other inputs, priced without simulating again.

Rates keep the cuts that the simulator made for the plan. Costs are those of the cheapest combination before batch work
and tuning are placed exactly, scaled to agree with the plan for the plan's own inputs.
"""

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.economics import Lot, Swing
from bessemer_planner.economics.types import HOURS_PER_MONTH
from bessemer_planner.errors import PlannerError, Unsatisfiable
from bessemer_planner.fleet.choose import ConfirmedFleet, problem_of
from bessemer_planner.fleet.combinations import cheapest, running_replicas
from bessemer_planner.fleet.configurations import Configuration, configurations
from bessemer_planner.fleet.demand import demand_of
from bessemer_planner.fleet.types import Column, Offer, TuningNeed
from bessemer_planner.performance import ReplicaPrediction
from bessemer_planner.plan.types import Change, LimitStep, VolumePoint
from bessemer_planner.workload import Lengths, Workload

_CUT = 0.9
_STEPS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
_VOLUMES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Estimate(msgspec.Struct, frozen=True):
    """A combination and what it costs."""

    usd_per_month: float
    columns: tuple[Column, ...]

    @property
    def what(self) -> str:
        """Return the configurations in words."""
        return "; ".join(column.name for column in self.columns)


class WhatIf:
    """Prices variations of one plan."""

    def __init__(
        self,
        workload: Workload,
        catalog: HardwareCatalog,
        predicted: Sequence[tuple[str, ReplicaPrediction]],
        offers: Sequence[Offer],
        chosen: ConfirmedFleet,
    ) -> None:
        self._workload = msgspec.structs.replace(
            workload, money=msgspec.structs.replace(workload.money, budget_per_month=None)
        )
        self._catalog = catalog
        self._predicted = predicted
        self._offers = tuple(offers)
        self._cuts = chosen.cuts
        self._ruled_out = {f"{one.model} on {one.accelerator} {one.what}" for one in chosen.refused}
        self._scale = 1.0
        estimated = self.estimate()
        usd = chosen.solution.usd_per_year / 12
        self._scale = usd / estimated.usd_per_month
        self._estimated = msgspec.structs.replace(estimated, usd_per_month=usd)
        self.base = Estimate(usd, tuple(chosen.column(name) for name in chosen.solution.replicas))
        self._used = {chosen.behind[name].deployment.accelerator for name in chosen.solution.replicas}

    def estimate(
        self,
        workload: Workload | None = None,
        *,
        offers: Sequence[Offer] | None = None,
        change: Callable[[Configuration], Configuration] = lambda one: one,
    ) -> Estimate:
        """Return the cost of a variation. Raises Unsatisfiable."""
        asked = workload or self._workload
        found, _ = configurations(asked, self._predicted)
        cut = [change(self._cut(one)) for one in found if one.name not in self._ruled_out]
        problem, _ = problem_of(asked, self._catalog, demand_of(asked), cut, offers or self._offers)
        usd, columns = cheapest(problem)
        return Estimate(usd / 12 * self._scale, columns)

    def steps(self) -> tuple[LimitStep, ...]:
        """Return the cost with both latency limits multiplied by a factor; by 1 it is the plan itself."""
        made = []
        for factor in _STEPS:
            limits = msgspec.structs.replace(
                self._workload.limits,
                ttft_s=self._workload.limits.ttft_s * factor,
                tpot_s=self._workload.limits.tpot_s * factor,
            )
            try:
                asked = msgspec.structs.replace(self._workload, limits=limits)
                found = self.base if factor == 1.0 else self._or_plan(self.estimate(asked))
                made.append(LimitStep(factor, limits.ttft_s, limits.tpot_s, found.usd_per_month, found.what))
            except Unsatisfiable as error:
                made.append(LimitStep(factor, limits.ttft_s, limits.tpot_s, None, error.message))
        return tuple(made)

    def _or_plan(self, found: Estimate) -> Estimate:
        """Return the plan where the estimate is the one of the plan's own inputs: nothing has changed."""
        same = found.what == self._estimated.what
        return self.base if same and math.isclose(found.usd_per_month, self.base.usd_per_month) else found

    def volumes(self, output_tokens_per_request: float) -> tuple[VolumePoint, ...]:
        """Return the cost with other numbers of requests. `output_tokens_per_request`: a mean month of the first year
        over the requests of its first month, growth included."""
        made = []
        for factor in _VOLUMES:
            requests = self._workload.traffic.requests_per_month * factor
            found = self.base if factor == 1.0 else self.estimate(self._with_traffic(requests_per_month=requests))
            per_million = found.usd_per_month / (requests * output_tokens_per_request) * 1e6
            made.append(VolumePoint(requests, found.usd_per_month, per_million, found.what))
        return tuple(made)

    def lots(self, offers: Sequence[Offer]) -> tuple[tuple[Lot, ...], str]:
        """Return the accelerators, and the configurations, of the cheapest fleet among other offers.

        Raises Unsatisfiable when nothing among them serves a model.
        """
        predicted = {prediction.deployment.accelerator for _, prediction in self._predicted}
        known = [offer for offer in offers if offer.accelerator in predicted]
        found, _ = configurations(self._workload, self._predicted)
        cut = [self._cut(one) for one in found if one.name not in self._ruled_out]
        problem, _ = problem_of(self._workload, self._catalog, demand_of(self._workload), cut, known)
        _, columns = cheapest(problem)
        size = {offer.instance: offer for offer in known}
        running: dict[str, np.ndarray] = {}
        idle: dict[str, float] = {}
        hours = problem.hours.ravel()
        for instance in dict.fromkeys(column.instance for column in columns):
            here = [column for column in columns if column.instance == instance]
            taken = np.sum([running_replicas(problem, column) * column.accelerators for column in here], axis=0)
            offer = size[instance]
            units = np.ceil(taken / offer.accelerators - 1e-9) * offer.accelerators
            running[offer.accelerator] = running.get(offer.accelerator, 0.0) + units
            spare = float(((units - taken) * hours).sum()) / 12
            idle[offer.accelerator] = idle.get(offer.accelerator, 0.0) + spare
        for need in problem.tuning:
            accelerator, count = _tuned(need, known, idle)
            running[accelerator] = running.get(accelerator, np.zeros(hours.size)) + count
        lots = tuple(
            Lot(accelerator, float(count.max()), mean=float((count * hours).sum() / hours.sum()))
            for accelerator, count in running.items()
        )
        return lots, "; ".join(column.name for column in columns)

    def _cut(self, one: Configuration) -> Configuration:
        return msgspec.structs.replace(one, rate=one.rate * _CUT ** self._cuts.get(one.name, 0))

    def _with_traffic(self, **changes: object) -> Workload:
        traffic = msgspec.structs.replace(self._workload.traffic, **changes)
        return msgspec.structs.replace(self._workload, traffic=traffic)

    def drivers(self, spread: tuple[float, float]) -> tuple[Swing, ...]:
        """Return the inputs that move the monthly cost, widest first. `spread`: range of the step time's factor."""
        traffic, fleet = self._workload.traffic, self._workload.fleet
        requests, answer, prompt = traffic.requests_per_month, traffic.output_tokens, traffic.prompt_tokens
        swings = [
            self._swing("requests a month", "requests", 0.7 * requests, 1.5 * requests, self._requests),
            self._swing("answer length", "tokens", 0.7 * answer.mean, 1.4 * answer.mean, self._answers),
            self._swing("prompt length", "tokens", 0.7 * prompt.mean, 1.4 * prompt.mean, self._prompts),
            self._swing("prices of instances", "times today's", 0.8, 1.32, self._prices),
            self._swing("step time (80 % interval)", "times predicted", *spread, self._step_time),
            self._swing("spare replicas", "replicas", max(fleet.spares - 1, 0), fleet.spares + 1, self._spares),
            self._swing("share that may wait", "of requests", 0.0, 0.5, self._waiting),
        ]
        if self._workload.cascade is not None:
            share = self._workload.cascade.escalated
            swings.append(
                self._swing("escalated share", "of requests", share / 2, min(1.5 * share, 1.0), self._escalated)
            )
        known = [swing for swing in swings if swing is not None]
        return tuple(sorted(known, key=lambda swing: -swing.width))

    def _swing(self, name: str, unit: str, low: float, high: float, price: Callable[[float], Estimate]) -> Swing | None:
        try:
            return Swing(name, unit, low, high, price(low).usd_per_month, price(high).usd_per_month, assumption=False)
        except PlannerError:  # one end cannot be served: no swing to show
            return None

    def _requests(self, value: float) -> Estimate:
        return self.estimate(self._with_traffic(requests_per_month=value))

    def _answers(self, value: float) -> Estimate:
        return self.estimate(self._with_traffic(output_tokens=_scaled(self._workload.traffic.output_tokens, value)))

    def _prompts(self, value: float) -> Estimate:
        return self.estimate(self._with_traffic(prompt_tokens=_scaled(self._workload.traffic.prompt_tokens, value)))

    def _prices(self, value: float) -> Estimate:
        offers = [msgspec.structs.replace(offer, usd_per_hour=offer.usd_per_hour * value) for offer in self._offers]
        return self.estimate(offers=offers)

    def _step_time(self, value: float) -> Estimate:
        return self.estimate(
            change=lambda one: msgspec.structs.replace(one, rate=one.rate / value, batch_rate=one.batch_rate / value)
        )

    def _spares(self, value: float) -> Estimate:
        fleet = msgspec.structs.replace(self._workload.fleet, spares=int(value))
        return self.estimate(msgspec.structs.replace(self._workload, fleet=fleet))

    def _waiting(self, value: float) -> Estimate:
        return self.estimate(self._with_traffic(batch_share=value))

    def _escalated(self, value: float) -> Estimate:
        assert self._workload.cascade is not None
        cascade = msgspec.structs.replace(self._workload.cascade, escalated=value)
        return self.estimate(msgspec.structs.replace(self._workload, cascade=cascade))

    def changes(self, volumes: Sequence[VolumePoint]) -> tuple[Change, ...]:
        """Return what would have to happen for another fleet to be the cheapest."""
        made = []
        for accelerator in sorted(self._used):
            others = [offer for offer in self._offers if offer.accelerator != accelerator]
            try:
                other = self.estimate(offers=others)
            except PlannerError:
                made.append(Change(f"{accelerator} cannot be had", "nothing else that is allowed keeps the limits"))
                continue
            more = other.usd_per_month / self.base.usd_per_month - 1
            made.append(
                Change(
                    f"the fleet on {accelerator} became {more:.0%} dearer, or it cannot be had",
                    f"{other.what} would be the cheapest at about ${other.usd_per_month:,.0f} a month",
                )
            )
        before = (self.base.what, self._estimated.what)
        for point in volumes:
            if point.what not in before and point.requests_per_month > self._workload.traffic.requests_per_month:
                made.append(Change(f"traffic grew to {point.requests_per_month:,.0f} requests a month", point.what))
                break
        return tuple(made)


def _tuned(need: TuningNeed, offers: Sequence[Offer], idle: dict[str, float]) -> tuple[str, float]:
    """Return the accelerator that tuning runs on, and how many it needs beside the idle ones, which it uses up.

    `idle`: accelerator-hours a month of machines that serve. Raises Unsatisfiable when no machine for sale may run it.
    """
    able = [offer for offer in offers if offer.instance in need.hours_per_month]
    if not able:
        raise Unsatisfiable(f"No machine for sale may run {need.name!r}.", param="tuning")

    def usd(offer: Offer) -> tuple[bool, float]:
        price = offer.usd_per_hour / offer.accelerators * need.hours_per_month[offer.instance]
        return offer.accelerator not in idle, price

    best = min(able, key=usd)
    hours, free = need.hours_per_month[best.instance], idle.get(best.accelerator, 0.0)
    idle[best.accelerator] = max(free - hours, 0.0)
    more = max(hours - free, 0.0) / HOURS_PER_MONTH
    return best.accelerator, float(np.ceil(more / best.accelerators - 1e-9) * best.accelerators)


def _scaled(lengths: Lengths, mean: float) -> Lengths:
    factor = mean / lengths.mean
    return msgspec.structs.replace(
        lengths,
        mean=mean,
        p95=None if lengths.p95 is None else lengths.p95 * factor,
        quantiles=tuple(value * factor for value in lengths.quantiles),
    )
