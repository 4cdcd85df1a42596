import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.tuning.selection import choose_f1_bias


def f1(margin, truth, bias):
    said = margin + bias > 0
    return 2 * (said & truth).sum() / max(said.sum() + truth.sum(), 1)


def sample(rng, n):
    """Margins that are log-odds, but too sure of themselves: the log-odds of what they say are halved."""
    truth = rng.random(n) < 0.15
    truth[0] = True
    return 2 * (rng.normal(0, 1.4, n) + 3.0 * truth - 3.2), truth


def arrays(margin, truth):
    rewards = np.stack([truth, ~truth], axis=1).astype(float)
    return np.stack([margin, np.zeros(len(margin))], axis=1), rewards


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_the_bias_holds_on_items_that_were_not_seen(seed):
    rng = np.random.default_rng(seed)
    bias = choose_f1_bias(*arrays(*sample(rng, 400)), 0)
    margin, truth = sample(rng, 20_000)
    best = max(f1(margin, truth, t) for t in np.linspace(-6, 6, 49))
    assert bias.values[1] == 0.0
    assert f1(margin, truth, bias.values[0]) >= best - 0.05


def test_the_threshold_is_half_of_the_best_f1():
    rng = np.random.default_rng(0)
    p = rng.beta(0.3, 1.0, 200_000)
    margin, truth = np.log(p / (1 - p)), rng.random(200_000) < p
    bias = choose_f1_bias(*arrays(margin, truth), 0)
    best = max((f1(margin, truth, -t), t) for t in np.linspace(-3, 3, 121))
    assert abs(bias.score - best[0]) < 0.005
    assert abs(1 / (1 + np.exp(bias.values[0])) - best[0] / 2) < 0.01


def test_few_separated_items_do_not_move_the_margin_far():
    margin, truth = np.array([-6.0, -5.0, -4.0, 5.0]), np.array([False, False, False, True])
    assert abs(choose_f1_bias(*arrays(margin, truth), 0).values[0]) < 1.0


def test_separable_items_are_separated():
    logprobs = np.log(np.array([[0.2, 0.8], [0.15, 0.85], [0.01, 0.99], [0.02, 0.98]]))
    rewards = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    (bias, _), _ = choose_f1_bias(logprobs, rewards, 0)
    said = logprobs[:, 0] + bias > logprobs[:, 1]
    assert said.tolist() == [True, True, False, False]


def test_nothing_to_choose_without_positives():
    logprobs = np.log(np.array([[0.2, 0.8], [0.4, 0.6]]))
    rewards = np.array([[0.0, 1], [0, 1]])
    assert choose_f1_bias(logprobs, rewards, 0).values == (0.0, 0.0)
