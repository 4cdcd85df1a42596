"""Where a run stands, and what follows from it: its share done, its learning rate, how often it is evaluated.

A time limit holds training and evaluation together. A tenth of it at most goes to evaluation and is set aside at the
start, so that the share done, and the learning rate with it, follow training time alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from bessemer.tuning.spec import TuneSpec, Validation

_EVALUATION_SHARE = 0.1
_FEWEST_ROWS = 8
_FEWEST_LOOKS = 2


_FIRST_LOSSES, _LAST_LOSSES = 1, 5
"""Training losses that are compared where there are no validation rows."""
_WHY_SILENT = {
    "reward_all_zero_share": (
        "{:.0%} of the groups of answers earned nothing throughout",
        "start from a version that is right now and then (a supervised job on some demonstrations), or let the grader "
        "pay for a part of an answer",
    ),
    "reward_all_one_share": ("{:.0%} earned full marks throughout", "use harder rows"),
    "unscorable": ("{:.0%} of the rewards are not known", "check that the rows have the fields which the grader reads"),
}
"""Metrics of a step without a signal: what they mean, and what helps where they are the largest."""
SILENCE = frozenset(_WHY_SILENT)


class TuningState(msgspec.Struct, kw_only=True):
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


def with_loss(losses: Sequence[float], loss: float) -> list[float]:
    """Return the training losses that are kept for `divergence`, with one more."""
    kept = [*losses, loss]
    return kept[:_FIRST_LOSSES] + kept[_FIRST_LOSSES:][-_LAST_LOSSES:]


def divergence(validation: Validation | None, start: Validation | None, losses: Sequence[float]) -> str | None:
    """Return in what way given answers (nats per token) became far less likely than at the start; None: they did not.

    By the validation losses, of a run without any by its own training losses.
    """
    before = None if start is None else start.loss
    first, last = losses[:_FIRST_LOSSES], losses[_FIRST_LOSSES:]
    if validation is not None and validation.loss is not None and before is not None:
        if validation.loss > 1.5 * before + 0.5:  # no training explains it
            return f"The validation loss is {validation.loss:.3g}; it was {before:.3g} at the start"
    elif before is None and len(last) == _LAST_LOSSES and sorted(last)[_LAST_LOSSES // 2] > 3 * max(first) + 2:
        return f"The training loss is {sorted(last)[_LAST_LOSSES // 2]:.3g}; it began with {max(first):.3g}"
    return None


def why_silent(progress: TuningState) -> tuple[str, str]:
    """Return why the steps of a run had nothing to learn from, and what helps."""
    steps = max(progress.step, 1)
    shares = {name: total / steps for name, total in progress.seen.items()}
    found = ", ".join(_WHY_SILENT[name][0].format(share) for name, share in shares.items() if share >= 0.005)
    if found:
        return found, _WHY_SILENT[max(shares, key=shares.__getitem__)][1]
    if shares:
        return "the rewards of each group are equal", "use a grader that tells its answers apart"
    return "no row had a weight", "check the rows' weights"
