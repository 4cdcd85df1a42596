"""A figure that is known only as a range, and a machine that can be bought: the parts of one's own data centre."""

import msgspec

from bessemer_planner.errors import InputError
from bessemer_planner.types import Source


class Figure(msgspec.Struct, frozen=True):
    """A value with the range it may lie in. `low` and `high` bound a triangular distribution around `value`."""

    name: str
    unit: str
    low: float
    value: float
    high: float
    source: Source
    assumption: bool = False
    """True: nobody has published it; it is this project's guess and must be shown as one."""

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise InputError(
                f"figure {self.name!r}: low <= value <= high is needed, got {self.low}, {self.value}, {self.high}"
            )

    def at(self, value: float) -> "Figure":
        """The same figure pinned by the caller to one value."""
        where = Source(where="set by the caller", date=None)
        return msgspec.structs.replace(self, low=value, value=value, high=value, source=where, assumption=False)


class System(msgspec.Struct, frozen=True):
    """A server or rack that can be bought. Prices are trade press, never quotes; blank when nobody has named one."""

    name: str
    accelerator: str
    count: int
    """Accelerators in it."""
    price_usd: Figure | None
    """The machine alone: no fabric, storage, building or staff."""
    rack_kw: Figure
    """Electrical power that must be provisioned for it, kW, before cooling."""
    liquid: bool
    """Direct liquid cooling is mandatory."""
