"""Verdicts alone, more than two labels: training moves towards what is right, measured where all truths are known.

A linear softmax policy with an inexact logger: each row shows one answer, right with 40 %, and a verdict on it. Three
ways to learn from a row are compared on fresh rows: `dropped` (wrong verdicts are left out), `free` (the probability is
normalised over what was judged), and the product's.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bessemer.tuning.losses import expected_reward_loss

NAN = float("nan")
Loss = Callable[[Tensor, Tensor], Tensor]


def problem(k: int, rows: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs around one centre per label, the truth, and the logged answer: right with 40 %, else any other."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(k, 24, generator=torch.Generator().manual_seed(7))
    truth = torch.randint(k, (rows,), generator=generator)
    inputs = centres[truth] + 0.8 * torch.randn(rows, 24, generator=generator)
    other = (truth + torch.randint(1, k, (rows,), generator=generator)) % k
    right = torch.rand(rows, generator=generator) < 0.4
    return inputs, truth, torch.where(right, truth, other)


def verdicts(truth: Tensor, answer: Tensor, k: int) -> Tensor:
    """What the feedback grader says of each choice [rows, k]: all of a right answer's row, one of a wrong one's."""
    rewards = torch.full((len(truth), k), NAN)
    right = truth == answer
    rewards[right] = torch.nn.functional.one_hot(truth[right], k).float()
    rewards[~right, answer[~right]] = 0.0
    return rewards


def ours(logprob: Tensor, reward: Tensor) -> Tensor:
    return expected_reward_loss(logprob, reward, logarithm=True)[0].mean()


def dropped(logprob: Tensor, reward: Tensor) -> Tensor:
    kept = reward.isfinite().all(-1)
    return expected_reward_loss(logprob[kept], reward[kept], logarithm=True)[0].sum() / len(reward)


def learned(loss: Loss, k: int, rows: int) -> tuple[float, float]:
    """Train; return accuracy on fresh rows, and the mean probability of what was called wrong."""
    inputs, truth, answer = problem(k, rows, 0)
    rewards = verdicts(truth, answer, k)
    weight = torch.zeros(24, k, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.08)
    for _ in range(80):
        optimizer.zero_grad()
        value = loss(torch.log_softmax(inputs @ weight, -1), rewards) + 1e-3 * weight.square().sum()
        value.backward()
        optimizer.step()
    fresh, right, _ = problem(k, 1000, 1)
    accuracy = float(((fresh @ weight).argmax(-1) == right).float().mean())
    wrong = answer != truth
    p = torch.softmax(inputs[wrong] @ weight, -1).gather(1, answer[wrong][:, None])
    return accuracy, float(p.detach().mean())


@pytest.mark.parametrize("k", [15, 77])
def test_wrong_verdicts_move_training_in_the_right_direction(k: int) -> None:
    with_wrong, called_wrong = learned(ours, k, 10 * k)
    without, _ = learned(dropped, k, 10 * k)
    assert with_wrong > 0.8
    assert with_wrong >= without - 0.01
    assert called_wrong < 1 / k


def test_wrong_verdicts_alone_teach() -> None:
    """Nothing right was ever shown: the labels are found by what they are not."""
    k = 15

    def only_wrong(logprob: Tensor, reward: Tensor) -> Tensor:
        open_ = ~reward.isfinite().all(-1)
        return ours(logprob[open_], reward[open_])

    accuracy, called_wrong = learned(only_wrong, k, 100 * k)
    assert accuracy > 3 / k
    assert called_wrong < 0.5 / k
