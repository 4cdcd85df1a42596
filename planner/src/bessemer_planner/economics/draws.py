"""From a way of owning to numbers with intervals: Monte Carlo, break-even, and which inputs move the answer."""

import numpy as np

from bessemer_planner.economics.assumptions import Assumptions, Inputs
from bessemer_planner.economics.costs import timeline
from bessemer_planner.economics.types import BreakEven, CashFlow, Need, Swing
from bessemer_planner.economics.ways import Picture, Way
from bessemer_planner.types import IntervalEstimate

PERCENTILES = (10.0, 50.0, 90.0)


def interval(values: np.ndarray) -> IntervalEstimate:
    """Return P50 with P10 and P90 of draws."""
    low, middle, high = np.percentile(values, PERCENTILES)
    return IntervalEstimate(float(middle), float(low), float(high))


def cash_flow(picture: Picture, need: Need, inputs: Inputs) -> CashFlow:
    """Return the cash of the first row by cause; the total is their sum."""
    by_cause = {cause: -amount[0] for cause, amount in picture.costs.items() if np.any(amount[0])}
    if need.value_per_month:
        by_cause["value"] = picture.value(need, inputs)[0]
    total = sum(by_cause.values(), start=np.zeros(need.horizon_months))
    return CashFlow({cause: _floats(amount) for cause, amount in by_cause.items()}, _floats(total))


def cumulative(picture: Picture, need: Need, inputs: Inputs) -> tuple[tuple[float, ...], ...]:
    """Return P10, P50 and P90 of the sum of cash until each month."""
    cash = picture.value(need, inputs) - picture.spent
    return tuple(_floats(row) for row in np.percentile(np.cumsum(cash, axis=1), PERCENTILES, axis=0))


def value_lost(need: Need, inputs: Inputs, lead: str) -> np.ndarray:
    """Return the present value [rows] that the delay `lead` takes against a start today, costs aside.

    Never negative: waiting takes months of value away and part of what is left; no delay takes nothing.
    """
    today = Inputs(inputs.values | {lead: np.zeros(inputs.rows)})
    worth = []
    for rows in (today, inputs):
        time = timeline(need, rows, lead)
        worth.append(Picture({"none": np.zeros_like(time.live)}, time, np.ones_like(time.live)).npv(need, rows))
    return np.asarray(worth[0] - worth[1])


def tornado(way: Way, assumptions: Assumptions, *, most: int = 10) -> tuple[Swing, ...]:
    """Return the inputs that move the present cost most, widest first; each goes to the ends of its range alone."""
    names = [name for name, figure in assumptions.figures.items() if figure.low < figure.high]
    if not names:
        return ()
    rows = assumptions.central(2 * len(names))
    for index, name in enumerate(names):
        figure = assumptions[name]
        rows.values[name][2 * index : 2 * index + 2] = (figure.low, figure.high)
    usd = way(rows).present_cost(rows)
    swings = [
        Swing(
            name=name,
            unit=assumptions[name].unit,
            low_input=assumptions[name].low,
            high_input=assumptions[name].high,
            usd_at_low=float(usd[2 * index]),
            usd_at_high=float(usd[2 * index + 1]),
            assumption=assumptions[name].assumption,
        )
        for index, name in enumerate(names)
    ]
    scale = max((abs(float(value)) for value in usd), default=0.0)
    moving = [swing for swing in swings if swing.width > 1e-6 * scale]
    return tuple(sorted(moving, key=lambda swing: -swing.width)[:most])


def break_even(
    owned: np.ndarray, rented: np.ndarray, cheaper: np.ndarray, usd_per_hour: float, hourly_rate: float | None
) -> BreakEven:
    """Return when owning catches up with renting.

    `owned` and `rented` are [months] spent for the same service in the central case, resale aside; `cheaper` [rows]
    says in which draws owning costs less; `usd_per_hour` is owning's cost per accelerator hour at full use.
    """
    gap = np.cumsum(owned) - np.cumsum(rented)
    return BreakEven(
        month=_crossing(gap),
        utilisation=None if hourly_rate is None else usd_per_hour / hourly_rate,
        cheaper_probability=float(np.mean(cheaper)),
    )


def _crossing(gap: np.ndarray) -> float | None:
    """Return the month, counted from 0, after which a gap stays at or below zero, interpolated inside the month."""
    above = np.flatnonzero(gap > 1e-9 * float(np.max(np.abs(gap))))
    if not len(above):
        return 0.0
    last = int(above[-1])
    if last == len(gap) - 1:
        return None
    return float(last + 1 + gap[last] / (gap[last] - gap[last + 1]))


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(values.tolist())
