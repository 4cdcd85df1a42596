"""Trust in authors: recovered from overlaps, kept where there are too few."""

import numpy as np
import pytest

from bessemer.feedback.annotators import SETTLED, Judgement, authors, trusted

Rates = dict[str | None, tuple[float, float]]


def judged(seed: int, items: int, rates: Rates) -> list[Judgement]:
    rng, found = np.random.default_rng(seed), []
    truth = rng.uniform(size=items) < 0.7
    for name, (sensitivity, specificity) in rates.items():
        for item, right in enumerate(truth):
            agrees = rng.uniform() < (sensitivity if right else specificity)
            found.append(Judgement(str(item), name, bool(right) == agrees))
    return found


def test_l11_noise_of_authors_is_recovered_within_a_twentieth_at_two_hundred_overlaps() -> None:
    rates: Rates = {
        "a": (0.95, 0.9),
        "b": (0.9, 0.95),
        "c": (0.75, 0.7),
        "d": (0.97, 0.97),
    }
    errors = []
    for seed in range(10):
        known = authors(judged(seed, 200, rates))
        errors.append([abs((known[n].sensitivity + known[n].specificity) / 2 - sum(rates[n]) / 2) for n in rates])
    assert np.mean(errors) < 0.025
    assert np.quantile(errors, 0.9) < 0.05


def test_settled_items_anchor_an_author_who_is_alone() -> None:
    known = authors(judged(3, 200, {"a": (0.6, 0.9), SETTLED: (1.0, 1.0)}))
    assert known["a"].sensitivity == pytest.approx(0.6, abs=0.08)
    assert known["a"].specificity == pytest.approx(0.9, abs=0.08)
    assert SETTLED not in known


def test_who_says_nothing_true_is_not_trusted_and_few_overlaps_keep_the_stored_trust() -> None:
    known = authors(judged(4, 300, {"a": (0.95, 0.95), "b": (0.95, 0.95), None: (0.5, 0.5)}))
    assert trusted("a", known, 0.3) > 0.8
    assert trusted(None, known, 0.3) < 0.2
    few = authors(judged(5, 19, {"a": (0.95, 0.95), "b": (0.95, 0.95)}))
    assert few == {}
    assert trusted("a", few, 0.3) == 0.3
    alone = authors(judged(6, 200, {"a": (0.95, 0.95)}))
    assert alone == {}
