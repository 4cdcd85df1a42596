"""What a plan rests on, with sources; and what its reader must be warned of."""

from collections.abc import Iterator, Sequence
from datetime import date

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.economics import Ownership
from bessemer_planner.fleet.choose import ConfirmedFleet, margin_of
from bessemer_planner.fleet.configurations import CHUNK_TOKENS, MAX_BATCH, Configuration, shape_of
from bessemer_planner.fleet.tuning import effective
from bessemer_planner.fleet.verify import EndToEnd
from bessemer_planner.models import model_shape
from bessemer_planner.plan.types import Assumed, Basis, ConfigurationRow, Fleet
from bessemer_planner.types import ServingEngine
from bessemer_planner.workload import Workload
from bessemer_planner.workload.types import OFFICE_HOURS, ModelUse, Traffic, Tuning

_HERE = "assumption of this project"
_OLD_RUN_DAYS = 183
"""Software moves as much as hardware: DeepSeek-R1 on 72 GB200 went from 289,712 to 523,790 tokens/s between MLPerf
Inference v5.1 and v6.1, a year."""
_OLD_PRICE_DAYS = 92
"""A p6-b200 Capacity Block rose by a fifth from June to September 2026."""
_WIDE = 2.0
_CACHE_FLAGS = {
    ServingEngine.VLLM: "--kv-cache-dtype fp8",
    ServingEngine.SGLANG: "--kv-cache-dtype fp8_e4m3",
    ServingEngine.TRTLLM: "kv_cache_config.dtype: fp8",
}
"""Settings for a cache of 8 bits, from the engines' pages on quantised KV caches. Their `auto` keeps 16 bits unless the
checkpoint was quantised with a cache of its own."""
_FIGURES = ("power.usd_per_kwh", "power.load_factor", "power.pue_air", "power.pue_liquid", "finance.discount_rate")


def assumptions_of(
    workload: Workload, catalog: HardwareCatalog, chosen: ConfirmedFleet, owners: Sequence[Ownership]
) -> tuple[Assumed, ...]:
    """Return the inputs of the answer."""
    traffic = workload.traffic
    made = [
        Assumed(
            "service level",
            f"the fleet covers {margin_of(workload):.3g} times the mean of every hour",
            "fleet.service_level x traffic.variation",
        ),
        Assumed("spares", f"{workload.fleet.spares} replicas of every configuration", "fleet.spares"),
        Assumed(
            "precision",
            "8-bit where the hardware has it, unless models.precision names others; 4-bit only when named",
            _HERE,
        ),
        Assumed(
            "engine",
            f"batches of at most {MAX_BATCH}, {CHUNK_TOKENS} tokens a step",
            "vLLM's defaults on server accelerators",
        ),
        *_caches(chosen),
        Assumed(
            "arrivals",
            "Poisson within an hour, lengths drawn independently",
            _HERE if not traffic.prompt_tokens.quantiles else "lengths measured, arrivals assumed",
        ),
        *_lengths(workload),
        Assumed("weekend", f"{traffic.weekend:g} times the requests of a weekday", "traffic.weekend"),
    ]
    if traffic.hours == OFFICE_HOURS:
        made.append(Assumed("load over the day", "business hours, peak 1.9 times the mean", _HERE))
    made += [_failures(one, catalog) for one in workload.tuning]
    for use in workload.models:
        if use.config is None:
            source = model_shape(use.name).source
            made.append(Assumed(f"shape of {use.name}", "as published", source.where, source.date))
    for accelerator in dict.fromkeys(one.deployment.accelerator for one in chosen.behind.values()):
        one = catalog.accelerator(accelerator)
        made.append(
            Assumed(
                accelerator,
                f"{one.memory_gb:g} GB, {one.bandwidth_tbs:g} TB/s, {one.bf16_tflops:g} BF16 TFLOPS dense",
                one.source.where,
                one.source.date,
            )
        )
    for name in _FIGURES:
        figure = catalog.figure(name)
        value = f"{figure.value:g} ({figure.low:g} to {figure.high:g}) {figure.unit}"
        made.append(Assumed(name, value, figure.source.where, figure.source.date))
    unpublished = dict.fromkeys(text for owner in owners for text in owner.assumed)
    made += [Assumed("not published", text, _HERE) for text in unpublished]
    return tuple(made)


def _lengths(workload: Workload) -> Iterator[Assumed]:
    """Say which 95th percentiles nobody stated: the longest prompts decide on the time to first token."""
    given: list[tuple[str, Traffic | ModelUse]] = [("traffic", workload.traffic)]
    given += [(f"models.{i}", use) for i, use in enumerate(workload.models)]
    for where, one in given:
        for field, lengths in (("prompt_tokens", one.prompt_tokens), ("output_tokens", one.output_tokens)):
            if lengths is not None and lengths.p95 is None and not lengths.quantiles:
                told = f"95th percentile {lengths.upper:g} tokens, 2.5 times the mean"
                yield Assumed(f"{where}.{field}.p95", told, _HERE)


def _failures(tuning: Tuning, catalog: HardwareCatalog) -> Assumed:
    """Say what failures, restarts and checkpoints add to the declared hours of a run."""
    found = effective(tuning, catalog)
    kept, rate = found.goodput, catalog.figure("reliability.failures_per_gpu_hour")
    every = "" if tuning.checkpoint_minutes is not None else ", the interval that loses least (Young/Daly)"
    told = (
        f"{tuning.accelerator_hours:,.0f} declared accelerator-hours a run become {found.accelerator_hours:,.0f}: "
        f"{found.size:,} work together and lose {1 - kept.share:.2%} to {kept.failures_per_day:.2g} failures a day, "
        f"restarts of {found.restart_s / 60:g} minutes and a checkpoint of {tuning.save_seconds:g} s every "
        f"{kept.checkpoint_s / 60:.3g} minutes{every}"
    )
    stated = tuning.failures_per_accelerator_hour is not None
    sources = (
        "failures: tuning.failures_per_accelerator_hour" if stated else f"failures: {rate.source.where}",
        f"restart: {catalog.figure('reliability.restart_minutes').source.where}"
        if tuning.restart_minutes is None
        else "restart: tuning.restart_minutes",
        "save: tuning.save_seconds",
    )
    return Assumed(f"failures of {tuning.name}", told, "; ".join(sources), None if stated else rate.source.date)


def _caches(chosen: ConfirmedFleet) -> Iterator[Assumed]:
    """Say how wide the KV cache is and how the engine is told: no engine narrows it by itself for 8-bit weights."""
    used = [chosen.behind[name] for name in chosen.solution.replicas]
    for engine, value_bytes in dict.fromkeys((one.deployment.engine, _value_bytes(one)) for one in used):
        flag = _CACHE_FLAGS[engine]
        told = f"set {flag}" if value_bytes < _WIDE else f"the default, without {flag}"
        yield Assumed(
            "KV cache", f"{8 * value_bytes:g} bits a value under {engine.value}: {told}", "fleet.kv_precision"
        )


def _value_bytes(one: Configuration) -> float:
    return one.prediction.replica.kv_value_bytes


def warnings_of(
    workload: Workload,
    rows: Sequence[ConfigurationRow],
    fleet: Fleet,
    whole: EndToEnd | None,
) -> tuple[str, ...]:
    """Return what limits the answer."""
    made = []
    for row in rows:
        if row.chosen:
            made += [f"{row.name}: {text}" for text in row.warnings]
            if row.basis is Basis.EXTRAPOLATED and not any("xtrapolated" in text for text in row.warnings):
                made.append(f"{row.name} is extrapolated: {row.basis_note}")
            if row.verdict is None:
                made.append(f"{row.name} carries batch work alone and was not simulated.")
            if row.precision == "fp4":
                made.append(f"{row.name}: check the quality of {row.model} in 4 bits before relying on it.")
    for use in workload.models:
        shape, prompt, answer = shape_of(use), workload.prompt_tokens(use.name), workload.output_tokens(use.name)
        if shape.context_tokens is not None and prompt.upper + answer.mean > shape.context_tokens:
            made.append(
                f"More than one prompt in twenty of {use.name} is too long for its {shape.context_tokens:,} tokens "
                f"with a mean answer: such requests are refused or cut by the engine."
            )
    if workload.cascade is not None:
        met = (
            f" Simulated at the busiest hour: half of the requests see their first final token within "
            f"{whole.ttft_p50_s:.2g} s, escalated ones within {whole.escalated_ttft_p50_s:.2g} s; 95 % are complete "
            f"after {whole.latency_p95_s:.3g} s."
            if whole is not None
            else ""
        )
        made.append(
            f"Latency limits hold for each model by itself: an escalated request waits for {workload.cascade.small}'s "
            f"whole answer before {workload.cascade.large} starts.{met}"
        )
    dates = sorted(purchase.price_date for purchase in fleet.purchases if purchase.price_date)
    if dates:
        made.append(
            f"Prices are of {dates[0]} and later; a p6-b200 Capacity Block rose by 32 % between January and September "
            "2026. `bessemer plan refresh` reads the vendors' public price files."
        )
    if fleet.gap > 0.02:
        made.append(f"The optimiser stopped at {fleet.gap:.1%} from its bound; a cheaper fleet may exist.")
    return tuple(made)


def stale(chosen: ConfirmedFleet, fleet: Fleet, today: date) -> tuple[str, ...]:
    """Return which measured runs and prices behind the fleet are old on the day of the plan."""
    runs = {chosen.behind[name].name: chosen.behind[name].prediction for name in chosen.solution.replicas}
    made = [
        f"{name}: the measured run that stands for its engine ({one.engine_version}) is "
        f"{_months(one.measured, today):.0f} months old; newer versions may have changed its speed."
        for name, one in runs.items()
        if one.measured and _days(one.measured, today) > _OLD_RUN_DAYS
    ]
    made += [
        f"{name}: the day of the measured run that stands for its engine ({one.engine_version}) is not known."
        for name, one in runs.items()
        if not one.measured
    ]
    made += [
        f"The {one.term.replace('_', ' ')} price of {one.instance} is of {one.price_date}, "
        f"{_months(one.price_date, today):.0f} months old: `bessemer plan refresh` reads today's."
        for one in fleet.purchases
        if one.price_date and _days(one.price_date, today) > _OLD_PRICE_DAYS
    ]
    return tuple(made)


def _days(day: str, today: date) -> int:
    return (today - date.fromisoformat(day)).days


def _months(day: str, today: date) -> float:
    return _days(day, today) / 30.44
