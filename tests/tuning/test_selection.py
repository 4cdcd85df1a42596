import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bessemer.tuning.selection import choose_f1_bias, mean_reward


def f1(margin, truth, bias):
    said = margin + bias > 0
    return 2 * (said & truth).sum() / max(said.sum() + truth.sum(), 1)


@given(st.integers(0, 2**32 - 1))
def test_the_bias_is_about_as_good_as_any(seed):
    rng = np.random.default_rng(seed)
    truth = rng.random(300) < 0.15
    truth[0] = True
    margin = rng.normal(0, 1, 300) + 2.0 * truth - 3.0
    logprobs = np.stack([margin, np.zeros(300)], axis=1)
    rewards = np.stack([truth, ~truth], axis=1).astype(float)
    bias = choose_f1_bias(logprobs, rewards, 0)
    best = max(f1(margin, truth, -t) for t in margin)
    assert bias.values[1] == 0.0
    assert np.isclose(bias.score, f1(margin, truth, bias.values[0]))
    assert bias.score >= best - 0.12


def test_separable_items_are_separated():
    logprobs = np.log(np.array([[0.2, 0.8], [0.15, 0.85], [0.01, 0.99], [0.02, 0.98]]))
    rewards = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    assert choose_f1_bias(logprobs, rewards, 0).score == 1.0


def test_nothing_to_choose_without_positives():
    logprobs = np.log(np.array([[0.2, 0.8], [0.4, 0.6]]))
    rewards = np.array([[0.0, 1], [0, 1]])
    assert choose_f1_bias(logprobs, rewards, 0).values == (0.0, 0.0)


def test_unscorable_rewards_do_not_count():
    logprobs = np.log(np.array([[0.2, 0.8], [0.9, 0.1]]))
    assert mean_reward(logprobs, np.array([[0.0, np.nan], [1.0, 0.0]])) == 1.0
