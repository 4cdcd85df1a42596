"""C6: a tuned 7B on G7e against a 70B on P6-B200 at ten million requests a month, and what the saving is made of."""

from bessemer.planner.catalog import Catalog
from bessemer.planner.claims.anchors import ANCHORS, OUTPUT_TOKENS, SOURCE, usd_per_million
from bessemer.planner.claims.serving import Limits, best_serving
from bessemer.planner.claims.types import Claim, Computed, Input, Verdict
from bessemer.planner.performance import Performance
from bessemer.planner.types import Precision

REQUESTS = 10e6
SECONDS_PER_MONTH = 730.5 * 3600.0
LARGE, SMALL = "llama-3.1-70b", "llama-3.1-8b"
CHAT = Limits(isl=294, osl=293, ttft_s=2.0, tpot_s=0.2)
"""MLPerf's Llama-2-70B Server: OpenOrca questions, 2 s to the first token, 200 ms for each further one."""


def tuned_small_model(catalog: Catalog, performance: Performance) -> Claim:
    """Work out the saving at the idle floor (what stands there whether or not requests come) and at full load."""
    node = catalog.price("p6-b200.48xlarge", "on_demand")
    server = catalog.price("g7e.48xlarge", "on_demand")
    single = catalog.price("g7e.2xlarge", "on_demand")
    pair = catalog.price("g7e.12xlarge", "on_demand")
    floor = {nodes: 1 - server.usd_per_hour / (nodes * node.usd_per_hour) for nodes in (1, 2, 3)}
    tokens_s = REQUESTS * OUTPUT_TOKENS["llama-2-70b"] / SECONDS_PER_MONTH
    large, small = ANCHORS["llama-2-70b", "b200_sxm"], ANCHORS["llama-3.1-8b", "rtx_pro_6000_server"]
    usd_large = usd_per_million(node.usd_per_hour / 8, large.server)
    usd_small = usd_per_million(server.usd_per_hour / 8, small.server)
    measured = 1 - usd_small / usd_large
    ours_large = best_serving(catalog, performance, LARGE, "b200_sxm", Precision.FP8, CHAT)
    ours_small = best_serving(catalog, performance, SMALL, "rtx_pro_6000_server", Precision.FP8, CHAT)
    ours_usd = [
        usd_per_million(price.usd_per_hour / 8, serving.tokens_s.value)
        for price, serving in ((node, ours_large), (server, ours_small))
    ]
    predicted = 1 - ours_usd[1] / ours_usd[0]
    at_floor = any(0.8 <= saving <= 0.905 for saving in floor.values())
    at_load = measured >= 0.8
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
            Computed("share of one P6-B200", tokens_s / (8 * large.server), "of its capacity"),
            Computed("share of one RTX PRO 6000", tokens_s / small.server, "of its capacity"),
            Computed(
                "smallest units, P6-B200 against g7e.2xlarge", 1 - single.usd_per_hour / node.usd_per_hour, "saved"
            ),
            Computed("70B on g7e.12xlarge against g7e.2xlarge", 1 - single.usd_per_hour / pair.usd_per_hour, "saved"),
            Computed("full load 70B, measured", usd_large, "USD per million output tokens"),
            Computed("full load 8B, measured", usd_small, "USD per million output tokens"),
            Computed("full load, measured", measured, "saved"),
            Computed("full load 70B, predicted", ours_usd[0], "USD per million output tokens"),
            Computed("full load 8B, predicted", ours_usd[1], "USD per million output tokens"),
            Computed("full load, predicted", predicted, "saved"),
            Computed("escalation that undoes it at full load", measured, "of the requests"),
        ),
        verdict=Verdict.HOLDS if at_floor and at_load else Verdict.HOLDS_IF if at_floor or at_load else Verdict.FAILS,
        explanation=(
            f"The saving is {floor[1]:.0%}, {floor[2]:.0%} and {floor[3]:.0%} against one, two and three P6-B200 "
            f"nodes that stand there anyway. Ten million requests a month are {REQUESTS / SECONDS_PER_MONTH:.1f} a "
            f"second: {tokens_s / (8 * large.server):.0%} of one P6-B200 node, {tokens_s / small.server:.0%} of one "
            "RTX PRO 6000. So it is the idle floor that is saved. A 70B on g7e.12xlarge would do too, and against "
            f"that one the 7B saves {1 - single.usd_per_hour / pair.usd_per_hour:.0%}. At full load a token costs "
            f"{measured:.0%} less (measured, FP4; ${usd_small:.2f} against ${usd_large:.2f} per million), "
            f"{predicted:.0%} less by our prediction at FP8. It counts only where the tuned model answers as well as "
            "the large one: that needs an evaluation. A cascade costs small + escalated x large: at full load "
            f"nothing is left of the saving when {measured:.0%} of the requests must go on to the large model."
        ),
        condition="two or three P6-B200 nodes stand there whether or not requests come, and the 7B answers as well",
    )
