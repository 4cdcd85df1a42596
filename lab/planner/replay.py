"""The request-level record of a real server, replayed: vLLM on one RTX PRO 6000 under 300 ShareGPT requests.

The record (casys-kaist/LLMServingSim, bench/examples/RTXPRO6000/Llama-3.1-8B) holds when each request arrived, was
scheduled, got its first and its last token. The simulator gets the arrivals, lengths and the hashes of the prompts'
blocks, and the replica as the planner predicts it, which has seen none of the record's times.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from bessemer_planner.catalog import load_catalog
from bessemer_planner.models import model_shape
from bessemer_planner.performance import Performance
from bessemer_planner.simulator import Cluster, Pool, PrefixBlocks, Requests, simulate
from bessemer_planner.types import Deployment, Precision, Replica, ServingEngine

MODEL = "meta-llama/Llama-3.1-8B"
SEVERAL = {  # model: parallelism, measured mean TPOT and TTFT in seconds (measured_throughput.csv, llmservingsim_bench)
    "Qwen/Qwen3-32B": ((2, 1, 1), 0.0803, 36.9052),
    "Qwen/Qwen3-30B-A3B": ((1, 2, 2), 0.0473, 1.086),
}
"""Runs of the same bench on two cards without NVLink, of which the means are known: tensor parallel, and data parallel
with the experts split. Their prompts and answers are reckoned as long as those of the record."""
ACCELERATOR = "rtx_pro_6000_server"
BLOCK = 16


def measure(folder: Path) -> dict[str, Any] | None:
    """Return the errors in percent; None without the record."""
    if not folder.exists():
        return None
    meta = json.loads((folder / "Llama-3.1-8B.meta.json").read_text())
    record = [json.loads(line) for line in (folder / "Llama-3.1-8B.requests.jsonl").read_text().splitlines()]
    prompts = [
        json.loads(line)["input_tok_ids"]
        for line in (folder / "sharegpt-llama-3.1-8b-300-sps10.jsonl").read_text().splitlines()
    ]
    columns = {name: np.array([row[name] for row in record], np.float64) for name in record[0] if name != "request_id"}
    # The engine's clock is another one; a request is never queued before it arrives.
    arrival = columns["arrival_time"] - (columns["arrival_time"] - columns["queued_ts"]).max()
    ttft, latency = columns["first_token_ts"] - arrival, columns["last_token_ts"] - arrival
    replica, version = predicted(meta["engine_kwargs"], columns)
    requests = Requests(
        arrival - arrival[0],
        columns["input_toks"].astype(np.int64),
        columns["output_toks"].astype(np.int64),
        prefix=blocks(prompts),
    )
    result = simulate(requests, Cluster((Pool(replica, 1, prefix_cache=True),)))
    tpot = (latency - ttft) / (columns["output_toks"] - 1)
    return {
        "latency_error": error(result.latency_s().mean(), latency.mean()),
        "ttft_p90_error": error(np.percentile(result.ttft_s, 90), np.percentile(ttft, 90)),
        "ttft_mean_error": error(result.ttft_s.mean(), ttft.mean()),
        "latency_p90_error": error(np.percentile(result.latency_s(), 90), np.percentile(latency, 90)),
        "tpot_mean_error": error(result.tpot_s.mean(), tpot.mean()),
        "latency_error_per_request": round(float(np.abs(result.latency_s() / latency - 1).mean()) * 100, 1),
        "predicted_by": version,
        "fitted_on_the_record": False,
    }


def two_cards(folder: Path) -> dict[str, Any] | None:
    """Return the errors of the means on two cards, in percent of what was measured; None without the record."""
    if not folder.exists():
        return None
    engine = json.loads((folder / "Llama-3.1-8B.meta.json").read_text())["engine_kwargs"]
    record = [json.loads(line) for line in (folder / "Llama-3.1-8B.requests.jsonl").read_text().splitlines()]
    columns = {name: np.array([row[name] for row in record]) for name in ("arrival_time", "input_toks", "output_toks")}
    arrival = columns["arrival_time"] - columns["arrival_time"][0]
    requests = Requests(arrival, columns["input_toks"].astype(np.int64), columns["output_toks"].astype(np.int64))
    found = {}
    for model, (sizes, tpot, ttft) in SEVERAL.items():
        result = simulate(requests, Cluster((Pool(predicted(engine, columns, model, sizes)[0], 1),)))
        found[model] = {
            "tpot_mean_error": error(result.tpot_s.mean(), tpot),
            "ttft_mean_error": error(result.ttft_s.mean(), ttft),
        }
    return found


def predicted(
    engine: dict[str, Any],
    columns: dict[str, np.ndarray],
    model: str = MODEL,
    sizes: tuple[int, int, int] = (1, 1, 1),
) -> tuple[Replica, str]:
    """Return the replica with the record's engine settings, and what the prediction stands for.

    `sizes`: tensor, data and expert parallel; the settings are those of one data-parallel rank.
    """
    tp, dp, ep = sizes
    prediction = Performance.load().replica(
        Deployment(model, ACCELERATOR, ServingEngine.VLLM, "0.19.0", Precision.BF16, tp=tp, dp=dp, ep=ep),
        model_shape(model),
        load_catalog().accelerator(ACCELERATOR),
        max_batch=engine["max_num_seqs"] * dp,
        chunk_tokens=engine["max_num_batched_tokens"],
        isl=float(columns["input_toks"].mean()),
        osl=float(columns["output_toks"].mean()),
    )
    return prediction.replica, "; ".join((prediction.engine_version, *prediction.warnings))


def blocks(prompts: list[list[int]]) -> PrefixBlocks:
    """Number the prompts' full blocks, each with all that stands before it."""
    numbers: dict[tuple[int, tuple[int, ...]], int] = {}
    hashes: list[int] = []
    offsets = [0]
    for tokens in prompts:
        before = 0
        for start in range(0, len(tokens) - len(tokens) % BLOCK, BLOCK):
            before = numbers.setdefault((before, tuple(tokens[start : start + BLOCK])), len(numbers) + 1)
            hashes.append(before)
        offsets.append(len(hashes))
    return PrefixBlocks(np.array(offsets), np.array(hashes, np.int64), BLOCK)


def error(predicted_value: float, measured: float) -> float:
    """Signed, in percent of what was measured."""
    return round((float(predicted_value) / float(measured) - 1) * 100, 1)
