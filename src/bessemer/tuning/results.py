"""What a fine-tuning job says of itself: how far it is, and in the end what it made."""

from bessemer.core.types import Frozen
from bessemer.tuning.comparison import CheckpointComparison


class FineTuningProgress(Frozen, frozen=True):
    """How far a job is, at the pace so far."""

    estimated_finish: int | None
    """Unix seconds."""
    share_done: float
    compute_seconds: float
    cost_usd: float | None
    """Of these seconds at the model's hourly price; None without one."""


class FineTuningResult(Frozen, frozen=True):
    """The version that a job made, and how it compares with its start."""

    fine_tuned_model: str | None
    version: str
    result_files: tuple[str, ...]
    trained_tokens: int
    choice_bias: tuple[float, ...]
    field_threshold: float
    best_step: int | None
    """0: no checkpoint scored above the start."""
    best_score: float | None
    start_score: float | None
    comparison: CheckpointComparison | None
    """The chosen checkpoint against the start, paired by row."""
    warnings: tuple[str, ...]
    compute_seconds: float
    cost_usd: float | None
