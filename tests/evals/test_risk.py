"""Risk control: the guarantee holds in repeated draws, and is worth having."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.core.routes import ConfidenceScore
from bessemer.evals.betting import positive_mean, ratio_bounds
from bessemer.evals.calibration import apply
from bessemer.evals.confidence import fit_confidence
from bessemer.evals.guarantee import ThresholdChoice, certify
from bessemer.evals.outcomes import Outcomes
from bessemer.evals.risk import F1Loss, F1Target, KeptError, Loss, Rule
from bessemer.evals.thresholds import grid_for_error, grid_from, halves, nested

DELTA = 0.1
DRAWS = 200
ALLOWED = DELTA + 3 * (DELTA * (1 - DELTA) / DRAWS) ** 0.5


class Items(NamedTuple):
    """Confidence, and the qualities or terms of both systems."""

    scores: npt.NDArray[np.float64]
    small: npt.NDArray[np.float64]
    incumbent: npt.NDArray[np.float64]


def graded(rng: np.random.Generator, n: int) -> Items:
    """Small is right more often the surer it is; the incumbent agrees with it in two items of three."""
    scores = rng.uniform(size=n)
    small = (rng.uniform(size=n) < 0.5 + 0.5 * scores).astype(float)
    own = (rng.uniform(size=n) < 0.85).astype(float)
    return Items(scores, small, np.where(rng.uniform(size=n) < 0.33, own, np.maximum(small, rng.uniform(size=n) < 0.6)))


def labelled(rng: np.random.Generator, n: int) -> Items:
    """A fifth of the items are positive; terms of F1."""
    actual, scores = rng.uniform(size=n) < 0.2, rng.uniform(size=n)
    small = np.where(rng.uniform(size=n) < 0.75 + 0.25 * scores, actual, ~actual)
    incumbent = np.where(rng.uniform(size=n) < 0.93, actual, ~actual)

    def terms(said: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        return np.stack([2.0 * (said & actual), said.astype(float) + actual], axis=1)

    return Items(scores, terms(small), terms(incumbent))


WHOLE = math.pi**2 / 6
"""What the first look spends 1 of."""


def choose(rule: Rule, scores, small, incumbent, *, grid, delta, **more) -> ThresholdChoice:  # type: ignore[no-untyped-def]
    """Today's cascade of two: one threshold, tested from strict to loose at delta as a whole."""
    both = np.stack([np.asarray(small, dtype=float), np.asarray(incumbent, dtype=float)], axis=1)
    quality, terms = (both[..., 0] * 0, both) if both.ndim == 3 else (both, None)
    items = Outcomes(np.asarray(scores)[:, None], quality, terms)
    return certify(nested(rule, grid), items, delta=delta * WHOLE, **more)


def choose_by_loss(scores, small, incumbent, *, alpha, metric="quality", **more):  # type: ignore[no-untyped-def]
    return choose(Loss(alpha, metric), scores, small, incumbent, **more)


def choose_by_error(scores, small, *, alpha, **more):  # type: ignore[no-untyped-def]
    return choose(KeptError(alpha), scores, small, np.full(len(small), np.nan), **more)


def choose_by_f1(scores, small, incumbent, *, alpha, target=None, **more):  # type: ignore[no-untyped-def]
    rule = F1Loss(alpha) if target is None else F1Target(target)
    return choose(rule, scores, small, incumbent, **more)


GRID = tuple(np.linspace(0.98, 0.0, 50).tolist())


def violations(choices: list[ThresholdChoice], true_risk: npt.NDArray[np.float64], alpha: float) -> float:
    chosen = [choice.chosen for choice in choices if choice.chosen is not None]
    return sum(true_risk[GRID.index(point.thresholds[0])] > alpha for point in chosen) / len(choices)


def mean_share(choices: list[ThresholdChoice]) -> float:
    return float(np.mean([choice.chosen.accepted_share if choice.chosen else 0.0 for choice in choices]))


def test_loss_is_controlled_and_the_cascade_worth_having() -> None:
    rng = np.random.default_rng(0)
    alpha, world = 0.03, graded(rng, 1_000_000)
    true = np.array([((world.scores >= t) * (world.incumbent - world.small)).mean() for t in GRID])
    best = 1 - min(t for t, risk in zip(GRID, true, strict=True) if risk <= alpha)
    choices = [
        choose_by_loss(*graded(rng, 800), alpha=alpha, delta=DELTA, grid=GRID[::2], seed=draw) for draw in range(DRAWS)
    ]
    assert violations(choices, true, alpha) <= ALLOWED
    assert mean_share(choices) > 0.7 * best


@pytest.mark.parametrize("binary", [True, False])
def test_error_of_accepted_answers_is_controlled(binary: bool) -> None:
    rng = np.random.default_rng(1)
    alpha, world = 0.12, graded(rng, 1_000_000)
    true = np.array([1 - world.small[world.scores >= t].mean() for t in GRID])
    best = 1 - min(t for t, risk in zip(GRID, true, strict=True) if risk <= alpha)
    choices = []
    for draw in range(DRAWS):
        items = graded(rng, 1500)
        # Values within [0, 1] with the same mean take the other test.
        small = items.small if binary else np.clip(items.small, 0.001, 0.999)
        choices.append(choose_by_error(items.scores, small, alpha=alpha, delta=DELTA, grid=GRID[4:], seed=draw))
    assert violations(choices, true, alpha) <= ALLOWED
    assert mean_share(choices) > 0.6 * best


@pytest.mark.parametrize("fixed_target", [False, True])
def test_f1_is_controlled(fixed_target: bool) -> None:
    rng = np.random.default_rng(2)
    alpha, world = 0.05, labelled(rng, 1_000_000)

    def f1(terms: npt.NDArray[np.float64]) -> float:
        return float(terms[:, 0].sum() / terms[:, 1].sum())

    reference = f1(world.incumbent)
    true = np.array(
        [reference - f1(np.where((world.scores >= t)[:, None], world.small, world.incumbent)) for t in GRID]
    )
    best = 1 - min(t for t, risk in zip(GRID, true, strict=True) if risk <= alpha)
    target = reference - alpha if fixed_target else None
    choices = [
        choose_by_f1(*labelled(rng, 1500), alpha=alpha, delta=DELTA, grid=GRID, target=target, seed=draw)
        for draw in range(DRAWS)
    ]
    assert violations(choices, true, alpha) <= ALLOWED
    assert mean_share(choices) > 0.6 * best


def test_the_bootstrap_is_labelled_as_what_it_is() -> None:
    items = labelled(np.random.default_rng(3), 1500)
    choice = choose(F1Loss(0.05, approximate=True), *items, delta=DELTA, grid=GRID)
    assert choice.guarantee is not None
    assert "not distribution-free" in choice.guarantee.method
    assert "not distribution-free" in choice.guarantee.statement


def test_the_guarantee_says_what_holds() -> None:
    items = graded(np.random.default_rng(4), 1000)
    choice = choose_by_loss(*items, alpha=0.03, delta=DELTA / WHOLE, grid=GRID, metric="accuracy", dataset_sha256="abc")
    assert choice.chosen is not None
    assert choice.guarantee is not None
    assert (choice.guarantee.alpha, choice.guarantee.delta, choice.guarantee.n) == (0.03, DELTA, 1000)
    assert choice.guarantee.dataset_sha256 == "abc"
    for words in (
        "accuracy lost against always asking the incumbent is at most 0.03",
        "probability at least 90%",
        "look 1",
    ):
        assert words in choice.guarantee.statement
    assert len(choice.curve) == len(GRID)


def test_nothing_is_certified_without_evidence() -> None:
    rng = np.random.default_rng(5)
    scores = rng.uniform(size=500)
    always_wrong = choose_by_loss(scores, np.zeros(500), np.ones(500), alpha=0.01, delta=DELTA, grid=GRID[10:])
    too_few = choose_by_loss(scores[:5], np.ones(5), np.ones(5), alpha=0.01, delta=DELTA, grid=GRID)
    for choice in (always_wrong, too_few):
        assert (choice.chosen, choice.guarantee) == (None, None)


def test_a_small_model_as_good_as_the_incumbent_takes_everything() -> None:
    items = graded(np.random.default_rng(6), 2000)
    choice = choose_by_loss(items.scores, items.incumbent, items.incumbent, alpha=0.01, delta=DELTA, grid=GRID)
    assert choice.chosen is not None
    assert choice.chosen.accepted_share == 1.0
    assert choice.chosen.empirical_risk == 0.0


def test_inputs_are_checked() -> None:
    ok = {"alpha": 0.1, "delta": 0.1, "grid": GRID}
    with pytest.raises(ValueError, match="fall strictly"):
        choose_by_error([0.5], [1.0], alpha=0.1, delta=0.1, grid=(0.1, 0.2))
    for scores, small in (
        ([], []),
        ([0.5], [2.0]),
        ([0.5], [float("nan")]),
        ([0.5, 0.6], [1.0]),
        ([float("inf")], [1.0]),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            choose_by_error(scores, small, **ok)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="alpha"):
        choose_by_error([0.5], [1.0], alpha=1.0, delta=0.1, grid=GRID)
    with pytest.raises(ValueError, match="numerator"):
        choose_by_f1([0.5], [[3.0, 2.0]], [[2.0, 2.0]], alpha=0.1, delta=0.1, grid=GRID)


def test_grids_fall_from_the_strictest_share_to_all() -> None:
    scores = np.random.default_rng(7).normal(size=1000)
    grid = grid_from(scores, size=20, strictest_share=0.1)
    assert len(grid) == 20
    assert list(grid) == sorted(grid, reverse=True)
    assert (scores >= grid[0]).mean() == pytest.approx(0.1, abs=0.01)
    assert (scores >= grid[-1]).all()
    assert grid_from([0.5] * 10) == (0.5,)


def test_a_grid_for_errors_starts_where_something_can_be_certified() -> None:
    """45 faultless answers show an error below 5 %: 0.95 ** 45 < 0.1. A grid that starts with 2 % of 400 accepts 8."""
    rng = np.random.default_rng(10)
    items, others, perfect = graded(rng, 400), graded(rng, 400), np.ones(400)
    strict = choose_by_error(items.scores, perfect, alpha=0.05, delta=DELTA, grid=grid_from(others.scores))
    assert strict.chosen is None
    suited = grid_for_error(others.scores, perfect, 400, alpha=0.05)
    choice = choose_by_error(items.scores, perfect, alpha=0.05, delta=DELTA, grid=suited)
    assert choice.chosen is not None
    assert choice.chosen.accepted_share > 0.95


def partly_right(rng: np.random.Generator, n: int) -> Items:
    """Answers of several values each, as attributes are: the share of right ones rises with the score."""
    scores = rng.uniform(size=n)
    small = rng.binomial(5, 0.55 + 0.45 * scores) / 5
    return Items(scores, small, small)


def test_graded_answers_are_certified_in_small_samples_and_the_promise_holds() -> None:
    """150 answers, error at most 20 %: where the strictest threshold decides, nearly nothing is ever certified."""
    rng = np.random.default_rng(12)
    world = partly_right(rng, 200_000)
    chosen, strict, broken = 0, 0, 0
    for _ in range(DRAWS):
        items, others = partly_right(rng, 150), partly_right(rng, 130)
        first = grid_from(others.scores)
        strict += choose_by_error(items.scores, items.small, alpha=0.2, delta=DELTA, grid=first).chosen is not None
        grid = grid_for_error(others.scores, others.small, 150, alpha=0.2)
        choice = choose_by_error(items.scores, items.small, alpha=0.2, delta=DELTA, grid=grid)
        if choice.chosen is not None:
            chosen += 1
            broken += bool((1 - world.small[world.scores >= choice.chosen.thresholds[0]]).mean() > 0.2)
    assert broken / DRAWS <= ALLOWED
    assert chosen / DRAWS > 0.8
    assert strict / DRAWS < 0.1


@pytest.mark.parametrize("alpha", [0.0, 0.02])
def test_a_grid_for_errors_without_evidence_is_the_whole_grid(alpha: float) -> None:
    scores = np.linspace(0, 1, 50)
    assert grid_for_error(scores, np.zeros(50), 100, alpha=alpha) == grid_from(scores)


@pytest.mark.long
def test_the_whole_way_from_raw_scores_keeps_the_promise() -> None:
    """Map fitted and grid taken on one half, threshold chosen on the other, checked on a million fresh items."""
    rng = np.random.default_rng(11)
    alpha, world = 0.03, graded(rng, 1_000_000)
    broken, shares = 0, []
    for draw in range(40):
        items = graded(rng, 1200)
        fit = halves([f"{draw}-{i}" for i in range(1200)])
        fitted = fit_confidence(
            items.scores[fit],
            items.small[fit],
            version="v",
            score=ConfidenceScore.TOP_PROBABILITY,
            dataset_sha256="d",
            pair=False,
        )
        confidence = apply(fitted, items.scores)
        rest = Items(confidence[~fit], items.small[~fit], items.incumbent[~fit])
        choice = choose_by_loss(*rest, alpha=alpha, delta=DELTA, grid=grid_from(confidence[fit], 40))
        shares.append(choice.chosen.accepted_share if choice.chosen else 0.0)
        if choice.chosen:
            accepted = apply(fitted, world.scores) >= choice.chosen.thresholds[0]
            broken += bool((accepted * (world.incumbent - world.small)).mean() > alpha)
    assert broken / 40 <= DELTA + 3 * (DELTA * (1 - DELTA) / 40) ** 0.5
    assert np.mean(shares) > 0.3


def test_halves_are_stable_and_even() -> None:
    ids = [f"row-{i}" for i in range(1000)]
    fit = halves(ids)
    assert 400 < fit.sum() < 600
    assert (halves(ids[::-1])[::-1] == fit).all()


@settings(max_examples=30)
@given(st.integers(20, 200), st.integers(0, 10_000))
def test_looser_promises_are_never_harder(n: int, seed: int) -> None:
    items = graded(np.random.default_rng(seed), n)
    strict, loose = (
        choose_by_error(items.scores, items.small, alpha=alpha, delta=DELTA, grid=GRID) for alpha in (0.1, 0.3)
    )
    assert (loose.chosen is not None) >= (strict.chosen is not None)


def test_p_values_are_valid_under_the_null() -> None:
    rng = np.random.default_rng(8)
    for low, chance in ((-1.0, 0.5), (-0.1, 0.9), (-0.9, 0.1)):
        # Two-point items with mean exactly zero: the hardest null.
        high = -low * chance / (1 - chance)
        z = np.where(rng.uniform(size=(300, 2000)) < chance, low, high)
        assert (positive_mean(z, -low, DELTA) <= DELTA).mean() <= DELTA + 0.02
    with pytest.raises(ValueError, match="bound"):
        positive_mean(np.array([-2.0]), 1.0, DELTA)


def test_a_few_whole_losses_do_not_ruin_a_test_that_most_items_win():
    rng = np.random.default_rng(5)
    few = [positive_mean(rng.permutation([-0.1] * 5 + [1.9] * 5), 0.1, 0.4) <= 0.4 for _ in range(300)]
    rare = [
        positive_mean(0.05 - rng.choice([0, 1, -1], 100, p=[0.97, 0.02, 0.01]), 0.95, DELTA) <= DELTA
        for _ in range(300)
    ]
    assert all(few)
    assert np.mean(rare) > 0.52


def test_graded_answers_that_are_seldom_all_wrong_are_tested_boldly():
    rng = np.random.default_rng(6)
    scores, found = np.linspace(0.0, 1.0, 157), []
    for _ in range(200):
        right = 1.0 - np.clip(rng.beta(1.2, 5.0, 157), 0.0, 1.0)
        choice = choose_by_error(scores, right, alpha=0.25, delta=DELTA, grid=(0.5,))
        found.append(choice.chosen is not None)
    assert np.mean(found) > 0.86


def test_ratio_bounds_hold_the_ratio_and_shrink() -> None:
    rng = np.random.default_rng(9)
    world = labelled(rng, 1_000_000).incumbent
    true = world[:, 0].sum() / world[:, 1].sum()
    widths = []
    for n in (200, 2000):
        bounds = [ratio_bounds(labelled(rng, n).incumbent, 2.0, DELTA) for _ in range(60)]
        assert np.mean([low <= true <= high for low, high in bounds]) >= 1 - DELTA
        widths.append(np.mean([high - low for low, high in bounds]))
    assert widths[1] < widths[0] / 2
