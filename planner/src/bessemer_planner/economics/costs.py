"""Monthly costs of each way of owning, for many draws of the inputs at once.

Every array is [rows, months]. A cost is positive here; money that comes back (resale, loans) is negative.
The first row of causes is always complete: the sum over causes is the whole cost.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from bessemer_planner.catalog import System
from bessemer_planner.economics.assumptions import DEMAND, NETWORK_LOST, Inputs
from bessemer_planner.economics.money import capital_recovery, residual
from bessemer_planner.economics.rates import PREPAID, Quote
from bessemer_planner.economics.types import HOURS_PER_MONTH, Lot, Need, Space

Costs = dict[str, np.ndarray]


class Timeline(msgspec.Struct, frozen=True):
    """When a way of owning serves, and how much is asked of it."""

    delay: np.ndarray
    """[rows, 1] months until the first served token."""
    month: np.ndarray
    """[1, months]"""
    live: np.ndarray
    """[rows, months] share of the month in service."""
    planned: np.ndarray
    """[1, months] demand over that of the first month, as planned."""
    real: np.ndarray
    """[rows, months] the same as it turns out."""
    asked: np.ndarray
    """[rows, months] accelerators that it takes, over those of the first month: losses in the network are made up."""


class Owned(msgspec.Struct, frozen=True):
    """Machines of one lot at a site: what is installed, and what its purchase costs."""

    lot: Lot
    system: System
    installed: np.ndarray
    """[rows, months] systems."""
    kw: np.ndarray
    """[rows, months] provisioned."""
    last_kw: np.ndarray
    """[rows, 1] provisioned in the end, whether or not the horizon sees it."""


def timeline(need: Need, inputs: Inputs, lead: str) -> Timeline:
    """Return the timeline of a way of owning whose lead time is the input `lead`."""
    month = np.arange(need.horizon_months)[None, :]
    delay = np.maximum(inputs.column(lead), 0.0)
    live = np.clip(month + 1.0 - delay, 0.0, 1.0)
    planned = (1.0 + need.growth_per_month) ** month
    real = planned * inputs.column(DEMAND)
    return Timeline(delay, month, live, planned, real, real / (1.0 - inputs.column(NETWORK_LOST)))


def drifted(inputs: Inputs, months: int, term_months: int) -> np.ndarray:
    """Return the price of renting over today's [rows, months]: it moves when a term of `term_months` is renewed."""
    renewed = np.arange(months) // term_months * term_months
    return np.asarray((1.0 + inputs.column("finance.price_drift")) ** (renewed[None, :] / 12.0))


def rent(lot: Lot, quote: Quote, inputs: Inputs, time: Timeline) -> np.ndarray:
    """Return the rent of a lot.

    By the hour, and where it is booked run by run, it follows real demand and the price of each month. A commitment
    that an optimiser chose (`lot.term`) holds what is needed when its term begins, one that is only priced what the
    plan needs until it ends: whole instances, at the price of its beginning. What demand asks beyond is rented at the
    same price. A prepaid term is paid when it begins.
    """
    months = time.month.shape[1]
    price = quote.rate * HOURS_PER_MONTH * drifted(inputs, months, quote.months)
    if lot.cloud_usd_per_month is not None and (quote.by_the_hour or lot.booked):
        return np.asarray(lot.cloud_usd_per_month * drifted(inputs, months, 1) * time.asked * time.live)
    if quote.by_the_hour:
        return np.asarray(np.maximum(lot.running * time.asked, quote.instance.count) * price * time.live)
    begun = time.month // quote.months * quote.months
    last = np.minimum(begun + quote.months - 1, months - 1)
    peak = lot.count * np.take_along_axis(time.planned, last if lot.term is None else begun, axis=1)
    held = np.maximum(np.ceil(peak / quote.instance.count - 1e-9), 1.0) * quote.instance.count
    beyond = np.maximum(lot.count * time.asked - held, 0.0)
    paid = (held + beyond) * price * time.live
    return _prepaid(paid, quote.months) if quote.price.term in PREPAID else paid


def _prepaid(paid: np.ndarray, term: int) -> np.ndarray:
    moved = np.zeros_like(paid)
    starts = np.arange(0, paid.shape[1], term)
    moved[:, starts] = np.add.reduceat(paid, starts, axis=1)
    return moved


def staff(people: np.ndarray, inputs: Inputs, time: Timeline, months_before: float = 0.0) -> np.ndarray:
    """Return the cost of people [rows] from `months_before` the first served token on."""
    hired = np.clip(time.month + 1.0 - np.maximum(time.delay - months_before, 0.0), 0.0, 1.0)
    return np.asarray(people[:, None] * inputs.column("staff.usd_per_year") / 12.0 * hired)


def owned(lot: Lot, system: System, spare: int, inputs: Inputs, time: Timeline, least: float = 0.0) -> Owned:
    """Return what is installed: bought for the next twelve months of planned growth at a time, whole systems.

    `least`: accelerators below which nothing is offered; growth fills them before more are added.
    """
    months = time.month.shape[1]
    start = np.floor(time.delay)
    age = time.month - start
    ahead = np.minimum(start + 12.0 * (np.floor(age / 12.0) + 1.0), months - 1.0)
    growth = time.planned[0, np.clip(ahead, 0, months - 1).astype(np.int64)]
    systems = np.ceil((np.maximum(lot.count * growth, least) + spare) / system.count - 1e-9)
    installed = np.maximum.accumulate(np.where(age >= 0, systems, 0.0), axis=1)
    rack = inputs.column(system.rack_kw.name)
    last = np.ceil((max(lot.count * float(time.planned[0, -1]), least) + spare) / system.count - 1e-9)
    return Owned(lot, system, installed, installed * rack, last * rack)


def machines(own: Owned, inputs: Inputs) -> Costs:
    """Return purchase, replacement at the end of life, resale, loan and upkeep of machines.

    The price carries network, storage and installation; only the machines are ever sold again.
    """
    assert own.system.price_usd is not None
    months = own.installed.shape[1]
    price = inputs.column(own.system.price_usd.name)
    shares = sum(inputs.column(f"capex.{name}_share") for name in ("network", "storage", "installation"))
    life = np.maximum(np.rint(inputs.column("finance.depreciation_years") * 12.0), 1.0).astype(np.int64)
    added = np.diff(own.installed, axis=1, prepend=0.0)
    bought = added.copy()
    resale = np.zeros_like(added)
    kept = inputs.column("finance.residual_3yr")
    month = np.arange(months)[None, :]
    for turn in range(1, months // int(life.min()) + 1):
        earlier = month - turn * life
        again = np.where(earlier >= 0, np.take_along_axis(added, np.maximum(earlier, 0), axis=1), 0.0)
        bought += again
        resale += again * price * residual(kept, life.astype(np.float64))
    age = months - month - life * ((months - 1 - month) // life)
    resale[:, -1] += (added * price * residual(kept, age.astype(np.float64))).sum(axis=1)
    outlay = bought * price
    borrowed = outlay * inputs.column("finance.loan_share")
    return {
        "machines": outlay,
        "fabric and installation": added * price * shares,
        "resale": -resale,
        "loan": -borrowed + _repayments(borrowed, inputs.column("finance.loan_rate"), life),
        "maintenance": own.installed * price * inputs.column("finance.maintenance_share") / 12.0,
    }


def _repayments(borrowed: np.ndarray, rate: np.ndarray, life: np.ndarray) -> np.ndarray:
    """Level monthly payments over a machine's life, and what is still owed at the horizon."""
    months = borrowed.shape[1]
    monthly = (1.0 + rate) ** (1.0 / 12.0) - 1.0
    level = capital_recovery(monthly, life.astype(np.float64))
    total = np.concatenate([np.zeros((len(borrowed), 1)), np.cumsum(borrowed, axis=1)], axis=1)
    month = np.arange(months)[None, :]
    first = np.maximum(month - life, 0)
    open_loans = total[:, :-1] - np.take_along_axis(total, first, axis=1)
    payments = open_loans * level
    paid = np.minimum(months - 1 - month, life)
    owed = 1.0 - ((1.0 + monthly) ** paid - 1.0) / ((1.0 + monthly) ** life - 1.0)
    payments[:, -1] += (borrowed * owed).sum(axis=1)
    return np.asarray(payments)


_IN_COLOCATION_USD_PER_KWH = 0.093
"""Power in the colocation prices: they are of US markets, where industry pays this (EIA, January 2026)."""


def site(held: Sequence[Owned], space: Space, inputs: Inputs, time: Timeline) -> Costs:
    """Return space and power for machines at one site.

    Colocation is billed on provisioned kW with the power in it, at the price of power where the quotes are from: what
    is drawn on average is paid by as much more or less as power costs here. A building is paid while it is built, keeps
    the rest of its life at the horizon, and its electricity is average load x PUE.
    """
    kw = np.asarray(sum(one.kw for one in held))
    last_kw = np.asarray(sum(one.last_kw for one in held))
    liquid = any(one.system.liquid for one in held)
    months = kw.shape[1]
    if space is Space.COLOCATION:
        dearer = inputs.column("power.usd_per_kwh") - _IN_COLOCATION_USD_PER_KWH
        power = facility_factor(inputs, liquid=liquid) * HOURS_PER_MONTH * dearer
        return {"space and power": kw * (inputs.column(colocation(float(last_kw.max()), liquid=liquid)) + power)}
    per_kw = (
        inputs.column("capex.build_usd_per_watt") * 1000.0 * (1.0 + inputs.column("capex.build_ai_premium") * liquid)
    )
    until = np.floor(time.delay) + 1.0
    building = np.where(time.month < until, last_kw * per_kw / until, 0.0)
    served = np.maximum(months - time.delay, 0.0)
    kept = np.zeros_like(kw)
    kept[:, -1:] = -building.sum(axis=1, keepdims=True) * np.maximum(
        1.0 - served / (12.0 * inputs.column("capex.building_years")), 0.0
    )
    power = kw * facility_factor(inputs, liquid=liquid) * HOURS_PER_MONTH * inputs.column("power.usd_per_kwh")
    return {"building": building, "building kept": kept, "power": power * time.live}


def facility_factor(inputs: Inputs, *, liquid: bool) -> np.ndarray:
    """Return average power at the meter over provisioned IT power [rows, 1]."""
    pue = inputs.column("power.pue_liquid" if liquid else "power.pue_air")
    return np.asarray(inputs.column("power.load_factor") * pue)


def colocation(kw: float, *, liquid: bool) -> str:
    """Return the name of the colocation price for so much provisioned power."""
    if liquid:
        return "power.colocation_liquid"
    return "power.colocation_wholesale" if kw >= 1000 else "power.colocation_small"
