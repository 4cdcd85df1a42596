"""What the economics speak of: a need, who may own the machines, and what each way costs, when, and with what strings.

Money is US dollars, time months of 730.5 hours from the decision, rates per year. Cash is positive when it comes in.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from bessemer_planner.types import IntervalEstimate, Owner

HOURS_PER_MONTH = 730.5
HOURS_PER_YEAR = 12 * HOURS_PER_MONTH
"""8,766: a year of 365.25 days."""


class Space(StrEnum):
    """Where machines of one's own stand."""

    AUTO = "auto"
    """Colocation below 1 MW, a building of one's own above."""
    COLOCATION = "colocation"
    BUILD = "build"


class Lot(msgspec.Struct, frozen=True):
    """Accelerators of one kind that the fleet needs."""

    accelerator: str
    count: float
    """Needed at the peak, spares for failures not included."""
    mean: float | None = None
    """Running on average (what is paid on demand); None: always all."""
    instance: str | None = None
    """The instance that carries them in a public cloud; None: the cheapest per accelerator."""
    term: str | None = None
    """The term under which an optimiser rents them; None: the cheapest allowed."""
    cloud_usd_per_month: float | None = None
    """Their rent by the hour in a public cloud in the first month, when an optimiser has found it; None: computed from
    prices. A commitment is paid by its term, whatever is said here."""
    booked: bool = False
    """Taken for single runs, each paid at the price of its day: `cloud_usd_per_month` holds under any term, and nothing
    is committed."""

    @property
    def running(self) -> float:
        """Accelerators running on average."""
        return self.count if self.mean is None else self.mean


class Need(msgspec.Struct, frozen=True):
    """What is compared: the same service, over the same time, within the same rules."""

    lots: tuple[Lot, ...]
    horizon_months: int = 36
    growth_per_month: float = 0.0
    """0.02: two percent more accelerators needed each month."""
    value_per_month: float = 0.0
    """What the finished service is worth in a month; 0: only costs are compared."""
    output_tokens_per_month: float | None = None
    regions: tuple[str, ...] = ()
    """Prefixes of regions where the data may be; empty: anywhere."""
    operators: tuple[str, ...] = ()
    """Operators who may run the machines, whatever the case; empty: anybody."""
    owners: tuple[Owner, ...] = tuple(Owner)
    """Ways of owning that are allowed."""
    terms: tuple[str, ...] = ("on_demand", "capacity_block", "1yr", "3yr", "savings_1yr", "savings_3yr")
    """Ways of renting that are allowed (`spot` must be asked for)."""
    lead_months: float | None = None
    """Longest acceptable time to the first served token; None: no limit."""

    @property
    def accelerators(self) -> float:
        """Accelerators of all lots at the peak of the first month."""
        return sum(lot.count for lot in self.lots)


class Commitment(msgspec.Struct, frozen=True):
    """What one is bound to: term x minimum units x price, and what leaving costs."""

    months: float
    minimum_accelerators: int
    usd: float
    """Paid or owed whatever happens, from the day of signing."""
    exit_usd: float
    """Lost when everything stops half-way through the horizon."""
    beyond_horizon_usd: float
    """Owed after the horizon."""
    text: str


class SovereigntyCell(msgspec.Struct, frozen=True):
    """Where data are, who touches the machines, and whose law reaches them."""

    region: str
    operator: str
    law: str
    satisfied: bool
    """The need's regions and operators are kept: a hard limit, never a preference."""
    text: str


class SpeedToMarket(msgspec.Struct, frozen=True):
    """Months to the first served token, and what the wait costs."""

    months: IntervalEstimate
    """P50 with P10 and P90."""
    npv_lost_usd: IntervalEstimate
    """Net present value lost against a start today; 0 when the need states no value."""
    text: str


class Management(msgspec.Struct, frozen=True):
    """Who operates, with how many people, and how long a repair takes."""

    operated_by: str
    people: float
    staff_usd_per_year: float
    repair_hours: float
    spare_accelerators: int
    """Bought or held beyond the need, so that the need is met 99.9 % of the time."""
    text: str


class Power(msgspec.Struct, frozen=True):
    """Electricity of the machines. For rented instances it is inside the price and only estimated where known."""

    provisioned_kw: float
    """In the last month of the horizon, growth included."""
    average_facility_kw: float
    """Drawn at the meter: average IT power x PUE."""
    pue: float
    liquid: bool
    kwh_per_year: float


class CashFlow(msgspec.Struct, frozen=True):
    """Monthly cash of the central case by cause, each [horizon]; costs are negative. `total` is their sum."""

    by_cause: Mapping[str, tuple[float, ...]]
    total: tuple[float, ...]


class BreakEven(msgspec.Struct, frozen=True):
    """Against renting the same service in a public cloud from the same day on."""

    month: float | None
    """When the sum spent falls below the sum that renting would have cost, resale not counted; None: not within the
    horizon."""
    utilisation: float | None
    """Share of hours in use above which it beats paying on demand by the hour; above 1 it never does; None: nothing is
    sold by the hour."""
    cheaper_probability: float
    """Share of draws in which its present cost is lower."""


class Swing(msgspec.Struct, frozen=True):
    """How the present cost moves when one input goes to the ends of its range, everything else in the middle."""

    name: str
    unit: str
    low_input: float
    high_input: float
    usd_at_low: float
    usd_at_high: float
    assumption: bool

    @property
    def width(self) -> float:
        """Distance between the two ends, USD."""
        return abs(self.usd_at_high - self.usd_at_low)


class WayCosts(msgspec.Struct, frozen=True):
    """What one way of owning costs, when. Intervals are P50 with P10 and P90 of the draws."""

    cash: CashFlow
    cumulative_p10: tuple[float, ...]
    """Sum of the cash until each month."""
    cumulative_p50: tuple[float, ...]
    cumulative_p90: tuple[float, ...]
    npv_usd: IntervalEstimate
    """Value less costs, residual value included."""
    present_cost_usd: IntervalEstimate
    """Costs alone, residual value taken off."""
    usd_per_accelerator_hour: IntervalEstimate
    """Present cost over the discounted accelerator hours that serve: comparable whatever the delay."""
    usd_per_million_tokens: IntervalEstimate | None
    """The same over output tokens."""
    depreciation_usd_per_month: float
    """Straight-line, of what is owned; not cash."""
    power: Power | None
    break_even: BreakEven | None
    """None for the cloud itself, and where nothing comparable can be rented."""
    tornado: tuple[Swing, ...]
    """Inputs that move the present cost, widest first."""


class Ownership(msgspec.Struct, frozen=True):
    """One way of owning with its four cells, each computed."""

    owner: Owner
    name: str
    feasible: bool
    reasons: tuple[str, ...]
    """Why it is not feasible and what would be, then cautions."""
    commitment: Commitment | None
    sovereignty: SovereigntyCell
    speed: SpeedToMarket
    management: Management
    money: WayCosts | None
    """None when nobody publishes a price that it could be computed from."""
    assumed: tuple[str, ...]
    """Inputs behind it that nobody has published: this project's assumptions."""
