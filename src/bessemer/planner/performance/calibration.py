"""The calibration that is shipped: fitted coefficients, widths of intervals, and the measured points nearby."""

from functools import cache
from importlib.resources import files

import msgspec

from bessemer.planner.performance.structure import Structure


class Calibration(msgspec.Struct, frozen=True):
    """Everything a prediction needs beyond the shape of the model and the peaks of the accelerator."""

    fitted: str
    """Day of the fit (ISO date)."""
    source: str
    rows: int
    tpot: Structure
    ttft: Structure


@cache
def load_calibration() -> Calibration:
    """Return the shipped calibration, parsed once."""
    return msgspec.json.decode(files(__package__).joinpath("calibration.json").read_bytes(), type=Calibration)
