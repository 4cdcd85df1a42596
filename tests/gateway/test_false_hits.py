"""The bound on wrong look-alike answers: how many checks it needs, that it holds, and how soon wrong ones end it."""

import random

import pytest

from bessemer.gateway.false_hits import DELTA, FalseHits


@pytest.mark.parametrize(("budget", "needed"), [(0.01, 354), (0.05, 70)])
def test_nothing_is_given_before_enough_checks_were_right(budget: float, needed: int) -> None:
    found = FalseHits(budget)
    count = 0
    while not found.proven:
        assert found.bound > budget
        found.add(wrong=False)
        count += 1
    assert count == needed
    assert found.bound <= budget + 1e-6


def test_wrong_answers_end_it_however_long_it_went_well() -> None:
    found = FalseHits(0.01)
    for _ in range(100_000):
        found.add(wrong=False)
    assert found.proven
    for _ in range(6):
        found.add(wrong=True)
    assert not found.proven


def test_a_route_at_its_budget_is_seldom_let_through_at_any_time() -> None:
    draw = random.Random(0)
    let_through = 0
    for _ in range(400):
        found = FalseHits(0.1)
        for _ in range(500):
            found.add(wrong=draw.random() < 0.1)
            if found.proven:
                let_through += 1
                break
    assert let_through / 400 <= DELTA
