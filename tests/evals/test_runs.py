"""Evaluation runs: scores, what stays unscorable, resuming, bounded concurrency, defects."""

import asyncio

import pytest

from bessemer.core.datasets import Example, Split
from bessemer.core.errors import ProviderError, RateLimited
from bessemer.evals.graders import build
from bessemer.evals.measures import AttributeF1, GraderReward, LabelAccuracy, LabelF1, Metric
from bessemer.evals.runs import ItemScore, Run, SystemAnswer, evaluate

LABELS = ("Yes", "No")


def example(number: int, answer: str = "Yes", verdict: bool | None = True, **fields: object) -> Example:
    return Example(
        id=f"e{number}",
        split=Split.HOLDOUT,
        input={"question": str(number)},
        messages=(),
        answer=answer,
        verdict=verdict,
        **fields,  # type: ignore[arg-type]
    )


def said(text: str | None, cost: float | None = 0.5) -> SystemAnswer:
    return SystemAnswer(
        text=text,
        version="m@1",
        cost_usd=cost,
        input_tokens=10,
        output_tokens=1,
        latency_s=0.25,
        provider="local",
    )


async def always_yes(_: Example) -> SystemAnswer:
    return said("Yes")


async def run(metric: Metric, examples: list[Example], **options: object) -> Run:
    return await evaluate(always_yes, examples, metric, name="yes", resamples=200, **options)  # type: ignore[arg-type]


async def test_row() -> None:
    examples = [example(0), example(1, "No"), example(2, "Yes", False), example(3, verdict=None)]
    row = (await run(LabelF1(LABELS, "Yes"), examples)).row
    assert (row.n, row.unscorable, row.version, row.provider) == (4, 1, "m@1", "local")
    assert row.score is not None
    assert row.score.value == pytest.approx(2 * 1 / (3 + 1))
    assert (row.cost_usd, row.input_tokens, row.output_tokens) == (2.0, 40, 4)
    assert (row.latency_p50_s, row.latency_p95_s) == (0.25, 0.25)


async def test_metrics_of_other_kinds() -> None:
    examples = [example(0), example(1, "No")]
    accuracy = (await run(LabelAccuracy(LABELS), examples)).row.score
    assert accuracy is not None
    assert accuracy.value == 0.5
    with build({"type": "feedback", "labels": list(LABELS)}) as grader:
        rewarded = (await run(GraderReward(grader), examples)).row.score
    assert rewarded is not None
    assert rewarded.value == 0.5
    attributes = AttributeF1()
    target = example(0, demonstration='{"Brand": "Acme", "Size": "10"}')
    assert await attributes.score('{"Brand": "Acme"}', target) == (2.0, 3.0)
    assert await attributes.score("no json", target) == (0.0, 2.0)
    assert await attributes.score("{}", example(0, "not json")) is None


async def test_failed_answers_are_unscorable_not_zero() -> None:
    async def sometimes(item: Example) -> SystemAnswer:
        if item.id == "e1":
            raise ProviderError("the upstream is down")
        return said("Yes", cost=None)

    done = await evaluate(sometimes, [example(0), example(1)], LabelAccuracy(LABELS), name="x", resamples=100)
    assert done.row.unscorable == 1
    assert done.row.score is not None
    assert done.row.score.value == 1.0
    assert done.row.cost_usd is None
    assert done.items[1].terms is None
    assert "upstream is down" in (done.items[1].answer.error or "")


async def test_nothing_scored_has_no_score() -> None:
    row = (await run(LabelAccuracy(LABELS), [example(0, verdict=None)])).row
    assert (row.score, row.unscorable) == (None, 1)
    assert (await run(LabelAccuracy(LABELS), [])).row.n == 0


async def test_resuming_asks_only_what_is_missing_and_ends_the_same() -> None:
    examples = [example(i, "Yes" if i % 3 else "No") for i in range(20)]
    metric, asked = LabelF1(LABELS, "Yes"), list[str]()
    saved: dict[str, ItemScore] = {}
    whole = await run(metric, examples)

    async def counting(item: Example) -> SystemAnswer:
        asked.append(item.id)
        return said("Yes")

    def save(item: ItemScore) -> None:
        saved[item.id] = item
        if len(saved) == 7:
            raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        await evaluate(counting, examples, metric, name="yes", on_item=save, concurrency=1, resamples=200)
    asked.clear()
    seen: list[tuple[int, int]] = []
    again = await evaluate(
        counting, examples, metric, name="yes", done=saved, progress=lambda d, n: seen.append((d, n)), resamples=200
    )
    assert len(asked) == 13
    assert seen[0] == (7, 20)
    assert seen[-1] == (20, 20)
    assert again == whole


async def test_what_failed_before_is_asked_again() -> None:
    async def limited(item: Example) -> SystemAnswer:
        if item.id == "e1":
            raise RateLimited("not now")
        return said("Yes")

    examples, metric = [example(0), example(1)], LabelAccuracy(LABELS)
    first = await evaluate(limited, examples, metric, name="yes", resamples=200)
    assert first.row.unscorable == 1
    again = await run(metric, examples, done={item.id: item for item in first.items})
    assert again == await run(metric, examples)


async def test_concurrency_is_bounded_and_order_kept() -> None:
    now = most = 0

    async def slow(item: Example) -> SystemAnswer:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001 * (30 - int(item.id[1:])) / 10)
        now -= 1
        return said("Yes")

    examples = [example(i) for i in range(30)]
    done = await evaluate(slow, examples, LabelAccuracy(LABELS), name="x", concurrency=4, resamples=100)
    assert most == 4
    assert [item.id for item in done.items] == [item.id for item in examples]


async def test_defects_are_raised() -> None:
    async def broken(_: Example) -> SystemAnswer:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await evaluate(broken, [example(0)], LabelAccuracy(LABELS), name="x")


def test_the_positive_label_is_one_of_the_labels() -> None:
    with pytest.raises(ValueError, match="positive"):
        LabelF1(LABELS, "Maybe")
