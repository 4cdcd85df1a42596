"""C11: a hybrid fleet (tuning on P6e-GB200, complex requests on P6-B200, simple ones on G7e) and its alternatives."""

import math

import msgspec

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.claims.saving import LARGE, SECONDS_PER_MONTH, SMALL
from bessemer_planner.claims.serving import CHAT, Serving, best_serving
from bessemer_planner.claims.types import Claim, Computed, Input, Verdict
from bessemer_planner.performance import Performance
from bessemer_planner.types import Instance, InstancePrice, IntervalEstimate, Precision

SIMPLE = 0.8
PEAK = 2.0
"""Peak over mean load: an assumption."""
HOURS = 730.5
TUNING_HOURS = 24.0
TUNING_GPUS = 8
"""A run of one day on 8 B200 each quarter: an assumption. A P6e block is never shorter than a day."""
VOLUMES = (10e6, 100e6, 1e9)


class Tier(msgspec.Struct, frozen=True):
    """Instances of one kind that serve requests: units are bought whole."""

    instance: Instance
    price: InstancePrice


Uses = tuple[tuple[str, float, Tier], ...]
"""Model, its share of the requests, and where it runs."""


class Option(msgspec.Struct, frozen=True):
    """A fleet, by what it costs in a month at each volume; bounds from the prediction's."""

    name: str
    usd: tuple[IntervalEstimate, ...]


def hybrid_fleet(catalog: HardwareCatalog, performance: Performance) -> Claim:
    """Price the fleet of the claim and the alternatives at ten million, a hundred million and a billion requests."""
    card = _tier(catalog, "g7e.2xlarge", "on_demand")
    p6 = _tier(catalog, "p6-b200.48xlarge", "on_demand")
    p6e = _tier(catalog, "u-p6e-gb200x36", "capacity_block")
    tuning = _tuning(catalog)
    fleet = _Fleet(catalog, performance)
    small, large, mixed = (SMALL, SIMPLE), (LARGE, 1 - SIMPLE), tuning["P6e"]
    options = (
        fleet.option("hybrid of the claim", ((*small, card), (*large, p6)), mixed),
        fleet.option("hybrid, tuning on P6-B200", ((*small, card), (*large, p6)), tuning["P6"]),
        fleet.option("70B for everything on P6-B200", ((LARGE, 1.0, p6),), 0.0),
        fleet.option("both models on P6-B200", ((*small, p6), (*large, p6)), tuning["P6"]),
        fleet.option("both models on G7e", ((*small, card), (*large, card)), tuning["G7e"]),
        fleet.option("both models on P6e-GB200", ((*small, p6e), (*large, p6e)), mixed),
    )
    claimed, others = options[0], options[2:]
    best = [_cheapest(others, at) for at in range(len(VOLUMES))]
    wins = [mine.value <= other.usd[at].value for at, (mine, other) in enumerate(zip(claimed.usd, best, strict=True))]
    open_ = [mine.low <= other.usd[at].high for at, (mine, other) in enumerate(zip(claimed.usd, best, strict=True))]
    verdict = Verdict.HOLDS if all(wins) else Verdict.HOLDS_IF if any(open_) else Verdict.FAILS
    return Claim(
        number="C11",
        claim=(
            "A hybrid fleet (quarterly tuning on P6e-GB200, complex requests on P6-B200, the simple 80 % on G7e) is "
            "the economical one."
        ),
        inputs=(
            Input("simple requests", SIMPLE, "of all, on a tuned small model", "the claim"),
            Input("peak", PEAK, "times the mean load", "assumption"),
            Input("tuning", f"{TUNING_GPUS} B200 for {TUNING_HOURS:.0f} h each quarter", "", "assumption"),
            *(
                Input(tier.instance.name, tier.price.usd_per_hour, "USD/h", f"{tier.price.source}, {tier.price.date}")
                for tier in (card, p6, p6e)
            ),
            *fleet.inputs(),
        ),
        computed=tuple(
            Computed(f"{option.name}, {volume / 1e6:.0f}M requests", usd.value, "USD a month", usd.low, usd.high)
            for option in options
            for volume, usd in zip(VOLUMES, option.usd, strict=True)
        ),
        verdict=verdict,
        explanation=" ".join(
            (
                *(
                    _compared(volume, claimed.usd[at], best[at].name, best[at].usd[at])
                    for at, volume in enumerate(VOLUMES)
                ),
                f"Tuning costs ${tuning['P6e']:,.0f} a month on the smallest P6e block against ${tuning['P6']:,.0f} "
                "on a P6-B200 block: MLPerf tunes a 70B with LoRA on 8 GPUs in 9.0 min on GB200 and 8.6 to 10.1 on "
                "B200, so an UltraServer pays only for jobs that need more than 8 GPUs at once.",
            )
        ),
        condition=_condition(claimed, best) if verdict is Verdict.HOLDS_IF else "",
    )


def _cheapest(options: tuple[Option, ...], at: int) -> Option:
    return min(options, key=lambda option: option.usd[at].value)


def _condition(claimed: Option, best: list[Option]) -> str:
    """Say where the hybrid is the cheaper one as computed, else by how much the prediction would have to be off."""
    apart = {volume: _dearer(claimed.usd[at], best[at].usd[at]) for at, volume in enumerate(VOLUMES)}
    won = [f"{volume / 1e6:.0f}M" for volume, share in apart.items() if share <= 0.0]
    if won:
        return f"there are {' or '.join(won)} requests a month, of the volumes computed"
    open_ = [volume for at, volume in enumerate(VOLUMES) if claimed.usd[at].low <= best[at].usd[at].high]
    volume = min(open_, key=lambda volume: apart[volume])
    return (
        "the prediction errs in its favour: as computed it is dearer at every volume, at "
        f"{volume / 1e6:.0f}M requests a month by {apart[volume]:.0%}, which is within the error"
    )


def _dearer(mine: IntervalEstimate, other: IntervalEstimate) -> float:
    """Return by which share `mine` costs more as computed; negative when it costs less."""
    return mine.value / other.value - 1.0


def _compared(volume: float, mine: IntervalEstimate, name: str, other: IntervalEstimate) -> str:
    share = _dearer(mine, other)
    by = f"{abs(share):.0%} {'more' if share > 0 else 'less'}" if abs(share) < 1.0 else f"{share + 1.0:.1f} times it"
    error = "beyond" if mine.low > other.high or mine.high < other.low else "within"
    return (
        f"At {volume / 1e6:.0f}M requests a month it costs ${mine.value:,.0f}, the best of one tier ({name}) "
        f"${other.value:,.0f}: {by}, {error} the prediction's error."
    )


def _tuning(catalog: HardwareCatalog) -> dict[str, float]:
    """Return what a month's share of the quarterly run costs on each tier, USD: whole units, a block is a day."""
    hours = TUNING_HOURS / 3
    slower = catalog.accelerator("b200_sxm").bf16_tflops / catalog.accelerator("rtx_pro_6000_server").bf16_tflops
    return {
        "P6e": catalog.price("u-p6e-gb200x36", "capacity_block").usd_per_hour * hours,
        "P6": catalog.price("p6-b200.48xlarge", "capacity_block").usd_per_hour * hours,
        "G7e": catalog.price("g7e.48xlarge", "on_demand").usd_per_hour * hours * slower,
    }


def _tier(catalog: HardwareCatalog, instance: str, term: str) -> Tier:
    return Tier(catalog.instance(instance), catalog.price(instance, term))


class _Fleet:
    """Prices fleets; remembers what one replica serves."""

    def __init__(self, catalog: HardwareCatalog, performance: Performance) -> None:
        self._catalog = catalog
        self._performance = performance
        self._replicas: dict[tuple[str, str], Serving] = {}

    def option(self, name: str, uses: Uses, tuning_usd: float) -> Option:
        """Return a fleet with its price at each volume; models on the same tier share its instances."""
        return Option(name, tuple(self._price(uses, volume, tuning_usd) for volume in VOLUMES))

    def _price(self, uses: Uses, volume: float, tuning_usd: float) -> IntervalEstimate:
        rates = {(model, tier.instance.name): self._replica(model, tier.instance) for model, _, tier in uses}
        ends = []
        for end in ("value", "low", "high"):
            needed: dict[str, int] = {}
            for model, share, tier in uses:
                serving = rates[model, tier.instance.name]
                tokens_s = volume * share * CHAT.osl * PEAK / SECONDS_PER_MONTH
                replicas = math.ceil(tokens_s / getattr(serving.replica_tokens_s, end))
                needed[tier.instance.name] = needed.get(tier.instance.name, 0) + replicas * serving.tp
            tiers = {tier.instance.name: tier for _, _, tier in uses}
            ends.append(sum(_rent(tiers[name], count) for name, count in needed.items()) + tuning_usd)
        return IntervalEstimate(ends[0], ends[2], ends[1])

    def _replica(self, model: str, instance: Instance) -> Serving:
        key = (model, instance.name)
        if key not in self._replicas:
            self._replicas[key] = best_serving(
                self._catalog,
                self._performance,
                model,
                instance.accelerator,
                Precision.FP8,
                CHAT,
                most=min(instance.count, 8),
            )
        return self._replicas[key]

    def inputs(self) -> tuple[Input, ...]:
        """Return what the prediction says one replica serves."""
        return tuple(
            Input(
                f"{model} on {instance}",
                round(found.replica_tokens_s.value),
                f"tokens/s on {found.tp} accelerators",
                "our prediction, FP8, vLLM",
            )
            for (model, instance), found in self._replicas.items()
        )


def _rent(tier: Tier, accelerators: int) -> float:
    return math.ceil(accelerators / tier.instance.count) * tier.price.usd_per_hour * HOURS
