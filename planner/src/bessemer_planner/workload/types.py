"""What a plan is for: the frozen schema of a workload file. Every default is declared here and nowhere else.

Knows neither hardware nor prices. Rates are requests a month, lengths tokens, money US dollars, times as named.
"""

import math
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from bessemer_planner.types import KvPrecision, Owner, Precision, ServingEngine

Positive = Annotated[float, Meta(gt=0, le=1e15)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Load = Annotated[float, Meta(ge=0, le=1e9)]
Name = Annotated[str, Meta(max_length=256)]
Note = Annotated[str, Meta(max_length=4096)]

OFFICE_HOURS: Final = (
    0.30, 0.25, 0.22, 0.20, 0.22, 0.30, 0.45, 0.70, 1.10, 1.55, 1.80, 1.85,
    1.70, 1.70, 1.85, 1.80, 1.65, 1.45, 1.20, 1.00, 0.85, 0.70, 0.55, 0.40,
)  # fmt: skip
"""A shape of business traffic over a day, hour by hour, when a workload states none: an assumption, not a
measurement."""
_Z95: Final = 1.6448536
"""95 % quantile of the standard normal distribution."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a workload's parts: immutable, keyword-only, unknown fields refused."""


class Lengths(Section, frozen=True):
    """How long prompts or answers are: log-normal by mean and 95th percentile, or empirical by quantiles."""

    mean: Positive
    """Tokens."""
    p95: Positive | None = None
    """95th percentile; None: 2.5 times the mean."""
    quantiles: tuple[Annotated[float, Meta(ge=0, le=1e15)], ...] = ()
    """Values at equal steps of probability from 0 to 1, when they were measured; they win over `p95`."""

    @property
    def upper(self) -> float:
        """95th percentile, tokens."""
        if self.quantiles:
            return float(np.interp(0.95, np.linspace(0.0, 1.0, len(self.quantiles)), self.quantiles))
        return self.p95 or 2.5 * self.mean

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm: solves mean = exp(mu + s^2/2), p95 = exp(mu + 1.645 s) for s."""
        ratio = (self.p95 or 2.5 * self.mean) / self.mean
        return _Z95 - math.sqrt(max(_Z95**2 - 2 * math.log(ratio), 0.0))

    def sample(self, random: np.random.Generator, count: int) -> np.ndarray:
        """Draw lengths [count], whole tokens, at least 1."""
        if self.quantiles:
            steps = np.linspace(0.0, 1.0, len(self.quantiles))
            values = np.interp(random.random(count), steps, np.asarray(self.quantiles))
        else:
            sigma = self.sigma
            values = np.exp(random.normal(math.log(self.mean) - sigma**2 / 2, sigma, count))
        whole: np.ndarray = np.maximum(np.rint(values), 1).astype(np.int64)
        return whole


class Traffic(Section, frozen=True):
    """How many requests come when, and how long they are."""

    requests_per_month: Annotated[float, Meta(ge=1, le=1e13)]
    prompt_tokens: Lengths
    output_tokens: Lengths
    growth_per_month: Annotated[float, Meta(gt=-0.5, le=1)] = 0.0
    """0.05: five percent more requests each month."""
    hours: tuple[Load, ...] = OFFICE_HOURS
    """Relative load of the 24 hours of a day."""
    weekend: Annotated[float, Meta(ge=0, le=5)] = 0.5
    """Requests of a weekend day over those of a weekday."""
    months: tuple[Load, ...] = ()
    """Relative load of 12 months, growth aside; empty: even."""
    variation: Annotated[float, Meta(ge=0, le=2)] = 0.1
    """Coefficient of variation of the rate from day to day within the same hour."""
    batch_share: Share = 0.0
    """Share of requests that may wait until `batch_deadline_hours` after they came."""
    batch_deadline_hours: Annotated[int, Meta(ge=1, le=24)] = 24
    prefix_share: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Share of prompt tokens that the engine's prefix cache already holds (system prompts, conversations): they are not
    computed, but take memory and are read like the others."""


class ModelUse(Section, frozen=True):
    """A model that answers, and its share of the requests."""

    name: Name
    share: Annotated[float, Meta(gt=0, le=1)] | None = None
    """None: all requests, or what the cascade says."""
    precision: tuple[Precision, ...] = ()
    """Formats that its quality was checked in; empty: any that the hardware has."""
    config: dict[str, Any] | None = None
    """Its Hugging Face `config.json`, for a model that the planner does not know by name."""
    prompt_tokens: Lengths | None = None
    """Where they differ from the traffic's."""
    output_tokens: Lengths | None = None


class Cascade(Section, frozen=True):
    """The small model sees every request and hands some to the large one."""

    small: Name
    large: Name
    escalated: Share
    """Share of requests that the large model answers in the end."""


class LatencyLimits(Section, frozen=True):
    """Latency that at least `percentile` of the requests must keep."""

    ttft_s: Positive = 2.0
    """Time to first token, seconds."""
    tpot_s: Positive = 0.1
    """Time per output token after the first, seconds."""
    percentile: Annotated[float, Meta(ge=0.5, le=0.999)] = 0.95


class Tuning(Section, frozen=True):
    """Training or fine-tuning that comes back: hours of some accelerator."""

    name: Name
    accelerator_hours: Annotated[float, Meta(gt=0, le=1e9)]
    """Hours of one accelerator in each run, as if nothing failed."""
    accelerator: Name = "h100_sxm"
    """The accelerator that the hours were counted on; others are converted by measured training speed."""
    every_months: Annotated[int, Meta(ge=1, le=12)] = 3
    accelerators: tuple[Name, ...] = ()
    """Accelerators it may run on; empty: any that the fleet may use."""
    size: Count | None = None
    """Accelerators that work on a run together, each of whose failures stops it; None: the fewest that finish before
    the next run starts, at least a machine of 8."""
    failures_per_accelerator_hour: Annotated[float, Meta(gt=0, le=1)] | None = None
    """Unexpected interruptions; None: the catalogue's `reliability.failures_per_gpu_hour`."""
    restart_minutes: Annotated[float, Meta(ge=0, le=1e5)] | None = None
    """From an interruption until the run goes on; None: the catalogue's `reliability.restart_minutes`."""
    checkpoint_minutes: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    """Between two checkpoints; None: the interval that loses least (Young 1974, Daly 2006)."""
    save_seconds: Annotated[float, Meta(gt=0, le=1e6)] = 30.0
    """Time that a checkpoint stops the run: an assumption of this project."""


class Term(StrEnum):
    """How an instance may be paid for."""

    ON_DEMAND = "on_demand"
    CAPACITY_BLOCK = "capacity_block"
    YEAR = "1yr"
    THREE_YEARS = "3yr"
    SAVINGS_YEAR = "savings_1yr"
    SAVINGS_THREE_YEARS = "savings_3yr"
    SPOT = "spot"


class Sovereignty(Section, frozen=True):
    """Where the data may be and who may operate the hardware; empty: no limit."""

    regions: tuple[Name, ...] = ()
    """Prefixes of allowed regions, e.g. `eu-`."""
    operators: tuple[Name, ...] = ()
    """Allowed cloud providers, e.g. `aws`."""
    ownership: tuple[Owner, ...] = tuple(Owner)
    """Allowed forms of ownership."""


class Money(Section, frozen=True):
    """What may be spent, and what time is worth."""

    budget_per_month: Positive | None = None
    """Most that the fleet may cost in a month, USD."""
    value_per_month: Annotated[float, Meta(ge=0, le=1e15)] = 0.0
    """What the finished service is worth in a month, USD: prices a delay."""
    electricity_per_kwh: Positive | None = None
    """USD per kWh; None: the catalogue's default."""
    discount_rate: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Cost of capital in a year; None: the default of the economics."""


class Time(Section, frozen=True):
    """How far the plan looks, and how long it may take until the first served token."""

    horizon_months: Annotated[int, Meta(ge=12, le=120)] = 36
    lead_time_months: Annotated[float, Meta(ge=0, le=1200)] | None = None
    """Longest acceptable time until the first served token; None: no limit."""


class FleetLimits(Section, frozen=True):
    """What the fleet may be built of."""

    accelerators: tuple[Name, ...] = ()
    """Allowed accelerators; empty: every one with a price."""
    instances: tuple[Name, ...] = ()
    """Allowed instances; empty: every one with a price."""
    engines: tuple[ServingEngine, ...] = (ServingEngine.VLLM,)
    terms: tuple[Term, ...] = tuple(term for term in Term if term is not Term.SPOT)
    """Purchase terms that may be used (`spot` must be asked for)."""
    spares: Annotated[int, Meta(ge=0, le=8)] = 1
    """Replicas of every interactive configuration beyond what the load needs."""
    configurations: Annotated[int, Meta(ge=1, le=4)] = 1
    """Different configurations of one model at most; more than one takes the optimiser much longer."""
    quota: Annotated[dict[Name, Count], msgspec.Meta(max_length=1000)] = msgspec.field(default_factory=dict)
    """Units at most, by instance name."""
    kv_precision: KvPrecision = KvPrecision.AUTO
    """Number format of the KV cache; `auto`: 8 bits beside 8- and 4-bit floating weights (the engine must be told)."""
    cautious: bool = False
    """Plan on the slow end of each prediction's interval instead of its middle."""
    disaggregated: bool = True
    """Consider prefill and decode on replicas of their own."""
    service_level: Annotated[float, Meta(ge=0, le=4)] = 1.28
    """Standard deviations of day-to-day variation that the fleet covers (1.28: nine days of ten)."""


class Workload(Section, frozen=True):
    """A workload with its limits: what `bessemer plan` plans."""

    name: Name
    traffic: Traffic
    models: tuple[ModelUse, ...]
    description: Note = ""
    cascade: Cascade | None = None
    limits: LatencyLimits = LatencyLimits()
    tuning: tuple[Tuning, ...] = ()
    sovereignty: Sovereignty = Sovereignty()
    money: Money = Money()
    time: Time = Time()
    fleet: FleetLimits = FleetLimits()

    def share(self, model: str) -> float:
        """Return the share of requests that a model processes (in a cascade the small one sees all of them)."""
        if self.cascade is not None:
            if model == self.cascade.small:
                return 1.0
            if model == self.cascade.large:
                return self.cascade.escalated
        use = next(one for one in self.models if one.name == model)
        return 1.0 if use.share is None else use.share

    def prompt_tokens(self, model: str) -> Lengths:
        """Return the prompt lengths that a model sees."""
        use = next(one for one in self.models if one.name == model)
        return use.prompt_tokens or self.traffic.prompt_tokens

    def output_tokens(self, model: str) -> Lengths:
        """Return the answer lengths of a model."""
        use = next(one for one in self.models if one.name == model)
        return use.output_tokens or self.traffic.output_tokens
