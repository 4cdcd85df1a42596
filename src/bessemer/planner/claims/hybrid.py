"""C11: a hybrid fleet (tuning on P6e-GB200, complex requests on P6-B200, simple ones on G7e) and its alternatives."""

import math

import msgspec

from bessemer.core.errors import Infeasible
from bessemer.planner.catalog import Catalog
from bessemer.planner.claims.saving import CHAT, LARGE, SECONDS_PER_MONTH, SMALL
from bessemer.planner.claims.serving import best_serving
from bessemer.planner.claims.types import Claim, Computed, Input, Verdict
from bessemer.planner.performance import Performance
from bessemer.planner.types import Instance, Precision, Price

SIMPLE = 0.8
PEAK = 2.0
"""Peak over mean load: an assumption."""
HOURS = 730.5
TUNING_HOURS = 24.0
TUNING_GPUS = 8
"""A run of one day on 8 B200 each quarter: an assumption. A P6e block is never shorter than a day."""
VOLUMES = (10e6, 1e9)


class Tier(msgspec.Struct, frozen=True):
    """Instances of one kind that serve requests: units are bought whole."""

    instance: Instance
    price: Price


class Option(msgspec.Struct, frozen=True):
    """A fleet, by what it costs in a month at each volume."""

    name: str
    usd_per_month: tuple[float, ...]


def hybrid_fleet(catalog: Catalog, performance: Performance) -> Claim:
    """Price the fleet of the claim and the alternatives at ten million and a billion requests a month."""
    g7e = _tier(catalog, "g7e.48xlarge", "on_demand")
    card = _tier(catalog, "g7e.2xlarge", "on_demand")
    p6 = _tier(catalog, "p6-b200.48xlarge", "on_demand")
    p6e = _tier(catalog, "u-p6e-gb200x36", "capacity_block")
    block = catalog.price("p6-b200.48xlarge", "capacity_block")
    tuning = {
        "P6e": p6e.price.usd_per_hour * TUNING_HOURS / 3,
        "P6": block.usd_per_hour * TUNING_HOURS / 3,
        "G7e": g7e.price.usd_per_hour * TUNING_HOURS * _slower(catalog) / 3,
    }
    fleet = _Fleet(catalog, performance)
    options = (
        Option("hybrid of the claim", fleet.price(((SMALL, SIMPLE, card), (LARGE, 1 - SIMPLE, p6)), tuning["P6e"])),
        Option(
            "hybrid, tuning on P6-B200", fleet.price(((SMALL, SIMPLE, card), (LARGE, 1 - SIMPLE, p6)), tuning["P6"])
        ),
        Option("70B for everything on P6-B200", fleet.price(((LARGE, 1.0, p6),), 0.0)),
        Option("both models on P6-B200", fleet.price(((SMALL, SIMPLE, p6), (LARGE, 1 - SIMPLE, p6)), tuning["P6"])),
        Option("both models on G7e", fleet.price(((SMALL, SIMPLE, card), (LARGE, 1 - SIMPLE, card)), tuning["G7e"])),
        Option(
            "both models on P6e-GB200", fleet.price(((SMALL, SIMPLE, p6e), (LARGE, 1 - SIMPLE, p6e)), tuning["P6e"])
        ),
    )
    ours = options[0].usd_per_month
    cheapest = [min(options, key=lambda option, at=at: option.usd_per_month[at]) for at in range(len(VOLUMES))]
    rank = [sorted(option.usd_per_month[at] for option in options).index(ours[at]) + 1 for at in range(len(VOLUMES))]
    one_tier = [min(option.usd_per_month[at] for option in options[2:]) for at in range(len(VOLUMES))]
    wins = [mine <= other for mine, other in zip(ours, one_tier, strict=True)]
    verdict = Verdict.HOLDS if all(wins) else Verdict.HOLDS_IF if any(wins) else Verdict.FAILS
    return Claim(
        number="C11",
        claim=(
            "A hybrid fleet (quarterly tuning on P6e-GB200, complex requests on P6-B200, the simple 80 % on G7e) "
            "is the "
            "economical one."
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
            Computed(f"{option.name}, {volume / 1e6:,.0f}M requests", usd, "USD a month")
            for option in options
            for volume, usd in zip(VOLUMES, option.usd_per_month, strict=True)
        ),
        verdict=verdict,
        explanation=(
            f"At 10 million requests a month it costs ${ours[0]:,.0f} and ranks {rank[0]} of {len(options)}; the "
            f"cheapest "
            f"is '{cheapest[0].name}' at ${cheapest[0].usd_per_month[0]:,.0f}: a P6-B200 node for the complex requests "
            f"stands idle. At a billion it costs ${ours[1]:,.0f}, rank {rank[1]}, the cheapest is "
            f"'{cheapest[1].name}' at "
            f"${cheapest[1].usd_per_month[1]:,.0f}. Tuning costs ${tuning['P6e']:,.0f} a month on the smallest P6e "
            f"block "
            f"against ${tuning['P6']:,.0f} on a P6-B200 block: MLPerf tunes a 70B with LoRA on 8 GPUs in 9.0 min "
            f"on GB200 "
            "and 8.6 to 10.1 on B200, so an UltraServer pays only for jobs that need more than 8 GPUs at once."
        ),
    )


def _tier(catalog: Catalog, instance: str, term: str) -> Tier:
    return Tier(catalog.instance(instance), catalog.price(instance, term))


def _slower(catalog: Catalog) -> float:
    """Return how much longer tuning takes on RTX PRO 6000 than on B200, by dense BF16 peaks."""
    return catalog.accelerator("b200_sxm").bf16_tflops / catalog.accelerator("rtx_pro_6000_server").bf16_tflops


class _Fleet:
    """Prices fleets; remembers what one replica serves."""

    def __init__(self, catalog: Catalog, performance: Performance) -> None:
        self._catalog = catalog
        self._performance = performance
        self._replicas: dict[tuple[str, str], tuple[float, int]] = {}

    def price(self, uses: tuple[tuple[str, float, Tier], ...], tuning_usd: float) -> tuple[float, ...]:
        """Return USD a month at each volume; models on the same tier share its instances."""
        return tuple(self._serve(uses, volume) + tuning_usd for volume in VOLUMES)

    def _serve(self, uses: tuple[tuple[str, float, Tier], ...], volume: float) -> float:
        needed: dict[str, int] = {}
        tiers: dict[str, Tier] = {}
        for model, share, tier in uses:
            tokens_s, tp = self.replica(model, tier.instance)
            replicas = math.ceil(volume * share * CHAT.osl * PEAK / SECONDS_PER_MONTH / tokens_s)
            name = tier.instance.name
            tiers[name] = tier
            if tp > tier.instance.count:
                units = replicas * math.ceil(tp / tier.instance.count)
                needed[name] = needed.get(name, 0) + units * tier.instance.count
            else:
                needed[name] = needed.get(name, 0) + replicas * tp
        units = {name: math.ceil(count / tiers[name].instance.count) for name, count in needed.items()}
        return sum(units[name] * tiers[name].price.usd_per_hour * HOURS for name in units)

    def replica(self, model: str, instance: Instance) -> tuple[float, int]:
        """Return the output tokens a second and the accelerators of the best replica that fits an instance."""
        key = (model, instance.name)
        if key not in self._replicas:
            try:
                found = best_serving(
                    self._catalog,
                    self._performance,
                    model,
                    instance.accelerator,
                    Precision.FP8,
                    CHAT,
                    most=min(instance.count, 8),
                )
            except Infeasible as error:
                raise Infeasible(f"{model} on {instance.name}: {error.message}") from None
            self._replicas[key] = (found.replica_tokens_s.value, found.tp)
        return self._replicas[key]

    def inputs(self) -> tuple[Input, ...]:
        """Return what the prediction says one replica serves."""
        return tuple(
            Input(f"{model} on {instance}", rate, f"tokens/s on {tp} accelerators", "our prediction, FP8, vLLM")
            for (model, instance), (rate, tp) in self._replicas.items()
        )
