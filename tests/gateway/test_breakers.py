"""Circuit breakers: when a model is avoided, for how long, and who tries it again."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.errors import EngineError, InvalidRequest, ProviderError, RateLimited
from bessemer.gateway.breakers import FAILURES, LEAST, LONGEST_S, OPEN_S, WINDOW_S, Breakers


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breakers(clock: Clock) -> Breakers:
    return Breakers(clock)


def asked(breakers: Breakers, clock: Clock, error: BaseException | None, times: int = 1) -> None:
    for _ in range(times):
        clock.now += 0.001
        breakers.begin("m")
        breakers.end("m", error, clock.now)


def test_a_breaker_opens_after_failures_in_a_row_alone(breakers: Breakers, clock: Clock) -> None:
    asked(breakers, clock, ProviderError("down"), FAILURES - 1)
    asked(breakers, clock, None)
    asked(breakers, clock, ProviderError("down"), FAILURES - 1)
    assert breakers.ready("m")
    asked(breakers, clock, EngineError("down"))
    assert not breakers.ready("m")
    assert breakers.ready("another")


def test_one_request_tries_again_and_closes_it(breakers: Breakers, clock: Clock) -> None:
    asked(breakers, clock, ProviderError("down"), FAILURES)
    clock.now += OPEN_S
    assert breakers.ready("m")
    breakers.begin("m")
    assert not breakers.ready("m"), "one trial at a time"
    breakers.end("m", None, clock.now)
    assert breakers.ready("m")
    assert breakers.quiet


def test_a_trial_that_fails_doubles_the_wait(breakers: Breakers, clock: Clock) -> None:
    asked(breakers, clock, ProviderError("down"), FAILURES)
    for wait in (2 * OPEN_S, 4 * OPEN_S, 8 * OPEN_S, LONGEST_S, LONGEST_S):
        clock.now += LONGEST_S
        asked(breakers, clock, ProviderError("down"))
        clock.now += min(wait, LONGEST_S) - 0.1
        assert not breakers.ready("m")
        clock.now += 0.1
        assert breakers.ready("m")


def test_a_trial_whose_client_leaves_is_tried_again(breakers: Breakers, clock: Clock) -> None:
    asked(breakers, clock, ProviderError("down"), FAILURES)
    clock.now += OPEN_S
    asked(breakers, clock, asyncio.CancelledError())
    assert breakers.ready("m")
    breakers.begin("m")
    clock.now += 1000
    assert breakers.ready("m"), "a trial that never ends is not waited for"


def test_an_upstream_is_left_alone_for_as_long_as_it_says(breakers: Breakers, clock: Clock) -> None:
    asked(breakers, clock, RateLimited("slow down", retry_after=7))
    clock.now += 6.9
    assert not breakers.ready("m")
    clock.now += 0.1
    assert breakers.ready("m")
    asked(breakers, clock, RateLimited("slow down", retry_after=86_400))
    clock.now += LONGEST_S
    assert breakers.ready("m"), "a day is asked of people, not of a process"


@pytest.mark.parametrize("error", [InvalidRequest("wrong"), ProviderError("no", retryable=False)])
def test_what_the_request_is_to_blame_for_is_no_failure(breakers: Breakers, clock: Clock, error: Exception) -> None:
    asked(breakers, clock, error, 100)
    assert breakers.quiet


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 200)), max_size=60))
def test_a_model_is_never_avoided_for_longer_than_the_bound(events: list[tuple[bool, float]]) -> None:
    clock = Clock()
    breakers = Breakers(clock)
    for fails, later in events:
        clock.now += later
        asked(breakers, clock, ProviderError("down") if fails else None)
        assert fails or breakers.ready("m")
    clock.now += LONGEST_S
    assert breakers.ready("m")


def test_a_burst_that_fails_together_opens_it_once(breakers: Breakers, clock: Clock) -> None:
    began = clock.now
    for _ in range(50):
        breakers.begin("m")
    clock.now += 0.01
    for _ in range(49):
        breakers.end("m", ProviderError("down"), began)
    breakers.end("m", None, began)
    assert not breakers.ready("m"), "what began before says nothing new"
    clock.now += OPEN_S
    assert breakers.ready("m")


def test_a_refusal_of_our_own_does_not_close_it(breakers: Breakers, clock: Clock) -> None:
    asked(breakers, clock, ProviderError("down"), FAILURES)
    asked(breakers, clock, ProviderError("not sent", retryable=False))
    asked(breakers, clock, InvalidRequest("wrong"))
    assert not breakers.ready("m")


def test_it_opens_when_half_of_the_requests_fail(breakers: Breakers, clock: Clock) -> None:
    for _ in range(LEAST // 2 - 1):
        asked(breakers, clock, ProviderError("down"))
        asked(breakers, clock, None)
        assert breakers.ready("m")
    asked(breakers, clock, ProviderError("down"), 2)
    assert not breakers.ready("m")
    clock.now += OPEN_S
    assert breakers.ready("m")
    breakers.begin("m")
    assert not breakers.ready("m"), "one trial at a time"
    breakers.end("m", None, clock.now)
    assert breakers.quiet


def test_failures_of_long_ago_are_forgotten(breakers: Breakers, clock: Clock) -> None:
    for _ in range(LEAST):
        asked(breakers, clock, ProviderError("down"))
        asked(breakers, clock, None)
        clock.now += WINDOW_S / 4
        assert breakers.ready("m")
    clock.now += WINDOW_S
    asked(breakers, clock, None)
    assert breakers.quiet


def test_it_tells_when_it_opens_and_closes(clock: Clock) -> None:
    told: list[tuple[str, int]] = []
    breakers = Breakers(clock, lambda name, level: told.append((name, level)))
    asked(breakers, clock, ProviderError("down"), 2 * FAILURES)
    clock.now += LONGEST_S
    asked(breakers, clock, None)
    assert told == [("m", 1), ("m", 0)]
