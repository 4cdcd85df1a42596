"""What a fleet costs, when, and who should own it: cash flows, present values, break-even, and what may go wrong."""

from bessemer_planner.economics.assumptions import Assumptions, default_assumptions
from bessemer_planner.economics.curves import HourCurve, hour_curves
from bessemer_planner.economics.ownership import ownership
from bessemer_planner.economics.rates import Quote, quotes
from bessemer_planner.economics.types import (
    BreakEven,
    CashFlow,
    Commitment,
    Lot,
    Management,
    Need,
    Ownership,
    Power,
    SovereigntyCell,
    Space,
    SpeedToMarket,
    Swing,
    WayCosts,
)

__all__ = [
    "Assumptions",
    "BreakEven",
    "CashFlow",
    "Commitment",
    "HourCurve",
    "Lot",
    "Management",
    "Need",
    "Ownership",
    "Power",
    "Quote",
    "SovereigntyCell",
    "Space",
    "SpeedToMarket",
    "Swing",
    "WayCosts",
    "default_assumptions",
    "hour_curves",
    "ownership",
    "quotes",
]
