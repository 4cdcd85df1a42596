"""The calibration that is shipped: fitted coefficients with their covariance, widths of intervals, measured points."""

import io
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import msgspec
import numpy as np
from numpy.typing import NDArray

from bessemer_planner.performance.nearest import Points
from bessemer_planner.performance.structure import Recipe, Structure

Array = NDArray[np.float64]


class Notes(msgspec.Struct, frozen=True):
    """Where a calibration comes from, and how wide its intervals must be."""

    fitted: str
    """Day of the fit (ISO date)."""
    source: str
    rows: int
    tpot_quantile: float
    """Standard deviations on either side that held 80 % of held-out rows."""
    ttft_quantile: float
    tpot_recipe: Recipe
    ttft_recipe: Recipe
    tpot_keys: tuple[str, ...]
    ttft_keys: tuple[str, ...]
    points: Points


class SpeedCalibration(msgspec.Struct, frozen=True):
    """Everything a prediction needs beyond the shape of the model and the peaks of the accelerator."""

    notes: Notes
    tpot: Structure
    ttft: Structure


@cache
def load_calibration() -> SpeedCalibration:
    """Return the shipped calibration, parsed once."""
    folder = files(__package__)
    notes = msgspec.json.decode(folder.joinpath("calibration.json").read_bytes(), type=Notes)
    with np.load(io.BytesIO(folder.joinpath("calibration.npz").read_bytes())) as arrays:
        tpot = _unpack(notes.tpot_recipe, notes.tpot_keys, arrays, "tpot")
        ttft = _unpack(notes.ttft_recipe, notes.ttft_keys, arrays, "ttft")
    return SpeedCalibration(notes, tpot, ttft)


def _unpack(recipe: Recipe, keys: tuple[str, ...], arrays: Mapping[str, Array], name: str) -> Structure:
    spread = arrays[f"{name}_spread"].astype(np.float64)
    full = np.eye(len(spread))
    full[np.tril_indices(len(spread), -1)] = arrays[f"{name}_correlation"] / 2048.0
    full = full + np.tril(full, -1).T
    return Structure(recipe, keys, arrays[name].astype(np.float64), full * spread[:, None] * spread[None, :])
