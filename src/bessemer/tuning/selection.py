"""Selection of the choice bias: a constant added to one label's log-probability, chosen on the validation split.

Rewards say how often a label is right, not how costly each mistake is: with 10 % positives a model that maximises
expected reward is too shy for F1. The bias moves the operating point without touching the weights.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bessemer.evals.confidence import platt
from bessemer.evals.metrics import Terms, label_terms, mean_terms
from bessemer.tuning.spec import Validation

Array = npt.NDArray[np.float64]


class CheckpointScorer:
    """What checkpoints are compared by: here, the score that the method gave them."""

    def score(self, validation: Validation) -> float | None:
        """Return the score of an evaluation, higher is better; None: nothing can be said."""
        return validation.score

    def choice_bias(self, validation: Validation) -> tuple[float, ...]:
        """Return the bias that the score was reached with; none: ()."""
        del validation
        return ()

    def terms(self, validation: Validation, side: int) -> list[Terms | None]:
        """Return what each row contributes; `side`: of its bounds (0 the lowest), where it has some."""
        if validation.row_bounds:
            return [None if bounds is None else mean_terms(bounds[side]) for bounds in validation.row_bounds]
        return [None if score is None else mean_terms(score) for score in validation.row_scores]


class F1Scorer(CheckpointScorer):
    """F1 of one of the choices, at the bias that is best for it."""

    def __init__(self, choices: tuple[str, ...], positive: str | None) -> None:
        """`positive`: None is the first."""
        self._choices = choices
        self._positive = 0 if positive is None else choices.index(positive)

    def score(self, validation: Validation) -> float:
        """See `CheckpointScorer`."""
        return choose_f1_bias(*_arrays(validation), self._positive).score

    def choice_bias(self, validation: Validation) -> tuple[float, ...]:
        """See `CheckpointScorer`."""
        return choose_f1_bias(*_arrays(validation), self._positive).values

    def terms(self, validation: Validation, side: int) -> list[Terms | None]:
        """See `CheckpointScorer`."""
        del side
        logprobs, rewards = _arrays(validation)
        picks = (logprobs + np.array(self.choice_bias(validation))).argmax(axis=1)
        positive = self._choices[self._positive]
        return [
            None
            if np.isnan(row).any()
            else label_terms(self._choices[pick], self._choices[int(row.argmax())], positive)
            for pick, row in zip(picks, rewards, strict=True)
        ]


def _arrays(validation: Validation) -> tuple[Array, Array]:
    logprobs = np.array(validation.logprobs, dtype=np.float64)
    rewards = np.array(
        [[np.nan if r is None else r for r in row] for row in validation.rewards or ()], dtype=np.float64
    )
    return logprobs, rewards


class Bias(NamedTuple):
    """The chosen bias per choice, and the F1 that is expected with it."""

    values: tuple[float, ...]
    score: float


def choose_f1_bias(logprobs: Array, rewards: Array, positive: int) -> Bias:
    """Return the bias of the positive choice that maximises the expected F1, and that F1.

    `logprobs` and `rewards` are [items, choices], NaN: no reward; an item is positive when its positive choice has the
    highest reward. Items whose positive choice has no reward, or whose rewards are all equal, are left out.
    With a few dozen positive items the threshold of the highest observed F1 follows single items. So the margins are
    first calibrated (`platt`), and the threshold maximises F1 as the probabilities p expect it,
    2 sum(p of the answered) / (answered + sum p): about half of the best F1 (Lipton, Elkan & Naryanaswamy 2014,
    arXiv 1402.1892). Without a positive item nothing can be chosen: zero bias.
    """
    known = ~np.isnan(rewards)
    highest = np.where(known, rewards, -np.inf).max(axis=1, initial=-np.inf)
    told = known[:, positive] & (np.where(known, rewards, np.inf).min(axis=1, initial=np.inf) < highest)
    others = np.delete(logprobs, positive, axis=1).max(axis=1, initial=-np.inf)
    margin = (logprobs[:, positive] - others)[told]
    truth = (rewards[:, positive] >= highest)[told]
    if not truth.any():
        return Bias((0.0,) * logprobs.shape[1], float("nan"))
    slope, offset = platt(margin, truth)
    p = np.sort(_sigmoid(slope * margin + offset))[::-1]
    f1 = 2 * p.cumsum() / (np.arange(1, len(p) + 1) + p.sum())
    score = float(f1.max())
    threshold = (np.log(score / 2) - np.log1p(-score / 2) - offset) / slope
    values = tuple(float(-threshold) if index == positive else 0.0 for index in range(logprobs.shape[1]))
    return Bias(values, score)


def _sigmoid(z: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))
