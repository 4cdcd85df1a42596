"""Golden vectors of advantages and losses, and their invariants."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import tensor

from bessemer.tuning import losses

L1, L2 = tensor([0.1, 0.25, -0.3]), tensor([0.5, -0.5])
LOG_RATIO = torch.cat([L1, L2])
ADVANTAGE = tensor([1.0, 1.0, 1.0, -1.0, -1.0])
SEQUENCE = tensor([0, 0, 0, 1, 1])
NAN = float("nan")


def assert_close(actual: torch.Tensor, expected: list[float] | float) -> None:
    torch.testing.assert_close(actual, tensor(expected), atol=2e-6, rtol=1e-5)


def test_advantages() -> None:
    assert_close(losses.centred(tensor([1.0, 0, 0, 1])), [0.5, -0.5, -0.5, 0.5])
    assert_close(losses.centred(tensor([1.0, 0, 0, 0])), [0.75, -0.25, -0.25, -0.25])


def test_unscorable_samples_leave_the_baseline() -> None:
    assert_close(losses.centred(tensor([1.0, NAN, 0.0])), [0.5, 0.0, -0.5])
    assert_close(losses.centred(tensor([NAN, NAN])), [0.0, 0.0])


@given(st.floats(-10, 10, allow_subnormal=False), st.integers(1, 16))
def test_equal_rewards_have_exactly_zero_advantage(reward: float, count: int) -> None:
    group = torch.full((count,), reward)
    assert torch.equal(losses.centred(group), torch.zeros(count))


def test_the_clipped_surrogate() -> None:
    assert_close(losses.clipped(LOG_RATIO, ADVANTAGE), [-1.105171, -1.2, -0.740818, 1.648721, 0.8])
    assert_close(losses.clipped(LOG_RATIO, ADVANTAGE, high=0.28).mean(), -0.135454)


def test_k3() -> None:
    assert_close(losses.k3(tensor([0.5, -0.5])), [0.106531, 0.148721])


@given(st.lists(st.tuples(st.floats(-8, 0), st.floats(0, 1)), min_size=2, max_size=6))
def test_exact_gradient_is_the_policy_gradient(pairs: list[tuple[float, float]]) -> None:
    """d J / d s_y = p_y (r_y - J)."""
    logprob = tensor([s for s, _ in pairs], requires_grad=True)
    reward = tensor([r for _, r in pairs])
    loss, expected = losses.expected_reward_loss(logprob, reward, logarithm=False)
    loss.backward()
    p = torch.softmax(logprob.detach(), -1)
    if len(set(reward.tolist())) == 1:
        assert torch.equal(logprob.grad, torch.zeros_like(p))
    else:
        torch.testing.assert_close(logprob.grad, -p * (reward - (p * reward).sum()), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(expected, (p * reward).sum())


def test_log_reward_is_cross_entropy_for_one_right_answer_and_does_not_vanish() -> None:
    logprob = tensor([-20.0, -1e-6], requires_grad=True)
    reward = tensor([1.0, 0.0])
    loss, _ = losses.expected_reward_loss(logprob, reward, logarithm=True)
    loss.backward()
    assert loss.item() == pytest.approx(-torch.log_softmax(logprob.detach(), -1)[0].item())
    assert float(logprob.grad[0]) == pytest.approx(-1.0, abs=1e-3)
    flat, _ = losses.expected_reward_loss(logprob, reward, logarithm=False)
    logprob.grad = None
    flat.backward()
    assert abs(float(logprob.grad[0])) < 1e-6


@given(st.floats(-5, 5), st.floats(0.1, 10))
def test_log_reward_ignores_shift_and_scale_of_all_rewards(shift: float, scale: float) -> None:
    logprob, reward = tensor([-1.0, -2.0, -0.5]), tensor([0.0, 1.0, 0.25])
    one, _ = losses.expected_reward_loss(logprob, reward, logarithm=True)
    two, _ = losses.expected_reward_loss(
        logprob, reward * scale + shift, logarithm=True, lowest=shift, highest=scale + shift
    )
    assert math.isclose(one.item(), two.item(), rel_tol=1e-3)


def gradient(logprob: list[float], reward: list[float], *, logarithm: bool = True) -> tuple[float, list[float]]:
    at = tensor(logprob, requires_grad=True)
    loss, _ = losses.expected_reward_loss(at, tensor(reward), logarithm=logarithm)
    loss.backward()
    return loss.item(), at.grad.tolist()


def test_a_judges_near_ties_are_no_full_signal() -> None:
    """d/ds -log J = -p (r - J) / J: 0.49 against 0.51 is a fiftieth of nothing against all."""
    even = [math.log(1 / 3)] * 3
    _, ties = gradient(even, [0.49, 0.51, 0.49])
    _, all_or_nothing = gradient(even, [0.0, 1.0, 0.0])
    j = (0.49 * 2 + 0.51) / 3
    assert ties == pytest.approx([-(r - j) / j / 3 for r in (0.49, 0.51, 0.49)], abs=1e-5)
    assert all_or_nothing == pytest.approx([1 / 3, -2 / 3, 1 / 3], abs=1e-5)
    assert abs(ties[1]) < 0.05 * abs(all_or_nothing[1])


def test_wrong_teaches_the_unlikelihood_of_that_answer() -> None:
    """p = (.5, .3, .2), the first is wrong: -log(1 - p), whose gradient p (on it) and -p q / (1 - p) (others)."""
    p = [0.5, 0.3, 0.2]
    loss, slope = gradient([math.log(x) for x in p], [0.0, NAN, NAN])
    assert loss == pytest.approx(-math.log(0.5))
    assert slope == pytest.approx([0.5, -0.3, -0.2], abs=1e-5)
    loss, slope = gradient([math.log(x) for x in p], [0.0, NAN, NAN], logarithm=False)
    assert loss == pytest.approx(-0.5)
    assert slope == pytest.approx([0.25, -0.15, -0.1], abs=1e-5)


def test_right_teaches_the_likelihood_of_that_answer_though_nobody_knows_the_others() -> None:
    p = [0.5, 0.3, 0.2]
    loss, slope = gradient([math.log(x) for x in p], [NAN, 1.0, NAN])
    assert loss == pytest.approx(-math.log(0.3))
    assert slope == pytest.approx([0.5, -0.7, 0.2], abs=1e-5)


def test_an_unknown_choice_is_not_free() -> None:
    """p(unknown) = .991: as good as sure of what nobody judged is as bad as sure of what is wrong."""
    p = [0.0045, 0.0045, 0.991]
    loss, slope = gradient([math.log(x) for x in p], [1.0, 0.0, NAN])
    assert loss == pytest.approx(-math.log(0.0045), rel=1e-4)
    assert slope[2] == pytest.approx(0.991, abs=1e-4)


def test_nothing_known_teaches_nothing() -> None:
    for reward in ([NAN, NAN, NAN], [0.4, NAN, NAN], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]):
        assert gradient([-1.0, -2.0, -0.5], reward) == (0.0, [0.0, 0.0, 0.0])


@given(st.lists(st.tuples(st.floats(-8, 0), st.booleans()), min_size=2, max_size=6))
def test_settled_rewards_of_0_and_1_are_the_likelihood_of_being_rewarded(pairs: list[tuple[float, bool]]) -> None:
    logprob, reward = tensor([s for s, _ in pairs]), tensor([float(r) for _, r in pairs])
    loss, _ = losses.expected_reward_loss(logprob, reward, logarithm=True)
    p = torch.softmax(logprob, -1)
    right = float((p * reward).sum())
    assert loss.item() == pytest.approx(-math.log(right) if 0 < reward.sum() < len(pairs) else 0.0, abs=1e-4)
