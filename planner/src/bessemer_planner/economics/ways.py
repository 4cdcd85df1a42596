"""The three ways of owning, each as a function from rows of inputs to monthly costs and what they serve."""

from collections.abc import Callable

import msgspec
import numpy as np

from bessemer_planner.catalog import System
from bessemer_planner.economics import costs
from bessemer_planner.economics.assumptions import Inputs
from bessemer_planner.economics.costs import Costs, Timeline, timeline
from bessemer_planner.economics.money import npv, value_of_launch
from bessemer_planner.economics.rates import Quote
from bessemer_planner.economics.types import HOURS_PER_MONTH, Lot, Need, Space
from bessemer_planner.types import Owner

LEAD = {Owner.CLOUD: "lead.cloud_months", Owner.AI_FACTORY: "lead.factory_months"}
OWN_LEAD = {Space.BUILD: "lead.own_build_months", Space.COLOCATION: "lead.own_colocation_months"}
_HIRED_BEFORE = 3.0
"""Months before the first served token in which the people of an own site are hired."""


class Picture(msgspec.Struct, frozen=True):
    """A way of owning, computed on rows of inputs. Arrays are [rows, months]."""

    costs: Costs
    time: Timeline
    served: np.ndarray
    """Share of real demand that is served once it is live."""
    kw: np.ndarray | None = None
    """Provisioned IT power."""

    @property
    def spent(self) -> np.ndarray:
        """All costs of each month."""
        return np.asarray(sum(self.costs.values()))

    def present_cost(self, inputs: Inputs) -> np.ndarray:
        """Return discounted costs [rows]."""
        return npv(self.spent, inputs["finance.discount_rate"])

    def value(self, need: Need, inputs: Inputs) -> np.ndarray:
        """Return the service's value month by month: less for each model generation that passes before it starts."""
        late = value_of_launch(
            self.time.delay, inputs.column("lead.value_half_life_months"), inputs.column("lead.durable_share")
        )
        return np.asarray(need.value_per_month * late * self.time.real * self.served * self.time.live)

    def npv(self, need: Need, inputs: Inputs) -> np.ndarray:
        """Return net present value [rows]."""
        return npv(self.value(need, inputs) - self.spent, inputs["finance.discount_rate"])

    def accelerator_hours(self, need: Need, inputs: Inputs) -> np.ndarray:
        """Return discounted accelerator hours that serve [rows]."""
        running = sum(lot.running for lot in need.lots)
        hours = running * HOURS_PER_MONTH * self.time.real * self.served * self.time.live
        return npv(hours, inputs["finance.discount_rate"])


Way = Callable[[Inputs], Picture]


def cloud_way(need: Need, chosen: tuple[Quote, ...]) -> Way:
    """Return the public cloud: one quote for each lot."""

    def picture(inputs: Inputs) -> Picture:
        time = timeline(need, inputs, LEAD[Owner.CLOUD])
        rented = _rent(need.lots, chosen, inputs, time)
        people = inputs["staff.platform_base"] + inputs["staff.cloud_per_1000"] * need.accelerators / 1000.0
        billed = rented | {"staff": costs.staff(people, inputs, time)}
        return Picture(billed, time, np.ones_like(time.live))

    return picture


def _rent(lots: tuple[Lot, ...], chosen: tuple[Quote, ...], inputs: Inputs, time: Timeline) -> Costs:
    rented = sum(
        (costs.rent(lot, quote, inputs, time) for lot, quote in zip(lots, chosen, strict=True)),
        start=np.zeros_like(time.live),
    )
    return {"rent": rented, "storage, network, support": rented * inputs.column("cloud.hidden_share")}


def factory_way(
    need: Need, lots: tuple[Lot, ...], systems: tuple[System, ...], rates: tuple[float, ...], space: Space
) -> Way:
    """Return the managed AI factory: `lots` as committed (the floor included), at a list rate less a discount."""

    def picture(inputs: Inputs) -> Picture:
        time = timeline(need, inputs, LEAD[Owner.AI_FACTORY])
        held = [
            costs.owned(needed, system, 0, inputs, time, least=lot.count if lot.count > needed.count else 0.0)
            for needed, lot, system in zip(need.lots, lots, systems, strict=True)
        ]
        kept = 1.0 - inputs.column("factory.discount")
        bill = sum(
            (one.installed * one.system.count * rate for one, rate in zip(held, rates, strict=True)),
            start=np.zeros_like(time.live),
        )
        people = (
            inputs["staff.platform_base"] + inputs["staff.factory_per_1000"] * sum(lot.count for lot in lots) / 1000.0
        )
        kw = np.asarray(sum(one.kw for one in held))
        billed = {"factory": bill * kept * HOURS_PER_MONTH * time.live, "staff": costs.staff(people, inputs, time)}
        billed |= costs.site(held, space, inputs, time)
        installed = sum(one.installed * one.system.count for one in held)
        return Picture(billed, time, _served(need, np.asarray(installed), time), kw)

    return picture


def own_way(
    need: Need, systems: tuple[System, ...], spare: tuple[int, ...], space: Space, spill: tuple[Quote, ...] | None
) -> Way:
    """Return one's own data centre. Demand beyond what is installed is rented from `spill`, or not served."""

    def picture(inputs: Inputs) -> Picture:
        time = timeline(need, inputs, OWN_LEAD[space])
        held = [
            costs.owned(lot, system, extra, inputs, time)
            for lot, system, extra in zip(need.lots, systems, spare, strict=True)
        ]
        billed: Costs = {}
        for one in held:
            for cause, amount in costs.machines(one, inputs).items():
                billed[cause] = billed.get(cause, np.zeros_like(amount)) + amount
        kw = np.asarray(sum(one.kw for one in held))
        billed |= costs.site(held, space, inputs, time)
        base = inputs["staff.own_base"] if space is Space.BUILD else np.zeros(inputs.rows)
        people = inputs["staff.platform_base"] + base + inputs["staff.own_per_1000"] * need.accelerators / 1000.0
        billed["staff"] = costs.staff(people, inputs, time, _HIRED_BEFORE)
        served = _served(need, np.asarray(sum(one.installed * one.system.count for one in held)), time)
        if spill is not None:
            beyond = _rent(need.lots, spill, inputs, time)
            billed["overflow rented"] = np.asarray(sum(beyond.values())) * (1.0 - served)
            served = np.ones_like(served)
        return Picture(billed, time, served, kw)

    return picture


def _served(need: Need, installed: np.ndarray, time: Timeline) -> np.ndarray:
    return np.asarray(np.minimum(installed / (need.accelerators * time.asked), 1.0) * (time.live > 0))


def bridge(need: Need, spill: tuple[Quote, ...], inputs: Inputs, time: Timeline) -> np.ndarray:
    """Return what renting costs until a way of owning serves, so that the service starts on the cloud's day."""
    rented = cloud_way(need, spill)(inputs)
    share = np.clip(rented.time.live - time.live, 0.0, 1.0) / np.maximum(rented.time.live, 1e-12)
    return np.asarray(rented.spent * share)
