"""Advantages and token losses as pure functions.

Shape suffixes: G one group of samples of the same prompt, T tokens. Rewards of unscorable samples are NaN: they take no
part in the baseline and get advantage 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bessemer.core.lazy import Lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = Lazy("torch")


def _masked(reward_G: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    valid = reward_G.isfinite()
    filled = torch.where(valid, reward_G, torch.zeros_like(reward_G))
    return filled, valid, valid.sum().clamp(min=1)


def centred(reward_G: Tensor) -> Tensor:
    """r - mean(r) (Dr.GRPO, arXiv 2503.20783). A group of equal rewards gives exact zeros."""
    filled, valid, count = _masked(reward_G)
    if valid.any() and bool((reward_G[valid] == reward_G[valid][0]).all()):
        return torch.zeros_like(reward_G)
    return torch.where(valid, filled - filled.sum() / count, torch.zeros_like(filled))


def clipped(log_ratio_T: Tensor, advantage_T: Tensor, low: float = 0.2, high: float = 0.2) -> Tensor:
    """PPO's clipped surrogate per token: -min(ratio A, clip(ratio, 1 - low, 1 + high) A).

    high > low is clip-higher (DAPO, arXiv 2503.14476).
    """
    ratio = log_ratio_T.exp()
    return -torch.minimum(ratio * advantage_T, ratio.clamp(1 - low, 1 + high) * advantage_T)


def k3(difference: Tensor) -> Tensor:
    """e^-d - 1 + d: unbiased and never negative. A metric; its gradient is not KL's."""
    return torch.expm1(-difference) + difference


def completed(reward_K: Tensor, lowest: float = 0.0, highest: float = 1.0) -> Tensor:
    """Fill in rewards that nobody knows [..., K] (NaN) where what is known teaches nothing by comparison.

    A row whose only known rewards are the worst there is ("wrong") says: not these. Any other answer counts as the
    best, so that the expected reward is 1 - p(these) and its logarithm's loss the unlikelihood -log(1 - p) (Welleck et
    al. 2020, arXiv 1908.04319). A row whose only known rewards are the best says: these, and any other counts as the
    worst. All other rows are returned as they are.
    """
    valid = reward_K.isfinite()
    some = valid.any(-1, keepdim=True)
    wrong = some & (reward_K.masked_fill(~valid, lowest) <= lowest).all(-1, keepdim=True)
    right = some & (reward_K.masked_fill(~valid, highest) >= highest).all(-1, keepdim=True)
    filled = torch.where(wrong & ~valid, torch.full_like(reward_K, highest), reward_K)
    return torch.where(right & ~valid, torch.full_like(reward_K, lowest), filled)


def expected_reward_loss(
    logprob_K: Tensor, reward_K: Tensor, *, logarithm: bool, lowest: float = 0.0, highest: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Exact expected reward of an enumerable answer: p = softmax(logprob), J = sum p r.

    logprob_K [..., K], reward_K the same, NaN where there is no reward. `completed` fills in what a lone verdict says;
    where rewards differ, an unknown one counts as `lowest`: what is not known to be good must not be free. Returns
    (loss, J): loss is -J, or -log J with the rewards' scale [lowest, highest], the same for all rows, mapped to [0, 1].
    Small differences between rewards thus stay small. Rows whose rewards do not vary lose exactly 0.
    """
    reward = completed(reward_K, lowest, highest)
    valid = reward.isfinite()
    best = reward.masked_fill(~valid, float("-inf")).amax(-1)
    worst = reward.masked_fill(~valid, float("inf")).amin(-1)
    varies = (best > worst) & (valid.sum(-1) > 1)
    reward = torch.where(valid, reward, torch.full_like(reward, lowest))
    log_p = torch.log_softmax(logprob_K, dim=-1)
    expected = (log_p.exp() * reward).sum(-1)
    if logarithm:
        unit = ((reward - lowest) / (highest - lowest)).clamp(0, 1)
        floor = torch.full_like(unit, -1e30)
        loss = -torch.logsumexp(torch.where(unit > 0, log_p + unit.clamp(min=1e-30).log(), floor), dim=-1)
    else:
        loss = -expected
    return torch.where(varies, loss, torch.zeros_like(loss)), expected.detach()
