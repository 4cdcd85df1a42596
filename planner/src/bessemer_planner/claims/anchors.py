"""Measured upper bounds: the best output tokens a second per GPU of MLPerf Inference v5.1, closed division.

Tuned submissions of vendors; they anchor a claim but do not stand for an untuned server. L40S and H100 on
Llama-3.1-8B ran vLLM on one GPU, the others TensorRT-LLM on eight: not like for like.
"""

import msgspec

SOURCE = "mlcommons/inference_results_v5.1 (closed division), 2025-09-09"


class Anchor(msgspec.Struct, frozen=True):
    """Output tokens a second per GPU."""

    precision: str
    offline: float
    server: float
    interactive: float | None = None


ANCHORS: dict[tuple[str, str], Anchor] = {
    ("llama-3.1-8b", "l40s"): Anchor("fp8", 1642, 1207),
    ("llama-3.1-8b", "rtx_pro_6000_server"): Anchor("fp4", 5855, 5758, 4507),
    ("llama-3.1-8b", "h100_sxm"): Anchor("fp8", 5777, 5104),
    ("llama-3.1-8b", "h200_sxm"): Anchor("fp8", 8255, 8114, 6765),
    ("llama-3.1-8b", "b200_sxm"): Anchor("fp4", 18_370, 16_099, 15_284),
    ("llama-2-70b", "rtx_pro_6000_server"): Anchor("fp4", 3276, 3251),
    ("llama-2-70b", "h100_sxm"): Anchor("fp8", 3902, 3821),
    ("llama-2-70b", "h200_sxm"): Anchor("fp8", 4415, 4274, 2885),
    ("llama-2-70b", "b200_sxm"): Anchor("fp4", 12_864, 12_701, 7856),
    ("llama-2-70b", "gb200"): Anchor("fp4", 13_015, 12_340, 7436),
}
OUTPUT_TOKENS = {"llama-2-70b": 293.0, "llama-3.1-8b": 129.0}
"""Mean output tokens of a request in those runs (tokens a second over samples a second in the logs)."""


def usd_per_million(usd_per_hour: float, tokens_s: float) -> float:
    """Return the price of a million output tokens at full load."""
    return usd_per_hour / (tokens_s * 3600.0) * 1e6
