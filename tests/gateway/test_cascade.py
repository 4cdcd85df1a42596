"""The pure parts of a route: draws, scores, calibration, the accept rule, shared seconds."""

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.errors import InvalidRequest
from bessemer.core.ids import new_id
from bessemer.core.inferences import ModelCall, TokenLogprob
from bessemer.core.routes import Calibration, ConfidenceScore, Step, Target
from bessemer.gateway.cascade import accepts, calibrated, draw, raw_score
from bessemer.gateway.shares import TimeShares
from bessemer.gateway.strategy import judge

weights = st.lists(st.floats(0, 100), min_size=1, max_size=6).filter(lambda values: sum(values) > 1e-6)
scores = st.floats(-50, 50)


def targets(values: list[float]) -> tuple[Target, ...]:
    return tuple(Target(model=f"m{index}", weight=value) for index, value in enumerate(values))


def call(logprobs: tuple[float, ...] = (), forced: tuple[bool, ...] = (), choices: dict[str, float] | None = None):
    forced = forced or (False,) * len(logprobs)
    tokens = tuple(TokenLogprob(token="t", logprob=p, forced=f) for p, f in zip(logprobs, forced, strict=True))
    return ModelCall(
        id="call-1",
        inference_id="inf-1",
        step=0,
        version="m@1",
        provider="local",
        output="t",
        finish_reason="stop",
        input_tokens=1,
        output_tokens=1,
        cost_usd=None,
        latency_s=0.0,
        created_at=0.0,
        token_logprobs=tokens,
        choice_logprobs=choices,
    )


@st.composite
def calibrations(draw_value):
    x = sorted(draw_value(st.lists(scores, min_size=1, max_size=8, unique=True)))
    y = sorted(draw_value(st.lists(st.floats(0, 1), min_size=len(x), max_size=len(x))))
    return Calibration(version="m@1", score=ConfidenceScore.MEAN_LOGPROB, dataset_sha256="", x=tuple(x), y=tuple(y))


@given(weights)
def test_propensities_are_the_weights_and_sum_to_one(values):
    drawn = {}
    for index in range(400):
        one = draw(targets(values), f"inf-{index}", 0)
        drawn[one.target.model] = one.propensity
        assert one.target.weight > 0
        assert one.propensity == pytest.approx(one.target.weight / math.fsum(values))
    every = {target.model for target in targets(values) if target.weight > 0}
    assert sum(drawn.values()) == pytest.approx(1) if set(drawn) == every else sum(drawn.values()) < 1 + 1e-9


def test_draws_have_the_stated_frequencies():
    values = [1.0, 3.0, 0.0, 6.0]
    n = 20_000
    counts = Counter(draw(targets(values), new_id("inf"), 0).target.model for _ in range(n))
    assert counts["m2"] == 0
    for index, value in enumerate(values):
        share = value / 10
        assert abs(counts[f"m{index}"] - n * share) <= 5 * math.sqrt(n * share * (1 - share)) + 1e-9


@given(st.text(max_size=20), st.integers(0, 5), weights)
def test_a_draw_can_be_made_again_from_its_record(inference_id, step, values):
    assert draw(targets(values), inference_id, step) == draw(targets(values), inference_id, step)


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [1.0, -1.0], [math.inf]])
def test_weights_without_a_meaning_are_refused(values):
    with pytest.raises(InvalidRequest):
        draw(targets(values), "inf-1", 0)


@given(calibrations(), st.lists(scores, min_size=2, max_size=20))
def test_a_calibrated_score_is_monotone_and_within_the_fit(calibration, values):
    fitted = [calibrated(calibration, value) for value in sorted(values)]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(fitted))
    assert all(calibration.y[0] - 1e-9 <= value <= calibration.y[-1] + 1e-9 for value in fitted)
    for x, y in zip(calibration.x, calibration.y, strict=True):
        assert calibrated(calibration, x) == pytest.approx(y)


@given(calibrations(), st.lists(scores, min_size=1, max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_never_escalates_less(calibration, values, first, second):
    low, high = sorted((first, second))
    for value in values:
        at_low = judge(Step(targets=(), threshold=low, calibration=calibration), call((value,)))
        at_high = judge(Step(targets=(), threshold=high, calibration=calibration), call((value,)))
        assert at_low.accepted or not at_high.accepted


def test_scores_leave_out_what_a_grammar_forced():
    one = call((-1.0, -9.0, -3.0), forced=(False, True, False))
    assert raw_score("mean_logprob", one) == -2.0
    assert raw_score("min_logprob", one) == -3.0
    assert raw_score("sum_logprob", one) == -4.0
    assert raw_score("choice_margin", call(choices={"Yes": -0.1, "No": -2.4})) == pytest.approx(2.3)


@pytest.mark.parametrize("name", ["mean_logprob", "min_logprob", "sum_logprob", "choice_margin"])
def test_a_score_without_its_ingredients_is_unknown_not_zero(name):
    assert raw_score(name, call()) is None
    assert raw_score(name, call((math.nan,), choices={"Yes": 0.0})) is None
    assert not accepts(0.0, None)
    assert accepts(None, None)


@given(st.lists(st.tuples(st.floats(0.001, 5), st.booleans()), min_size=1, max_size=40))
def test_shared_seconds_add_up_to_the_busy_time(steps):
    now = 0.0
    shares = TimeShares(lambda: now)
    marks: list[float] = []
    charged = busy = 0.0
    for wait, begin in steps:
        now += wait
        busy += wait if marks else 0.0
        if begin or not marks:
            marks.append(shares.start())
        else:
            charged += shares.stop(marks.pop(0))
    charged += sum(shares.stop(mark) for mark in marks)
    assert charged == pytest.approx(busy)
