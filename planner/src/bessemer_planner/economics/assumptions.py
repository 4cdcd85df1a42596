"""The inputs of the economics: figures of the catalogue with their ranges, each of which a caller may pin."""

from collections.abc import Mapping

import msgspec
import numpy as np

from bessemer_planner.catalog import Figure, HardwareCatalog
from bessemer_planner.economics.types import Space
from bessemer_planner.errors import PlannerError, UnknownName
from bessemer_planner.types import Source

DEMAND = "demand.factor"
NETWORK_LOST = "network.lost"

_DEMAND = Figure(
    DEMAND,
    "real over planned demand",
    0.6,
    1.0,
    1.5,
    Source("no public figure: forecasts of new services miss by about this much", "2026-09-19"),
    assumption=True,
)


_LOST = Figure(
    NETWORK_LOST,
    "of the accelerators' time lost to the scale-out network",
    0.0,
    0.0,
    0.10,
    Source(
        "no public figure: a badly configured fabric is said to cost 10 %",
        "2026-09-19",
    ),
    assumption=True,
)


class Assumptions(msgspec.Struct, frozen=True):
    """Inputs by name. Draw them with `sample`, or take the middle with `central`."""

    figures: dict[str, Figure]
    space: Space = Space.AUTO

    def __getitem__(self, name: str) -> Figure:
        if name not in self.figures:
            raise UnknownName(f"no assumption named {name!r}")
        return self.figures[name]

    def pinned(self, values: Mapping[str, float]) -> "Assumptions":
        """Return the same with some inputs set by the caller, who then answers for them.

        Raises:
            UnknownName: there is no such input.
            PlannerError: a value is not a number.
        """
        figures = dict(self.figures)
        for name, value in values.items():
            if not np.isfinite(value):
                raise PlannerError(f"{name} must be a number, got {value}", param=name)
            figures[name] = self[name].at(float(value))
        return msgspec.structs.replace(self, figures=figures)

    def central(self, count: int = 1) -> "Inputs":
        """Return `count` equal rows of the middle values."""
        return Inputs({name: np.full(count, figure.value) for name, figure in self.figures.items()})

    def sample(self, count: int, seed: int) -> "Inputs":
        """Draw each input on its own from a triangle over its range; one seed gives the same draws every time.

        The order of names does not matter: each input has its own stream.
        """
        draws = {}
        for name, figure in self.figures.items():
            random = np.random.default_rng([seed, *name.encode()])
            if figure.low == figure.high:
                draws[name] = np.full(count, figure.value)
            else:
                draws[name] = random.triangular(figure.low, figure.value, figure.high, count)
        return Inputs(draws)


class Inputs(msgspec.Struct, frozen=True):
    """Rows of inputs: every array is [rows]."""

    values: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values[name]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.values.values())))

    def column(self, name: str) -> np.ndarray:
        """Return an input as [rows, 1], to be spread over months."""
        return self.values[name][:, None]


def default_assumptions(catalog: HardwareCatalog, *, space: Space = Space.AUTO, **pinned: float) -> Assumptions:
    """Return the catalogue's figures as inputs; keywords pin some (`power__usd_per_kwh=0.2`)."""
    figures = dict(catalog.figures) | {DEMAND: _DEMAND, NETWORK_LOST: _LOST}
    for system in catalog.systems.values():
        for figure in (system.price_usd, system.rack_kw):
            if figure is not None:
                figures[figure.name] = figure
    given = {name.replace("__", "."): value for name, value in pinned.items()}
    return Assumptions(figures, space).pinned(given)
