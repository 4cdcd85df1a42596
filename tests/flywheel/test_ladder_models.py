"""Whether a language model pays for what the rungs hand over is decided by cost and quality on the selection items."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from bessemer.core.datasets import Dataset, Example, Split
from bessemer.core.routes import Step, Target
from bessemer.core.wire import LadderRequest
from bessemer.evals.measures import LabelAccuracy
from bessemer.evals.metrics import Terms
from bessemer.evals.runs import ItemScore, SystemAnswer
from bessemer.flywheel import ladder_models
from bessemer.flywheel.ladder_outcome import INCUMBENT, MODEL, LadderPlan, LadderSystem, ScoredSystem

N = 400
IDS = [f"item-{number}" for number in range(N)]
DRAWN = random.Random(5)
HARD = {name for name in IDS if DRAWN.random() < 0.3}
"""What the rung is not sure of, and wrong about as often as not."""
FLAWED = {name for name in IDS if DRAWN.random() < 0.02}
"""What the incumbent gets wrong."""


def example(name: str) -> Example:
    return Example(id=name, split=Split.SELECTION, input={"text": name}, messages=(), answer=None)


def plan(alpha: float = 0.02) -> LadderPlan:
    examples = tuple(example(name) for name in IDS)
    return LadderPlan(
        request=LadderRequest(route="r", dataset="d", alpha=alpha),
        dataset=Dataset(id="d", name="d", sha256="", created_at=0.0, counts={}, provenance={}, files={}),
        labels=("a", "b"),
        kinds=(),
        train=(),
        optimise=examples,
        calibrate=examples,
        metric=LabelAccuracy(("a", "b")),
        incumbent="large",
        left_out=0,
    )


def system(
    kind: str, name: str, right: Callable[[str], bool], sure: Callable[[str], float | None], usd: float | None
) -> ScoredSystem:
    def item(one: str) -> ItemScore:
        answer = SystemAnswer(
            text="a" if right(one) else "b",
            version=name,
            cost_usd=None if usd is None else usd / 1000,
            input_tokens=1,
            output_tokens=1,
            latency_s=0.01,
            score=sure(one),
        )
        return ItemScore.of(one, answer, Terms(float(right(one)), 1.0))

    return ScoredSystem(LadderSystem(kind, name), tuple(item(one) for one in IDS), ())


def coin(name: str) -> bool:
    return random.Random(name).random() < 0.6


RUNG = system(
    "pairs", "rung@1", lambda one: one not in HARD or coin(one), lambda one: 0.2 if one in HARD else 5.0, 0.01
)
LARGE = system(INCUMBENT, "large", lambda one: one not in FLAWED, lambda _: None, 1.0)


def model(right: Callable[[str], bool], usd: float | None = 0.1) -> ScoredSystem:
    return system(MODEL, "small@1", right, lambda one: 5.0 if right(one) else 0.1, usd)


def judged(small: ScoredSystem, large: ScoredSystem = LARGE) -> Any:
    left = ladder_models.joined(plan(), [RUNG, small, large], ["rung@1", "small@1", "large"])
    assert left is not None
    return left, left.models[0]


def test_a_model_that_is_right_where_the_rungs_are_not_and_costs_little_pays() -> None:
    left, worth = judged(model(lambda one: one not in FLAWED))
    assert left.share == pytest.approx(len(HARD) / N, abs=0.05)
    assert worth.pays
    assert worth.saves_usd_per_1k == pytest.approx(left.share * 0.9, rel=0.2)
    assert worth.n == left.n
    assert worth.reason.startswith("pays")


def test_a_model_that_is_wrong_where_the_rungs_are_does_not_pay_and_the_numbers_say_why() -> None:
    _, worth = judged(system(MODEL, "small@1", lambda one: one not in HARD, lambda _: 1.0, 0.1))
    assert worth.pays is False
    assert worth.quality.value == 0.0
    assert "accuracy 0.0%" in worth.reason


def test_a_model_that_costs_what_the_incumbent_costs_does_not_pay_however_good() -> None:
    _, worth = judged(model(lambda one: one not in FLAWED, usd=0.99))
    assert worth.pays is False


def test_a_dear_model_that_is_better_than_the_incumbent_pays_in_quality() -> None:
    weak = system(INCUMBENT, "large", lambda one: one not in HARD or coin(one + "x"), lambda _: None, 1.0)
    _, worth = judged(model(lambda _: True, usd=0.99), weak)
    assert worth.pays
    assert worth.gain > 0.02


def test_without_a_language_model_nothing_is_judged() -> None:
    assert ladder_models.joined(plan(), [RUNG, LARGE], ["rung@1", "large"]) is None


def untuned(steps: tuple[Step, ...], base: ScoredSystem, large_usd: float | None = 1.0) -> Any:
    left, some = ladder_models.by_route(plan(), [RUNG, LARGE], ["rung@1", "large"], steps)
    assert len(some) == min(left.n, ladder_models.FEW)
    asked = [item for item in base.optimise if item.id in {one.id for one in some}]
    return left, ladder_models.untuned(plan(), "small", asked, left, large_usd)


SURE = (Step(targets=(Target(model="rung@1"),), threshold=0.9), Step(targets=(Target(model="large"),)))


def test_what_tuning_may_save_is_bounded_by_what_the_route_hands_over() -> None:
    left, worth = untuned(SURE, model(coin))
    assert worth.pays is None
    assert not worth.tuned
    assert worth.saves_usd_per_1k == pytest.approx(left.share * 0.9)
    assert f"{left.share:.0%} of the requests" in worth.reason
    everything, _ = untuned((), model(coin))
    assert everything.share == 1.0


@pytest.mark.parametrize(
    ("usd", "large_usd", "pays", "says"),
    [
        (2.0, 1.0, False, "cannot pay: $2 per 1,000 requests, the incumbent $1"),
        (None, 1.0, None, "has no price"),
        (0.1, None, None, "has no price"),
    ],
)
def test_a_dear_model_cannot_pay_and_an_unknown_price_is_said(
    usd: float | None, large_usd: float | None, pays: bool | None, says: str
) -> None:
    _, worth = untuned(SURE, model(coin, usd), large_usd)
    assert worth.pays is pays
    assert says in worth.reason


def test_where_nothing_is_handed_over_no_model_can_pay() -> None:
    always = (Step(targets=(Target(model="rung@1"),), threshold=0.0), Step(targets=(Target(model="large"),)))
    left, worth = untuned(always, model(coin))
    assert left.n == 0
    assert worth.pays is False


def test_what_barely_keeps_the_bound_is_not_taken_for_what_would_be_certified() -> None:
    """A rung loses nearly two points where it is unsure: the route will hand these over, so a model may pay there."""
    unsure, wrong = set(IDS[::8]), set(IDS[: len(FLAWED) * 8 + 56 : 8])
    rung = system("pairs", "rung@1", lambda one: one not in wrong, lambda one: 0.2 if one in unsure else 5.0, 0.01)
    assert (len(wrong) - len(FLAWED)) / N < 0.02
    left = ladder_models.joined(
        plan(), [rung, model(lambda one: one not in FLAWED), LARGE], ["rung@1", "small@1", "large"]
    )
    assert left is not None
    assert left.share == pytest.approx(len(unsure) / N)
    assert left.models[0].pays
