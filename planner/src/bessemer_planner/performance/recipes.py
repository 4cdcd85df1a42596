"""The two recipes that are calibrated: time per output token and time to first token.

The widths were chosen by held-out error over (model, GPU) groups and over whole GPUs, see
`docs/decisions/005-planner-performance.md`.
"""

import math

import numpy as np
from numpy.typing import NDArray

from bessemer_planner.performance.step import DECODE_TERMS, TERMS, decode_terms
from bessemer_planner.performance.structure import Level, Recipe, Tilt
from bessemer_planner.performance.work import prefill_terms
from bessemer_planner.types import Accelerator, Deployment, ModelShape

Array = NDArray[np.float64]

_START = {
    "weights": 1.3,
    "experts": 0.8,
    "kv": 1.3,
    "compute": 1.3,
    "attention": 1.3,
    "reduce": 1.3,
    "kernels": 2.5,
    "step": 0.25,
    "requests": 20.0,
    "expert_kernels": 0.4,
    "collectives": 0.8,
    "prefill": 1.3,
    "prefill_attention": 1.3,
    "prefill_reduce": 1.3,
}
"""Nominal distance from the peaks and the tables: 77 % of peak rates, 2.5 microseconds a kernel inside a graph, 0.25 ms
a step and 20 us a sequence on the host. An engine's experts are part reads at the peak, part the measured kernel (of an
eager loop, with its launches)."""
_DRAFT_GAIN = 1.4
"""Nominal gain of draft tokens: near 2.8 tokens of three drafts are accepted (SemiAnalysisAI/InferenceX,
golden_al_distribution) by a step of about twice the work."""
_DRAFT_OUTPUT = 1024.0
"""Output tokens at which the nominal gain applies."""

_FIRST_START = {"own": 1.1, "burst": 0.1, "step": 1.0, "fixed": 15.0, "tokens": 10.0, "clients": 0.3, "wait": 1.0}
"""The own prompt and the step in its way take what the calibration of time per token says; a tenth of the prompts meets
all others at once (the first wave of a run, ten times as long). Milliseconds a request and a client, microseconds a
token: the front end, of BLIS' order (15.6 ms, 46 us)."""
FIRST_TERMS = tuple(_FIRST_START)

TPOT = Recipe(
    terms=TERMS,
    groups={
        "weights": "read",
        "experts": "read",
        "kv": "kv",
        "attention": "kv",
        "compute": "compute",
        "prefill": "compute",
        "prefill_attention": "compute",
        "reduce": "exchange",
        "prefill_reduce": "exchange",
        "kernels": "overhead",
        "collectives": "overhead",
        "expert_kernels": "read",
        "step": "host",
        "requests": "host",
    },
    start=tuple(math.log(_START[term]) for term in TERMS),
    levels=(
        Level("architecture", 0.14),
        Level("engine", 0.30, whole=True),
        Level("engine_attention", 0.30, whole=True),
        Level("engine_attention_architecture", 0.30, whole=True),
        Level("engine_model", 0.40),
        Level("mixture", 0.60),
        Level("model_parallel", 0.08, whole=True),
        Level("month", 0.60, whole=True),
        Level("engine_precision", 0.30, whole=True),
        Level("version_model", 0.46, whole=True),
        Level("version_model", 0.35),
    ),
    noise=0.3,
    base_width=0.20,
    base_widths={"step": 0.7, "kernels": 0.4},
    tilts=(
        Tilt("gemm", "weights", 0.80),
        Tilt("draft", "decode", 0.40),
        Tilt("draft_length", "decode", 0.20),
    ),
    spans={"decode": DECODE_TERMS},
)
"""Device work (kernels, collectives) and host work (the step's scheduling, sequences) deviate apart. Draft tokens
shorten the decode terms alone (`shortened_by_drafts`): how much is learned, and how that changes with the output."""

_FRONT = ("own", "host", "step")

TTFT = Recipe(
    terms=FIRST_TERMS,
    groups={
        "own": "own",
        "burst": "own",
        "step": "step",
        "fixed": "host",
        "tokens": "host",
        "clients": "host",
        "wait": "wait",
    },
    start=tuple(math.log(value) for value in _FIRST_START.values()),
    levels=(
        Level("engine", 0.40, only=_FRONT),
        Level("architecture", 0.40, only=("front",)),
        Level("version_model", 0.40, only=("clients",)),
        Level("parallel", 0.40, only=("clients",)),
    ),
    noise=0.3,
    base_width=0.7,
    base_widths={"own": 0.3, "step": 0.5, "burst": 1.0, "wait": 0.05},
    spans={"front": ("own", "burst", "step", "fixed", "tokens", "clients")},
)
"""Weights' format appears nowhere but in the work itself, and the wait for a place is arithmetic. Levels were chosen
one by one, by cross-validation by group on the rows outside the outer split: `docs/decisions/034-planner-nested.md`."""


def token_terms(
    deployment: Deployment, shape: ModelShape, accelerator: Accelerator, isl: float, osl: float, batch: Array
) -> Array:
    """Return [n, TERMS] peak seconds per output token with `batch` sequences in flight: mean field.

    Each step decodes all of them at their mean context and prefills the `batch * isl / osl` prompt tokens that
    replace what was finished.
    """
    decode = decode_terms(deployment, shape, accelerator, batch, np.full_like(batch, isl + osl / 2.0))
    prompt = batch * isl / osl
    prefill = prefill_terms(deployment, shape, accelerator, prompt, prompt * isl / 2.0)
    return np.concatenate([decode, prefill], axis=1)


def shortened_by_drafts(terms: Array, tilts: dict[str, float], osl: float) -> tuple[Array, dict[str, float]]:
    """Return the terms [n, TERMS] and tilts of a run that verifies draft tokens, from those of one that does not.

    A step costs more and yields several tokens; prompts are computed as ever.
    """
    shorter = terms.copy()
    shorter[:, : len(DECODE_TERMS)] /= _DRAFT_GAIN
    return shorter, tilts | {"draft": 1.0, "draft_length": math.log(osl / _DRAFT_OUTPUT)}


def first_terms(own: Array, per_token: Array, isl: Array, osl: Array, batch: Array, concurrency: Array) -> Array:
    """Return [n, FIRST_TERMS] seconds to the first token: own prompt, the prompts ahead, the step in the way.

    `own` [n, PREFILL_TERMS] of one whole prompt and `per_token` [n, TERMS] of an output token are seconds that the
    calibration of time per token expects. `concurrency` clients beyond the `batch` in flight wait for a place.
    """
    prompt = own.sum(axis=1)
    columns = (
        prompt,
        prompt * batch,
        per_token[:, : len(DECODE_TERMS)].sum(axis=1),
        np.full_like(batch, 1e-3),
        1e-6 * isl,
        1e-3 * batch,
        np.maximum(0.0, concurrency - batch) / batch * osl * per_token.sum(axis=1),
    )
    return np.stack(columns, axis=1)


def own_prompt(deployment: Deployment, shape: ModelShape, accelerator: Accelerator, isl: float) -> Array:
    """Return [PREFILL_TERMS] peak seconds of one whole prompt."""
    found: Array = prefill_terms(deployment, shape, accelerator, np.array([isl]), np.array([isl**2 / 2.0]))[0]
    return found
