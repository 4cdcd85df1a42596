"""The table of configurations: the chosen ones, and the cheapest others of every accelerator."""

from collections.abc import Sequence

from bessemer.planner.catalog import Catalog
from bessemer.planner.fleet.choose import Chosen
from bessemer.planner.fleet.configurations import MAX_BATCH, Configuration
from bessemer.planner.fleet.types import Offer
from bessemer.planner.fleet.verify import Verdict
from bessemer.planner.plan.fleet import kilowatts_per_accelerator
from bessemer.planner.plan.types import Basis, ConfigurationRow

_PER_ACCELERATOR = 2
"""Configurations of a model listed for each accelerator."""


def configuration_rows(
    catalog: Catalog, chosen: Chosen, found: Sequence[Configuration], offers: Sequence[Offer]
) -> tuple[ConfigurationRow, ...]:
    """Return the rows: by model, the chosen first, then by price of a token."""
    final = {one.name: one for one in found} | {one.name: one for one in chosen.behind.values()}
    used = {chosen.behind[name].name for name in chosen.solution.served}
    used |= {chosen.behind[name].name for name in chosen.solution.batch_served}
    rows = [_row(catalog, one, offers, chosen.verdicts.get(one.name), one.name in used) for one in final.values()]
    rows.sort(key=_order)
    kept: list[ConfigurationRow] = []
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        key = (row.model, row.accelerator)
        counts[key] = counts.get(key, 0) + 1
        if row.chosen or counts[key] <= _PER_ACCELERATOR:
            kept.append(row)
    models = list(dict.fromkeys(one.model for one in found))
    return tuple(sorted(kept, key=lambda row: models.index(row.model)))


def _order(row: ConfigurationRow) -> tuple[bool, float]:
    price = row.usd_per_million_output_tokens
    return not row.chosen, float("inf") if price is None else price


def _row(
    catalog: Catalog, one: Configuration, offers: Sequence[Offer], verdict: Verdict | None, chosen: bool
) -> ConfigurationRow:
    prediction, deployment = one.prediction, one.deployment
    tokens_s = one.at_rate.output_tokens_s.value * (one.rate / _steady_rate(one))
    fits = [
        offer
        for offer in offers
        if offer.accelerator == deployment.accelerator and offer.accelerators >= one.accelerators
    ]
    best = min(fits, key=lambda offer: offer.usd_per_hour / offer.accelerators, default=None)
    usd_hour = None if best is None else best.usd_per_hour / best.accelerators * one.accelerators
    kilowatts = kilowatts_per_accelerator(catalog, deployment.accelerator)
    return ConfigurationRow(
        name=one.name,
        model=one.model,
        accelerator=deployment.accelerator,
        instance=None if best is None else best.instance,
        engine=deployment.engine.value,
        engine_version=prediction.engine_version,
        precision=deployment.precision.value,
        tensor_parallel=deployment.tp,
        prefill_replicas=one.prefill_replicas,
        decode_replicas=one.decode_replicas,
        accelerators=one.accelerators,
        max_batch=MAX_BATCH,
        basis=Basis.PREDICTED if prediction.extrapolated is None else Basis.EXTRAPOLATED,
        basis_note=prediction.extrapolated or "",
        requests_s=one.rate,
        concurrency=one.at_rate.concurrency,
        ttft_s=one.at_rate.ttft_s,
        tpot_s=one.at_rate.tpot_s,
        output_tokens_s=one.at_rate.output_tokens_s,
        usd_per_million_output_tokens=None if usd_hour is None else usd_hour / (tokens_s * 3600) * 1e6,
        joules_per_output_token=None if kilowatts is None else kilowatts * 1e3 * one.accelerators / tokens_s,
        verdict=verdict,
        chosen=chosen,
        curve=one.curve,
        nearest=prediction.nearest[:3],
        warnings=prediction.warnings,
    )


def _steady_rate(one: Configuration) -> float:
    """Return the rate at which `at_rate` was computed; the simulator may have lowered `rate` since."""
    return max(one.rate, one.steady_rate)
