"""Claims about the machines: C1 to C4 and C7."""

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.claims.anchors import ANCHORS, SOURCE
from bessemer_planner.claims.serving import SUMMARIES, best_serving, error_of_ratio
from bessemer_planner.claims.types import Claim, Computed, Input, Verdict
from bessemer_planner.performance import Performance
from bessemer_planner.types import Accelerator, Precision


def speed_of_g7e(catalog: HardwareCatalog, performance: Performance) -> Claim:
    """C1: at the same engine and precision, per GPU."""
    old, new = (
        best_serving(catalog, performance, "llama-3.1-8b", name, Precision.FP8, SUMMARIES, most=1)
        for name in ("l40s", "rtx_pro_6000_server")
    )
    four = best_serving(catalog, performance, "llama-3.1-8b", "rtx_pro_6000_server", Precision.FP4, SUMMARIES, most=1)
    ratio = new.tokens_s.value / old.tokens_s.value
    ratio4 = four.tokens_s.value / old.tokens_s.value
    error = error_of_ratio(old.tokens_s, new.tokens_s)
    low, high = ratio / error, ratio * error
    anchor = _anchor("rtx_pro_6000_server") / _anchor("l40s")
    prices = [catalog.price(name, "on_demand").usd_per_hour for name in ("g7e.2xlarge", "g6e.xlarge")]
    per_dollar = ratio * prices[1] / prices[0]
    bandwidth = catalog.accelerator("rtx_pro_6000_server").bandwidth_tbs / catalog.accelerator("l40s").bandwidth_tbs
    off = (
        old.tokens_s.value / _anchor("l40s"),
        four.tokens_s.value / _anchor("rtx_pro_6000_server"),
    )
    verdict = Verdict.HOLDS if abs(ratio / 2.3 - 1) <= 0.1 else Verdict.FAILS
    if verdict is Verdict.FAILS and (low <= 2.3 <= high or ratio < 2.3 <= ratio4):
        verdict = Verdict.HOLDS_IF
    return Claim(
        number="C1",
        claim="G7e infers 2.3 times as fast as G6e.",
        inputs=(
            Input(
                "model", "Llama-3.1-8B, FP8, vLLM, one GPU each", "", "MLPerf Inference v5.1 Server limits and lengths"
            ),
            _peak(catalog.accelerator("l40s")),
            _peak(catalog.accelerator("rtx_pro_6000_server")),
            Input("MLPerf v5.1 Server", f"{anchor:.1f} times", "", f"{SOURCE}; FP4 TensorRT-LLM against FP8 vLLM"),
        ),
        computed=(
            Computed("tokens ratio", ratio, "times", low, high),
            Computed("tokens ratio with FP4 on G7e", ratio4, "times"),
            Computed("G6e", old.tokens_s.value, "tokens/s per GPU", old.tokens_s.low, old.tokens_s.high),
            Computed("G7e", new.tokens_s.value, "tokens/s per GPU", new.tokens_s.low, new.tokens_s.high),
            Computed("G6e, our prediction over MLPerf", off[0], "times"),
            Computed("G7e in FP4, our prediction over MLPerf", off[1], "times"),
            Computed("bandwidth ratio", bandwidth, "times"),
            Computed("tokens per dollar", per_dollar, "times"),
        ),
        verdict=verdict,
        explanation=(
            f"At equal engine and precision we predict {ratio:.1f} times ({low:.1f} to {high:.1f}), {ratio4:.1f} with "
            f"FP4 weights on G7e, which L40S cannot run, and {per_dollar:.1f} times the tokens per dollar at FP8. "
            f"Memory bandwidth alone gives {bandwidth:.2f}. MLPerf's {anchor:.1f} compares FP4 with FP8 and two "
            "engines. Its runs are the only end-to-end measurements of either GPU: our prediction of G7e in FP4 is "
            f"{off[1]:.1f} times the measured one, that of G6e {off[0]:.1f} times, so the ratio is rather "
            f"{'too low than too high' if off[0] > off[1] else 'too high than too low'}."
        ),
        condition="the model runs with FP4 weights on G7e",
    )


def _anchor(accelerator: str) -> float:
    return ANCHORS["llama-3.1-8b", accelerator].server


def _peak(accelerator: Accelerator) -> Input:
    text = f"{accelerator.bandwidth_tbs} TB/s, {accelerator.fp8_tflops:,.0f} dense FP8 TFLOPS"
    return Input(accelerator.name, text, "", f"{accelerator.source.where}, {accelerator.source.date}")


def memory_of_g7e(catalog: HardwareCatalog) -> Claim:
    """C2: 96 GB and 1.6 TB/s in one G7e GPU."""
    card = catalog.accelerator("rtx_pro_6000_server")
    assert card.nominal_gb is not None
    right = card.nominal_gb == 96 and round(card.bandwidth_tbs, 1) == 1.6
    return Claim(
        number="C2",
        claim="A G7e GPU has 96 GB of memory at 1.6 TB/s.",
        inputs=(_peak(card),),
        computed=(
            Computed("memory", card.nominal_gb, "GB"),
            Computed("usable memory", card.memory_gb, "10^9 bytes"),
            Computed("bandwidth", card.bandwidth_tbs, "TB/s"),
        ),
        verdict=Verdict.HOLDS if right else Verdict.FAILS,
        explanation=(
            f"{card.bandwidth_tbs} TB/s is the Server Edition, which clouds rent; the 1.792 TB/s of many tables is "
            "the Workstation Edition and would overstate decoding by 12 %."
        ),
    )


def memory_of_p6(catalog: HardwareCatalog) -> Claim:
    """C3: 8 GPUs and 1,440 GB in a P6-B200."""
    instance = catalog.instance("p6-b200.48xlarge")
    card = catalog.accelerator(instance.accelerator)
    assert card.nominal_gb is not None
    total = instance.count * card.nominal_gb
    right = instance.count == 8 and total == 1440
    return Claim(
        number="C3",
        claim="P6-B200 has 8 GPUs with 1,440 GB together.",
        inputs=(Input("p6-b200.48xlarge", f"{instance.count} x {card.nominal_gb:g} GB", "", instance.source),),
        computed=(
            Computed("memory", total, "GB"),
            Computed("AWS lists", instance.count * 179.0, "GiB"),
        ),
        verdict=Verdict.HOLDS if right else Verdict.FAILS,
        explanation="8 x 180 GB by NVIDIA's name; AWS's own table says 179 GiB each, which is what software sees.",
    )


def ultraserver(catalog: HardwareCatalog) -> Claim:
    """C4: a P6e-GB200 UltraServer."""
    rack = catalog.instance("u-p6e-gb200x72")
    card = catalog.accelerator(rack.accelerator)
    assert card.fp8_tflops is not None
    assert card.nominal_gb is not None
    assert rack.network_gbps is not None
    pflops = rack.count * card.fp8_tflops / 1000.0
    memory = rack.count * card.nominal_gb / 1000.0
    network = rack.network_gbps / 1000.0
    right = rack.count == 72 and pflops == 360 and round(memory, 1) == 13.4 and round(network, 1) == 28.8
    return Claim(
        number="C4",
        claim="P6e-GB200: 72 GPUs, 360 PFLOPS FP8 (dense), 13.4 TB of HBM3e, 28.8 Tb/s of EFAv4.",
        inputs=(
            Input("u-p6e-gb200x72", f"{rack.count} GPUs", "", rack.source),
            Input("GB200", f"{card.fp8_tflops:,.0f} TFLOPS FP8, {card.nominal_gb:g} GB", "", card.source.where),
        ),
        computed=(
            Computed("FP8 dense", pflops, "PFLOPS"),
            Computed("memory", memory, "TB"),
            Computed("EFA", network, "Tb/s"),
            Computed("EFA per GPU", rack.network_gbps / rack.count, "Gb/s"),
        ),
        verdict=Verdict.HOLDS if right else Verdict.FAILS,
        explanation=(
            f"72 x 5 = {pflops:.0f} PFLOPS, 72 x {card.nominal_gb:g} GB = {memory:.2f} TB, 72 x 400 Gb/s = "
            f"{network:.1f} Tb/s: half the 800 Gb/s per GPU that other GB200 systems have."
        ),
    )


def rack_power(catalog: HardwareCatalog) -> Claim:
    """C7: a Blackwell rack draws 120 kW or more."""
    racks = {name: catalog.system(name).rack_kw for name in ("gb200", "gb300")}
    right = all(rack.value >= 120 for rack in racks.values())
    return Claim(
        number="C7",
        claim="A Blackwell rack needs 120 kW and more.",
        inputs=tuple(Input(name, rack.value, rack.unit, rack.source.where) for name, rack in racks.items()),
        computed=tuple(Computed(name, rack.value, "kW", rack.low, rack.high) for name, rack in racks.items()),
        verdict=Verdict.HOLDS if right else Verdict.FAILS,
        explanation=(
            "Racks of 72 GPUs with mandatory liquid cooling are provisioned for 120 to 155 kW. It does not apply to "
            "HGX B200 servers (14.3 kW for 8 GPUs), of which a rack holds as many as its supply allows."
        ),
    )
