"""Verdicts alone, above two labels: what is not known is not right."""

import numpy as np
import pytest

from bessemer.core.datasets import Example, Split
from bessemer.evals.measures import LabelAccuracy, LabelF1, Metric
from bessemer.evals.metrics import Terms, Unknown
from bessemer.evals.runs import Run, SystemAnswer, evaluate

LABELS = tuple(f"intent {i}" for i in range(77))


def said(text: str) -> SystemAnswer:
    return SystemAnswer(text=text, version="m@1", cost_usd=None, input_tokens=None, output_tokens=None, latency_s=0.1)


async def scored(answers: dict[str, str], examples: list[Example], metric: Metric) -> Run:
    async def infer(example: Example) -> SystemAnswer:
        return said(answers[example.id])

    return await evaluate(infer, examples, metric, name="x", resamples=200)


async def test_an_incumbent_that_is_right_in_seven_of_ten_is_not_reported_faultless() -> None:
    rng, examples, incumbent, other, truth = np.random.default_rng(0), [], {}, {}, {}
    for i in range(450):
        right = LABELS[rng.integers(77)]
        answer = right if rng.uniform() < 0.704 else LABELS[rng.integers(77)]
        verdict = answer == right
        one = Example(id=str(i), split=Split.HOLDOUT, input={"i": i}, messages=(), answer=answer, verdict=verdict)
        examples.append(one)
        incumbent[one.id], truth[one.id] = answer, right
        other[one.id] = right if rng.uniform() < 0.8 else LABELS[rng.integers(77)]
    row = (await scored(incumbent, examples, LabelAccuracy(LABELS))).row
    exact = np.mean([incumbent[i] == truth[i] for i in truth])
    assert row.score is not None
    assert row.score.value == pytest.approx(exact)
    assert (row.known, row.unknown, row.unscorable) == (450, 0, 0)
    candidate = (await scored(other, examples, LabelAccuracy(LABELS))).row
    assert candidate.score is None
    assert candidate.unknown
    assert candidate.bounds is not None
    actual = np.mean([other[i] == truth[i] for i in truth])
    assert candidate.bounds.worst.value < actual < candidate.bounds.best.value < 1.0


def judged(answer: str, *, verdict: bool | None) -> Example:
    return Example(id="e", split=Split.HOLDOUT, input={}, messages=(), answer=answer, verdict=verdict)


@pytest.mark.parametrize(
    ("output", "verdict", "worth"),
    [
        ("intent 1", False, Terms(0.0, 1.0)),
        ("nothing of the kind", False, Terms(0.0, 1.0)),
        ("intent 2", False, Unknown(Terms(0.0, 1.0), Terms(1.0, 1.0))),
        ("intent 2", True, Terms(0.0, 1.0)),
        ("intent 2", None, None),
    ],
)
async def test_a_verdict_says_as_much_as_it_does(output: str, verdict: bool | None, worth: object) -> None:
    assert await LabelAccuracy(LABELS).score(output, judged("intent 1", verdict=verdict)) == worth


async def test_f1_of_an_open_truth_lies_between_its_bounds() -> None:
    metric = LabelF1(LABELS[:3], "intent 0")
    assert await metric.score("intent 0", judged("intent 0", verdict=False)) == Terms(0.0, 1.0)
    assert await metric.score("intent 1", judged("intent 0", verdict=False)) == Terms(0.0, 0.0)
    claimed = await metric.score("intent 0", judged("intent 1", verdict=False))
    assert claimed == Unknown(Terms(0.0, 1.0), Terms(2.0, 2.0))


async def test_faultless_answers_are_not_certain() -> None:
    examples = [judged("intent 1", verdict=True)] * 1
    score = (await scored({"e": "intent 1"}, examples, LabelAccuracy(LABELS))).row.score
    assert score is not None
    assert score.low < 0.5 < score.high == 1.0
    f1 = (await scored({"e": "intent 1"}, examples, LabelF1(LABELS, "intent 1"))).row.score
    assert f1 is not None
    assert f1.low < f1.high
