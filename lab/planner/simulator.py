"""How fast the simulator is: a million requests on 64 replicas, plain and with everything on, each in its own process.

    python -m lab.planner.simulator plain|full      # one timed run, JSON on stdout

The workload is lognormal in prompt and output (medians 400 and 150 tokens, sigma 0.8) at 960 requests a second; the
replica's times are those of a mid-size model (6 ms a step, 25 us a sequence, 15 ns a KV token, 20 us a prompt token).
`full` has prompts of which on average half follows one of 2,000 shared texts, hashed in blocks of 16 tokens, prefix
caches, memory so small that sequences are preempted, and an autoscaler between 16 and 64 replicas under a rate that
swings by half. Timed is `simulate` alone, after a first small run that loads the compiled library.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bessemer_planner.simulator import Autoscaler, Cluster, Pool, PrefixBlocks, Requests, Router, simulate
from bessemer_planner.types import Replica, StepTime

REQUESTS = 1_000_000
REPLICAS = 64
RATE = 960.0
BLOCK = 16
TEXTS = 2_000


def measure() -> dict[str, Any]:
    """Return the timings."""
    plain, full = _in_process("plain"), _in_process("full")
    return {
        "des_seconds_1m_plain": plain["seconds"],
        "des_seconds_1m_full": full["seconds"],
        "des": {"plain": plain, "full": full},
    }


def _in_process(kind: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "lab.planner.simulator", kind],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def replica(kv_tokens: int) -> Replica:
    """Return the replica of both runs."""
    step = StepTime(6e-3 + 25e-6 * np.arange(257), 15e-9, 20e-6)
    return Replica(step, 256, kv_tokens, 2048, request_s=0.0156, prompt_token_s=46e-6)


def lengths(draws: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompt and output tokens."""
    prompt = draws.lognormal(np.log(400), 0.8, count).astype(np.int64) + 1
    return prompt, draws.lognormal(np.log(150), 0.8, count).astype(np.int64) + 1


def plain(count: int) -> tuple[Requests, Cluster]:
    """Poisson arrivals on equal replicas."""
    draws = np.random.default_rng(0)
    arrival = np.cumsum(draws.exponential(1 / RATE, count))
    prompt, output = lengths(draws, count)
    return Requests(arrival, prompt, output), Cluster((Pool(replica(600_000), REPLICAS, Router.POWER_OF_TWO),))


def full(count: int) -> tuple[Requests, Cluster]:
    """Shared prompts, prefix caches, preemption, and an autoscaler that follows a swinging rate."""
    draws = np.random.default_rng(0)
    swing = 1 + 0.5 * np.sin(np.linspace(0, 4 * np.pi, count))
    arrival = np.cumsum(draws.exponential(1, count) / (RATE * swing))
    prompt, output = lengths(draws, count)
    scaler = Autoscaler(target_load=100, maximum=REPLICAS, minimum=16, cold_start_s=60.0)
    pool = Pool(replica(70_000), REPLICAS, Router.PREFIX_AWARE, prefix_cache=True, autoscaler=scaler)
    return Requests(arrival, prompt, output, prefix=shared_texts(draws, prompt)), Cluster((pool,))


def shared_texts(draws: np.random.Generator, prompt: np.ndarray) -> PrefixBlocks:
    """Each prompt follows one of the texts for a share of its length, then goes its own way."""
    sizes = prompt // BLOCK
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    text = np.minimum(draws.zipf(1.3, len(prompt)), TEXTS)
    common = (draws.random(len(prompt)) * (sizes + 1)).astype(np.int64)
    hashes = np.arange(offsets[-1]) + 10**12
    for first in range(0, len(prompt), 50_000):
        rows = slice(first, min(first + 50_000, len(prompt)))
        owner = np.repeat(np.arange(rows.start, rows.stop), sizes[rows])
        depth = np.arange(offsets[rows.start], offsets[rows.stop]) - offsets[owner]
        shared = depth < common[owner]
        hashes[offsets[rows.start] : offsets[rows.stop]][shared] = (text[owner] * 10**6 + depth)[shared]
    return PrefixBlocks(offsets, hashes, BLOCK)


def main() -> None:
    """Time one run in this process."""
    make = {"plain": plain, "full": full}[sys.argv[1]]
    simulate(*make(1000))
    requests, cluster = make(REQUESTS)
    begun, used = time.perf_counter(), time.process_time()
    result = simulate(requests, cluster)
    report = {
        "seconds": round(time.perf_counter() - begun, 2),
        "cpu_seconds": round(time.process_time() - used, 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "requests": len(requests),
        "simulated_seconds": round(result.end_s),
        "engine_steps": int(result.steps.sum()),
        "preempted": int(result.preempted.sum()),
        "reused_token_share": round(float(result.reused_tokens.sum() / requests.prompt_tokens.sum()), 3),
        "replicas_lowest": int(result.scaling.active.min()) if len(result.scaling.active) else REPLICAS,
        "replicas_highest": int(result.scaling.active.max()) if len(result.scaling.active) else REPLICAS,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
