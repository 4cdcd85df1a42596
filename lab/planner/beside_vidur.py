"""Our simulator's CPU time beside Vidur's (microsoft/vidur) on the same trace at the same scale.

Vidur's checkout must hold a compute profile for Meta-Llama-3-8B on A100. Where its attention profile is missing (the
file is large and not in every copy), one is written from a formula: speed does not depend on its values, and
nothing but speed is compared. Vidur fits its step-time model before it starts; that is not timed.
"""

import csv
import json
import os
import subprocess
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bessemer_planner.simulator import Requests, simulate
from lab.planner import simulator

REQUESTS = 10_000
REPEATS = 20
"""Runs of ours that the time is the mean of: one takes milliseconds."""
OPERATORS = ("attn_input_reshape", "attn_kv_cache_save", "attn_prefill", "attn_decode", "attn_output_reshape")
PROFILE = "data/profiling/compute/a100/meta-llama/Meta-Llama-3-8B/attention.csv"


def measure(checkout: Path | None, python: Path | None) -> dict[str, Any]:
    """Return both times; None unless a checkout and an interpreter are given."""
    found = None if checkout is None or python is None else _timed(checkout, python)
    return {"vidur_ratio": None if found is None else found["ratio"], "vidur": found}


def _timed(checkout: Path, python: Path) -> dict[str, Any] | None:
    """Return both CPU times and their ratio; None when Vidur did not run."""
    profile = checkout / PROFILE
    note = profile.with_suffix(".from_formula")
    if not profile.exists():
        write_profile(profile)
        note.touch()
    requests, cluster = simulator.plain(REQUESTS)
    prompt, output = np.minimum(requests.prompt_tokens, 4000), np.minimum(requests.output_tokens, 2000)
    requests = Requests(requests.arrival_s, prompt, output)
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.csv"
        rows = zip(requests.arrival_s.tolist(), prompt.tolist(), output.tolist(), strict=True)
        with trace.open("w", newline="") as stream:
            csv.writer(stream).writerows([("arrived_at", "num_prefill_tokens", "num_decode_tokens"), *rows])
        done = subprocess.run(
            [python, Path(__file__).with_name("run_vidur.py"), str(trace), str(simulator.REPLICAS)],
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": str(checkout), "WANDB_MODE": "disabled"},
            capture_output=True,
            check=False,
            text=True,
        )
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not found:
        return None
    theirs = json.loads(found[0].removeprefix("RESULT "))["cpu_seconds"]
    simulate(requests, cluster)
    begun = time.process_time()
    for _ in range(REPEATS):
        simulate(requests, cluster)
    ours = (time.process_time() - begun) / REPEATS
    return {
        "requests": REQUESTS,
        "replicas": simulator.REPLICAS,
        "vidur_cpu_seconds": round(theirs, 2),
        "cpu_seconds": round(ours, 4),
        "ratio": round(theirs / ours),
        "attention_profile_from_a_formula": note.exists(),
    }


def write_profile(path: Path) -> None:
    """Write an attention profile of plausible shape; milliseconds."""
    head = ["n_embd", "n_q_head", "n_kv_head", "block_size", "num_tensor_parallel_workers", "max_model_len"]
    head += ["batch_size", "prefill_chunk_size", "kv_cache_size", "is_prefill", "attention_backend"]
    head += [f"time_stats.{name}.{kind}" for name in OPERATORS for kind in ("min", "max", "mean", "median", "std")]
    decode = product((1, 2, 4, 8, 16, 32, 64, 128, 256), (0,), (64, 256, 1024, 4096))
    prefill = product((1,), (16, 64, 256, 1024, 4096), (0, 256, 1024, 4096))
    with path.open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(head)
        for batch, chunk, held in (*decode, *prefill):
            times = dict.fromkeys(OPERATORS, 0.005)
            times["attn_prefill"] += chunk * (held + chunk / 2) * 8e-9
            times["attn_decode"] += 0 if chunk else batch * held * 2.5e-6
            stats = [times[name] for name in OPERATORS for _ in range(5)]
            lines.writerow([4096, 32, 8, 16, 1, 4096, batch, chunk, held, bool(chunk), "FLASHINFER", *stats])
