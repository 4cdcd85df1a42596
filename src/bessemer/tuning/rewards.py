"""Rewards as tensors: which are known, which nobody knows, on which the grader failed.

Shape suffixes: R rows or groups, K choices or samples of one. NaN: no reward.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from bessemer.core.errors import TuningError
from bessemer.core.lazy import Lazy
from bessemer.evals.grader import Failure
from bessemer.feedback.rows import TrainingRow
from bessemer.tuning.spec import RewardFunction, RewardValue

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = Lazy("torch")


class Rewards(NamedTuple):
    """Rewards of some answers."""

    reward: Tensor
    failed: Tensor
    """Where the grader failed; a reward that is missing elsewhere is one that nobody knows."""
    failure: Failure | None
    """The most frequent one."""

    def check(self, most: float) -> None:
        """Raise TuningError with the failure's own code when the grader failed on a larger share than `most`."""
        share = float(self.failed.float().mean()) if self.failed.numel() else 0.0
        if share > most and self.failure is not None:
            raise ungraded(self.failure, share)


def ungraded(failure: Failure, share: float) -> TuningError:
    """Return the error of a run whose grader failed on a share of the answers: its code is the failure's."""
    return TuningError(
        f"{share:.0%} of the answers could not be graded: {failure.message}. Mend that and start anew.",
        code=failure.code,
    )


def graded(scores: Sequence[RewardValue]) -> Rewards:
    """Return scores as tensors."""
    failures = [score for score in scores if isinstance(score, Failure)]
    common = Counter(failures).most_common(1)
    return Rewards(
        torch.tensor([number(score) for score in scores]),
        torch.tensor([isinstance(score, Failure) for score in scores], dtype=torch.bool),
        common[0][0] if common else None,
    )


def number(score: RewardValue) -> float:
    """Return a reward, NaN where there is none."""
    return float("nan") if score is None or isinstance(score, Failure) else float(score)


def numbers(rewards: Tensor) -> tuple[float | None, ...]:
    """Return rewards [n] as numbers, None where there is none."""
    return tuple(None if math.isnan(value) else value for value in rewards.tolist())


@dataclass
class ChoiceRewards:
    """Rewards of every choice of every row, asked for until the grader has not failed on any. NaN: no reward."""

    values: Tensor
    """[rows, choices]."""
    known: Tensor = field(init=False)
    """[rows]: asked for without a failure."""
    failed: Tensor = field(init=False)
    failure: Failure | None = None

    def __post_init__(self) -> None:
        self.known = torch.zeros(len(self.values), dtype=torch.bool)
        self.failed = torch.zeros_like(self.values, dtype=torch.bool)

    @property
    def lowest(self) -> float:
        """The lowest reward there is: 0, or less when it was seen."""
        return min(0.0, float(self.values.nan_to_num(0.0).min())) if self.values.numel() else 0.0

    @property
    def highest(self) -> float:
        """The highest reward there is: 1, or more when it was seen."""
        return max(1.0, float(self.values.nan_to_num(0.0).max())) if self.values.numel() else 1.0

    def of(
        self, indices: Sequence[int], rows: Sequence[TrainingRow], choices: Sequence[str], reward: RewardFunction
    ) -> Rewards:
        """Return those of some rows [len(indices), choices]."""
        new = [i for i in dict.fromkeys(indices) if not self.known[i]]
        if new:
            found = graded(reward([(rows[i].item, choice) for i in new for choice in choices]))
            shape = (len(new), len(choices))
            self.values[new] = found.reward.view(shape)
            # A grader may have been down for a moment: what it failed on is asked again the next time.
            self.failed[new] = found.failed.view(shape)
            self.known[new] = ~self.failed[new].any(-1)
            self.failure = found.failure or self.failure
        return Rewards(self.values[list(indices)], self.failed[list(indices)], self.failure)


def varying(reward_RK: Tensor) -> Tensor:
    """Return which groups carry a signal: at least two scorable rewards that are not exactly equal."""
    valid = reward_RK.isfinite()
    highest = reward_RK.masked_fill(~valid, -torch.inf).amax(-1)
    lowest = reward_RK.masked_fill(~valid, torch.inf).amin(-1)
    return (highest > lowest) & (valid.sum(-1) > 1)


def reward_metrics(reward_RK: Tensor, failed_RK: Tensor) -> dict[str, float]:
    """Return shares (0 to 1): of groups whose rewards are all 0, all 1, mixed; of unscorable rewards, of failures."""
    valid = reward_RK.isfinite()
    some = valid.any(-1)
    groups = max(len(reward_RK), 1)

    def share(value: float) -> float:
        return float((((reward_RK == value) | ~valid).all(-1) & some).sum()) / groups

    return {
        "reward_all_zero_share": share(0.0),
        "reward_all_one_share": share(1.0),
        "reward_mixed_share": float(varying(reward_RK).sum()) / groups,
        "unscorable": float((~valid).float().mean()) if valid.numel() else 0.0,
        "grader_failures": float(failed_RK.float().mean()) if failed_RK.numel() else 0.0,
    }
