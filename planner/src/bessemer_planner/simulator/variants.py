"""Quantised and speculative variants of a replica, as factors on its times, each with its source.

A factor is a shortcut for a deployment that was not predicted in its own right; where `performance` can predict the
precision asked for, its prediction is better. Speculation is folded into the mean: a step that yields `tokens_per_step`
tokens counts as that many short ones, so the spread between requests is not modelled.
"""

import msgspec
import numpy as np

from bessemer_planner.errors import PlannerError
from bessemer_planner.types import Replica, Source, StepTime


class Variant(msgspec.Struct, frozen=True):
    """Factors against the plain replica; 1 changes nothing."""

    name: str
    source: Source
    step: float = 1.0
    """Time of a decode step without its KV reads (drafting and verification included)."""
    tokens_per_step: float = 1.0
    """Tokens that a sequence gains in a decode step: the acceptance length of speculation."""
    kv_bytes: float = 1.0
    """Bytes of a cached token: reads take as much longer, and as many fewer tokens fit."""
    kv_value_bytes: float | None = None
    """Bytes that a cached value has under the variant, whatever the plain replica's; None: `kv_bytes` says it."""
    prefill: float = 1.0
    """Time per prompt token."""


EAGLE3 = Variant(
    "EAGLE-3, 3 draft tokens",
    Source("SemiAnalysisAI/InferenceX golden_al_distribution/minimaxm3_eagle3.yaml: coding, thinking on", "2026-06"),
    step=1.15,
    tokens_per_step=2.83,
)
"""The acceptance length is measured (MiniMax-M3 on B300 under vLLM); the step's 15 % for drafting is an assumption."""
MTP = Variant(
    "native multi-token prediction, 3 draft tokens",
    Source("SemiAnalysisAI/InferenceX golden_al_distribution/qwen3.827b_bf16_mtp.yaml: coding, thinking on", "2026-09"),
    step=1.15,
    tokens_per_step=2.52,
)
"""The acceptance length is measured (Qwen3.8-27B under vLLM); the step's 15 % is an assumption."""
FP8_KV = Variant("8-bit KV cache", Source("bytes per value: 1"), kv_value_bytes=1.0)
BF16_KV = Variant("16-bit KV cache", Source("bytes per value: 2"), kv_value_bytes=2.0)


def with_variant(replica: Replica, variant: Variant) -> Replica:
    """Return the replica under a variant. Raises `PlannerError` for factors that are not positive."""
    if min(variant.step, variant.tokens_per_step, variant.kv_bytes, variant.prefill) <= 0:
        raise PlannerError(f"variant {variant.name!r}: factors must be positive", param="variant")
    value_bytes = variant.kv_value_bytes or replica.kv_value_bytes * variant.kv_bytes
    kv_bytes = value_bytes / replica.kv_value_bytes
    step = replica.step
    return msgspec.structs.replace(
        replica,
        step=StepTime(
            decode_s=np.asarray(step.decode_s) * (variant.step / variant.tokens_per_step),
            kv_token_s=step.kv_token_s * kv_bytes / variant.tokens_per_step,
            prefill_token_s=step.prefill_token_s * variant.prefill,
            prefill_step_s=step.prefill_step_s,
            pair_s=step.pair_s,
        ),
        kv_tokens=int(replica.kv_tokens / kv_bytes),
        kv_value_bytes=value_bytes,
    )
