"""Where a run stands, and what follows from it: its share done, its learning rate, how often it is evaluated.

A time limit holds training and evaluation together. A tenth of it at most goes to evaluation and is set aside at the
start, so that the share done, and the learning rate with it, follow training time alone.
"""

from typing import NamedTuple

import msgspec

from bessemer.tuning.spec import TuneSpec, Validation

_EVALUATION_SHARE = 0.1
_FEWEST_ROWS = 8
_FEWEST_LOOKS = 2


class Progress(msgspec.Struct, kw_only=True):
    """Saved with the tensors."""

    step: int = 0
    epoch: int = 0
    cursor: int = 0
    """Rows of the epoch's order that are behind."""
    seconds: float = 0.0
    """Spent in optimizer steps, over all restarts."""
    evaluation_seconds: float = 0.0
    longest_evaluation: float = 0.0
    """Seconds of the longest one."""
    evaluated: int = 0
    """Evaluations that were due so far."""
    rate_factor: float = 1.0
    """Halved after a roll-back."""
    rolled_back: bool = False
    silent: int = 0
    """Steps in a row without a signal."""
    learned: bool = False
    """Some step had a signal."""
    seen: dict[str, float] = msgspec.field(default_factory=dict)
    """Sums of some shares over all steps, to say why nothing was learned."""
    losses: list[float] = msgspec.field(default_factory=list)
    """Of the first and of the last few steps."""
    finished: bool = False


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What is known before the first step, and settled for the whole run."""

    validation: Validation
    """Of the model that the run starts from."""
    rows: tuple[int, ...]
    """Validation rows that every evaluation reads."""
    evaluations: int
    """After the start's."""
    seconds: float
    """Of one evaluation."""


class Looks(NamedTuple):
    """How much is evaluated."""

    rows: int
    evaluations: int
    """After the start's."""


def plan_looks(rows: int, evaluations: int, affordable: float) -> Looks:
    """Return how many rows and evaluations fit when `affordable` rows can be scored in all, the start's included.

    Fewer evaluations first, down to two; then fewer rows.
    """
    if affordable >= rows * (evaluations + 1):
        return Looks(rows, evaluations)
    fewer = min(evaluations, max(_FEWEST_LOOKS, int(affordable // rows) - 1))
    return Looks(min(rows, max(_FEWEST_ROWS, int(affordable // (fewer + 1)))), fewer)


def evaluation_budget(spec: TuneSpec) -> float:
    """Return the seconds that a time limit leaves for evaluation."""
    return _EVALUATION_SHARE * spec.max_seconds if spec.max_seconds else float("inf")


def training_seconds(spec: TuneSpec, start: Start | None) -> float:
    """Return the seconds that a time limit leaves for training."""
    if spec.max_seconds is None:
        return float("inf")
    if start is None:
        return spec.max_seconds
    return spec.max_seconds - min(evaluation_budget(spec), start.seconds * (start.evaluations + 1))


def diverged(loss: float, start: float) -> bool:
    """Return whether a validation loss (nats per token) lies so far above the start's that no training explains it."""
    return loss > 1.5 * start + 0.5
