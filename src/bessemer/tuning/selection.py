"""Selection of the choice bias: a constant added to one label's log-probability, chosen on the validation split.

Rewards say how often a label is right, not how costly each mistake is: with 10 % positives a model that maximises
expected reward is too shy for F1. The bias moves the operating point without touching the weights.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Bias(NamedTuple):
    """The chosen bias per choice and the metric it reaches on the validation split."""

    values: tuple[float, ...]
    score: float


def mean_reward(logprobs: Array, rewards: Array) -> float:
    """Return the mean reward of each row's most probable choice: arrays [items, choices]; NaN rewards are left out."""
    picked = rewards[np.arange(len(rewards)), logprobs.argmax(axis=1)]
    return float(np.nanmean(picked)) if np.isfinite(picked).any() else float("nan")


def choose_f1_bias(logprobs: Array, rewards: Array, positive: int, *, resamples: int = 200, seed: int = 0) -> Bias:
    """Return the bias of the positive choice that maximises F1 on the validation items, smoothed by the bootstrap.

    `logprobs` and `rewards` are [items, choices]; an item is positive when its positive choice has the highest reward.
    The threshold that maximises the mean F1 over bootstrap resamples varies less from sample to sample than the one
    that maximises F1 itself. Without a positive item nothing can be chosen: zero bias.
    """
    others = np.delete(logprobs, positive, axis=1).max(axis=1)
    margin = logprobs[:, positive] - others
    truth = rewards[:, positive] >= np.nanmax(np.where(np.isnan(rewards), -np.inf, rewards), axis=1)
    zero = (0.0,) * logprobs.shape[1]
    if not truth.any():
        return Bias(zero, float("nan"))
    order = np.argsort(-margin, kind="stable")
    counts = np.random.default_rng(seed).multinomial(len(truth), np.full(len(truth), 1 / len(truth)), size=resamples)
    weights = counts[:, order].astype(np.float64)
    hits = weights * truth[order]
    # Answering positive on the k most likely items, for every k at once.
    f1 = 2 * hits.cumsum(axis=1) / np.maximum(weights.cumsum(axis=1) + hits.sum(axis=1, keepdims=True), 1e-12)
    best = int(f1.mean(axis=0).argmax())
    ranked = margin[order]
    below = ranked[best + 1] if best + 1 < len(ranked) else ranked[best] - 1.0
    threshold = (ranked[best] + below) / 2
    said = margin > threshold
    score = 2.0 * float((said & truth).sum()) / float(said.sum() + truth.sum())
    values = tuple(float(-threshold) if index == positive else 0.0 for index in range(logprobs.shape[1]))
    return Bias(values, score)
