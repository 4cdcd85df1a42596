"""C6: a tuned 7B on G7e against a 70B on P6-B200 at ten million requests a month, and what the saving is made of."""

import msgspec

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.claims.anchors import ANCHORS, OUTPUT_TOKENS, SOURCE, usd_per_million
from bessemer_planner.claims.serving import CHAT, SUMMARIES, Serving, UseCase, best_serving, error_of_ratio
from bessemer_planner.claims.types import Claim, Computed, Input, Verdict
from bessemer_planner.performance import Performance
from bessemer_planner.types import InstancePrice, IntervalEstimate, Precision, ServingEngine

REQUESTS = 10e6
SECONDS_PER_MONTH = 730.5 * 3600.0
LARGE, SMALL = "llama-3.1-70b", "llama-3.1-8b"


class FullLoad(msgspec.Struct, frozen=True):
    """What output tokens cost when the machines are busy: as measured, and for the same requests as predicted."""

    large_usd: float
    small_usd: float
    measured: float
    """Saved, each model on the requests of its own MLPerf run."""
    large_error: float
    """Our prediction of the measured run of the large model over the measurement, less one."""
    small_error: float
    same_large_usd: float
    same_small_usd: float
    same: IntervalEstimate
    """Saved when both answer the same requests."""


def tuned_small_model(catalog: HardwareCatalog, performance: Performance) -> Claim:
    """Work out the saving at the idle floor (what stands there whether or not requests come) and at full load."""
    node = catalog.price("p6-b200.48xlarge", "on_demand")
    server = catalog.price("g7e.48xlarge", "on_demand")
    single = catalog.price("g7e.2xlarge", "on_demand")
    pair = catalog.price("g7e.12xlarge", "on_demand")
    floor = {nodes: 1 - server.usd_per_hour / (nodes * node.usd_per_hour) for nodes in (1, 2, 3)}
    alone, smallest = (1 - single.usd_per_hour / other.usd_per_hour for other in (pair, node))
    tokens_s = REQUESTS * OUTPUT_TOKENS["llama-2-70b"] / SECONDS_PER_MONTH
    large, small = ANCHORS["llama-2-70b", "b200_sxm"], ANCHORS["llama-3.1-8b", "rtx_pro_6000_server"]
    shares = tokens_s / (8 * large.server), tokens_s / small.server
    load = _full_load(catalog, performance, node, server)
    at_floor = any(0.8 <= saving <= 0.905 for saving in floor.values())
    at_load = load.measured >= 0.8 or load.same.low >= 0.8
    return Claim(
        number="C6",
        claim="A tuned 7B on G7e saves 80 to 90 % against a 70B on several P6-B200 at 10 million requests a month.",
        inputs=(
            Input("requests", REQUESTS, "a month", "the claim"),
            Input("p6-b200.48xlarge", node.usd_per_hour, "USD/h", f"{node.source}, {node.date}"),
            Input("g7e.48xlarge", server.usd_per_hour, "USD/h", f"{server.source}, {server.date}"),
            Input("70B on B200, FP4", large.server, "tokens/s per GPU", SOURCE),
            Input("8B on RTX PRO 6000, FP4", small.server, "tokens/s per GPU", SOURCE),
            Input("output tokens", OUTPUT_TOKENS["llama-2-70b"], "a request", SOURCE),
        ),
        computed=(
            *(
                Computed(f"floor, {count} P6-B200 against 1 g7e.48xlarge", saving, "saved")
                for count, saving in floor.items()
            ),
            Computed("load", tokens_s, "output tokens/s"),
            Computed("share of one P6-B200", shares[0], "of its capacity"),
            Computed("share of one RTX PRO 6000", shares[1], "of its capacity"),
            Computed("smallest units, P6-B200 against g7e.2xlarge", smallest, "saved"),
            Computed("70B on g7e.12xlarge against g7e.2xlarge", alone, "saved"),
            Computed("full load 70B, measured", load.large_usd, "USD per million output tokens"),
            Computed("full load 8B, measured", load.small_usd, "USD per million output tokens"),
            Computed("full load, measured", load.measured, "saved"),
            Computed("our prediction of the measured 70B", load.large_error, "off"),
            Computed("our prediction of the measured 8B", load.small_error, "off"),
            Computed("full load 70B, same requests", load.same_large_usd, "USD per million output tokens"),
            Computed("full load 8B, same requests", load.same_small_usd, "USD per million output tokens"),
            Computed("full load, same requests", load.same.value, "saved", load.same.low, load.same.high),
            Computed("escalation that undoes it at full load", load.same.value, "of the requests"),
        ),
        verdict=Verdict.HOLDS if at_floor and at_load else Verdict.HOLDS_IF if at_floor or at_load else Verdict.FAILS,
        explanation=(
            f"The saving is {floor[1]:.0%}, {floor[2]:.0%} and {floor[3]:.0%} against one, two and three P6-B200 "
            f"nodes that stand there anyway. Ten million requests a month are {REQUESTS / SECONDS_PER_MONTH:.1f} a "
            f"second: {shares[0]:.0%} of one P6-B200 node, {shares[1]:.0%} of one RTX PRO 6000. So it is the idle "
            f"floor that is saved; a 70B on g7e.12xlarge would do too, and against that one the 7B saves {alone:.0%}. "
            f"At full load an output token costs {load.measured:.0%} less as measured (FP4; ${load.small_usd:.2f} "
            f"against ${load.large_usd:.2f} per million), but the 8B's run has 778-token prompts and 128-token "
            f"answers, the 70B's 294 and 293. For the same requests we predict {load.same.value:.0%} "
            f"({load.same.low:.0%} to {load.same.high:.0%}); our prediction of the two measured runs is "
            f"{load.small_error:+.0%} and {load.large_error:+.0%} off. All of it counts only where the tuned model "
            "answers as well as the large one: that needs an evaluation. A cascade costs small + escalated x large: "
            f"at full load nothing is left of the saving when {load.same.value:.0%} of the requests must go on to the "
            "large model."
        ),
        condition="two or three P6-B200 nodes stand there whether or not requests come, and the 7B answers as well",
    )


def _full_load(
    catalog: HardwareCatalog, performance: Performance, node: InstancePrice, server: InstancePrice
) -> FullLoad:
    def serve(model: str, accelerator: str, limits: UseCase) -> Serving:
        return best_serving(
            catalog, performance, model, accelerator, Precision.FP4, limits, engine=ServingEngine.TRTLLM
        )

    hourly = node.usd_per_hour / 8, server.usd_per_hour / 8
    measured = ANCHORS["llama-2-70b", "b200_sxm"].server, ANCHORS["llama-3.1-8b", "rtx_pro_6000_server"].server
    usd = tuple(usd_per_million(*one) for one in zip(hourly, measured, strict=True))
    large, small = serve(LARGE, "b200_sxm", CHAT), serve(SMALL, "rtx_pro_6000_server", CHAT)
    as_measured = serve(SMALL, "rtx_pro_6000_server", SUMMARIES)
    same = tuple(usd_per_million(price, one.tokens_s.value) for price, one in zip(hourly, (large, small), strict=True))
    ratio, error = same[1] / same[0], error_of_ratio(large.tokens_s, small.tokens_s)
    return FullLoad(
        large_usd=usd[0],
        small_usd=usd[1],
        measured=1 - usd[1] / usd[0],
        large_error=large.tokens_s.value / measured[0] - 1,
        small_error=as_measured.tokens_s.value / measured[1] - 1,
        same_large_usd=same[0],
        same_small_usd=same[1],
        same=IntervalEstimate(1 - ratio, 1 - ratio * error, 1 - ratio / error),
    )
