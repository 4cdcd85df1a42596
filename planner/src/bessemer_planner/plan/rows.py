"""The table of configurations: the chosen ones, and the cheapest others of every accelerator."""

from collections.abc import Sequence
from typing import Any

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.fleet.choose import ConfirmedFleet
from bessemer_planner.fleet.configurations import MAX_BATCH, Configuration, demanded, settled
from bessemer_planner.fleet.types import Offer
from bessemer_planner.performance import Performance
from bessemer_planner.plan.fleet import kilowatts_per_accelerator
from bessemer_planner.plan.types import Basis, ConfigurationRow, LoadPoint
from bessemer_planner.types import IntervalEstimate
from bessemer_planner.workload import Workload

_PER_ACCELERATOR = 2
"""Configurations of a model listed for each accelerator."""
_LOADS = (1.0, 4.0, 16.0, 64.0, 128.0, 256.0)
"""Requests in flight at which curves are drawn."""


def configuration_rows(
    workload: Workload,
    catalog: HardwareCatalog,
    performance: Performance,
    chosen: ConfirmedFleet,
    found: Sequence[Configuration],
    offers: Sequence[Offer],
) -> tuple[ConfigurationRow, ...]:
    """Return the rows: by model, the chosen first, then by price of a token."""
    known = {one.name: one for one in found} | {one.name: one for one in chosen.behind.values()}
    final = {name: settled(one, demanded(workload, one.model).lengths) for name, one in known.items()}
    used = {chosen.behind[name].name for name in chosen.solution.replicas}
    priced = [(one, *_price(workload, one, offers)) for one in final.values()]
    priced.sort(key=lambda row: (row[0].name not in used, row[1]))
    counts: dict[tuple[str, str], int] = {}
    kept = []
    for one, usd, instance in priced:
        key = (one.model, one.deployment.accelerator)
        counts[key] = counts.get(key, 0) + 1
        if one.name in used or counts[key] <= _PER_ACCELERATOR:
            kept.append(
                ConfigurationRow(
                    **_performance(workload, catalog, performance, one),
                    instance=instance,
                    usd_per_million_output_tokens=None if instance is None else usd,
                    verdict=chosen.verdicts.get(one.name),
                    chosen=one.name in used,
                )
            )
    models = [use.name for use in workload.models]
    return tuple(sorted(kept, key=lambda row: models.index(row.model)))


def _price(workload: Workload, one: Configuration, offers: Sequence[Offer]) -> tuple[float, str | None]:
    """Return USD per million output tokens at full load, infinite without a price, and the instance."""
    fits = [
        offer
        for offer in offers
        if offer.accelerator == one.deployment.accelerator and offer.accelerators >= one.accelerators
    ]
    if not fits:
        return float("inf"), None
    best = min(fits, key=lambda offer: offer.usd_per_hour / offer.accelerators)
    tokens = one.rate * workload.output_tokens(one.model).mean * 3600
    return best.usd_per_hour / best.accelerators * one.accelerators / tokens * 1e6, best.instance


def _performance(
    workload: Workload, catalog: HardwareCatalog, performance: Performance, one: Configuration
) -> dict[str, Any]:
    """Return the fields of a row that come from the prediction."""
    prediction, deployment = one.prediction, one.deployment
    spread = prediction.spread
    tokens_s = one.rate * workload.output_tokens(one.model).mean
    kilowatts = kilowatts_per_accelerator(catalog, deployment.accelerator)
    return {
        "name": one.name,
        "model": one.model,
        "accelerator": deployment.accelerator,
        "engine": deployment.engine.value,
        "engine_version": prediction.engine_version,
        "precision": deployment.precision.value,
        "tensor_parallel": deployment.tp,
        "prefill_replicas": one.prefill_replicas,
        "decode_replicas": one.decode_replicas,
        "accelerators": one.accelerators,
        "max_batch": MAX_BATCH,
        "basis": Basis.PREDICTED if prediction.extrapolated is None else Basis.EXTRAPOLATED,
        "basis_note": prediction.extrapolated or "",
        "requests_s": one.rate,
        "concurrency": one.load * one.decode_replicas,
        "ttft_s": _scaled(one.ttft_s, prediction.ttft_spread),
        "tpot_s": _scaled(one.tpot_s, spread),
        "output_tokens_s": IntervalEstimate(tokens_s, tokens_s / spread.high, tokens_s / spread.low),
        "joules_per_output_token": None if kilowatts is None else kilowatts * 1e3 * one.accelerators / tokens_s,
        "curve": () if one.prefill_replicas else _curve(workload, performance, one),
        "nearest": prediction.nearest[:3],
        "warnings": prediction.warnings,
    }


def _scaled(value: float, spread: IntervalEstimate) -> IntervalEstimate:
    return IntervalEstimate(value, value * spread.low, value * spread.high)


def _curve(workload: Workload, performance: Performance, one: Configuration) -> tuple[LoadPoint, ...]:
    lengths = demanded(workload, one.model).lengths
    room = min(one.prediction.replica.kv_tokens / (lengths.isl + lengths.osl), float(MAX_BATCH))
    points = []
    for load in _LOADS:
        if load <= max(room, 1.0):
            steady = performance.steady(one.prediction, lengths.isl, lengths.osl, load)
            points.append(LoadPoint(load, steady.ttft_s, steady.tpot_s, steady.output_tokens_s))
    return tuple(points)
