"""Losses that learn from verdicts: gradients, what a wrong verdict does, unbiased doubly robust rewards."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import approx_fprime, minimize
from scipy.special import log_softmax, softmax

from bessemer.evals.verdict_losses import LossAndGradient, doubly_robust, expected_reward, not_this, right_only

Array = npt.NDArray[np.float64]


def drawn(k: int, n: int = 6, seed: int = 0) -> tuple[Array, npt.NDArray[np.int64], Array, Array]:
    rng = np.random.default_rng(seed)
    right = np.array([1.0, 0.0, 1.0, 0.0, 0.3, 0.0])[:n]
    return rng.normal(size=(n, k)), rng.integers(k, size=n), right, rng.uniform(0.1, 2, size=n)


@pytest.mark.parametrize("k", [2, 3, 77])
@pytest.mark.parametrize("name", ["not_this", "right_only", "expected_reward"])
def test_gradients_are_the_losses_slopes(name: str, k: int) -> None:
    logits, answers, right, weights = drawn(k)
    propensities, rewards = np.full(6, 0.3), np.random.default_rng(1).uniform(size=(6, k))

    def loss(flat: Array) -> LossAndGradient:
        z = flat.reshape(6, k)
        if name == "not_this":
            return not_this(z, answers, right, weights)
        if name == "right_only":
            return right_only(z, answers, right, propensities, weights)
        return expected_reward(z, rewards, weights)

    slope = approx_fprime(logits.ravel(), lambda flat: loss(flat).value, 1e-7)
    assert loss(logits.ravel()).gradient.ravel() == pytest.approx(slope, abs=2e-6)


def test_the_gradient_of_a_wrong_verdict_is_the_published_one() -> None:
    logits, answers, _, _ = drawn(5)
    p, rows = softmax(logits, axis=1), np.arange(6)
    shown = p[rows, answers]
    expected = (shown / (1 - shown))[:, None] * (np.eye(5)[answers] - p) / 6
    assert not_this(logits, answers, np.zeros(6)).gradient == pytest.approx(expected)


@pytest.mark.parametrize("k", [3, 77])
def test_l12_a_wrong_verdict_lowers_that_label_and_a_right_one_raises_it(k: int) -> None:
    logits = np.zeros((1, k))
    for verdict, moves in ((0.0, -1), (1.0, 1)):
        stepped = logits - not_this(logits, np.array([1]), [verdict]).gradient
        assert np.sign(softmax(stepped, axis=1)[0, 1] - 1 / k) == moves


def test_two_labels_know_the_truth_from_either_verdict() -> None:
    logits, _, _, _ = drawn(2)
    wrong, right = (not_this(logits, np.full(6, a), np.full(6, r)) for a, r in ((0, 0.0), (1, 1.0)))
    assert wrong.value == pytest.approx(right.value)
    assert wrong.gradient == pytest.approx(right.gradient)


def test_certainty_of_a_wrong_answer_is_a_finite_loss_and_gradient() -> None:
    found = not_this(np.array([[800.0, 0.0, 0.0]]), np.array([0]), [0.0])
    assert found.value == pytest.approx(800 - np.log(2))
    assert found.gradient.tolist() == [[1.0, -0.5, -0.5]]


def test_l11_trust_zero_is_an_absent_row_and_weights_have_no_scale() -> None:
    logits, answers, right, weights = drawn(4)
    weights[2] = 0.0
    kept = weights > 0
    whole, part = (
        not_this(logits, answers, right, weights),
        not_this(logits[kept], answers[kept], right[kept], 1000 * weights[kept]),
    )
    assert whole.value == pytest.approx(part.value)
    assert whole.gradient[kept] == pytest.approx(part.gradient)
    assert not whole.gradient[2].any()


def test_l12_doubly_robust_rewards_are_unbiased_with_a_wrong_model() -> None:
    """10,000 logs of one context: the reward model is plainly wrong, the propensities are right."""
    rng, truth = np.random.default_rng(3), np.array([0.8, 0.4, 0.1, 0.6])
    wrong, chances = np.array([0.1, 0.9, 0.5, 0.2]), np.array([0.55, 0.25, 0.1, 0.1])
    answers = rng.choice(4, size=10_000, p=chances)
    rewards = (rng.uniform(size=10_000) < truth[answers]).astype(float)
    found = doubly_robust(np.tile(wrong, (10_000, 1)), answers, rewards, chances[answers])
    error = found.std(axis=0) / 100
    assert (np.abs(found.mean(axis=0) - truth) < 4 * error).all()
    assert not np.allclose(wrong, truth, atol=0.1)


def test_doubly_robust_rewards_are_the_models_where_it_is_right_and_propensities_are_clipped() -> None:
    predicted = np.array([[0.2, 0.7]])
    assert doubly_robust(predicted, np.array([1]), [0.7], [0.01]).tolist() == [[0.2, 0.7]]
    assert doubly_robust(predicted, np.array([1]), [1.0], [0.001])[0, 1] == pytest.approx(0.7 + 20 * 0.3)


def world(seed: int, n: int, k: int = 8) -> tuple[Array, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Gaussian classes, and the answers of a logger that errs as models do: in the same places again and again."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    centres, moved = fixed.normal(size=(k, 10)), 0.7 * fixed.normal(size=(k, 10))
    label = rng.integers(k, size=n)
    features = centres[label] + rng.normal(size=(n, 10))
    believed = centres + moved
    logger = features @ believed.T - (believed**2).sum(axis=1) / 2
    return np.column_stack([features, np.ones(n)]), label, logger.argmax(axis=1)


def fitted(features: Array, loss: object, k: int = 8) -> Array:
    def objective(flat: Array) -> tuple[float, Array]:
        w = flat.reshape(features.shape[1], k)
        found = loss(features @ w)  # type: ignore[operator]
        return found.value + 1e-3 * float(flat @ flat), (features.T @ found.gradient).ravel() + 2e-3 * flat

    start = np.zeros(features.shape[1] * k)
    return np.asarray(minimize(objective, start, jac=True, method="L-BFGS-B").x).reshape(-1, k)


def test_wrong_verdicts_teach_what_right_answers_alone_do_not() -> None:
    gains = []
    for seed in range(5):
        features, label, answers = world(seed, 500)
        right = (label == answers).astype(float)
        fresh, truth, _ = world(100 + seed, 4000)
        with_wrong = fitted(features, lambda z, a=answers, r=right: not_this(z, a, r))
        alone = fitted(features, lambda z, a=answers, r=right: not_this(z, a, np.ones(500), r))
        scores = [((fresh @ w).argmax(axis=1) == truth).mean() for w in (with_wrong, alone)]
        gains.append(scores[0] - scores[1])
    assert np.mean(gains) > 0.02


def test_exact_expected_reward_of_known_rewards_learns_them() -> None:
    logits = np.zeros((1, 3))
    for _ in range(200):
        logits = logits - 5 * expected_reward(logits, np.array([[0.0, 1.0, 0.2]])).gradient
    assert softmax(logits, axis=1)[0].argmax() == 1
    assert log_softmax(logits, axis=1)[0, 1] > -0.1


def test_bad_rows_are_refused() -> None:
    one, answers = np.zeros((1, 3)), np.array([0])
    for call in (
        lambda: not_this(np.zeros((1, 1)), answers, [1.0]),
        lambda: not_this(one, answers, [np.nan]),
        lambda: not_this(one, answers, [2.0]),
        lambda: not_this(one, answers, [1.0], [0.0]),
        lambda: not_this(one, answers, [1.0], [-1.0]),
        lambda: doubly_robust(one, answers, [1.0], [0.0]),
        lambda: right_only(one, answers, [1.0], [1.5]),
    ):
        with pytest.raises(ValueError, match=r"\w{4}"):
            call()
