"""Evaluation runs: ask a system every example, score the answers, summarise with intervals.

Resumable: items answered before are passed in and not asked again; where the answer failed, another try may help. An
answer that failed or cannot be scored stays in the record with its error, is counted as unscorable, and never stands as
zero. Where the truth is open (`metrics.Unknown`) there is no score, but what it is at worst and at best.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Self

import numpy as np

from bessemer.core.datasets import Example
from bessemer.core.errors import BessemerError
from bessemer.core.evaluations import Bounds, EvaluationRow
from bessemer.core.totals import count, total
from bessemer.core.types import Frozen, Interval
from bessemer.evals.measures import Metric
from bessemer.evals.metrics import Terms, Unknown
from bessemer.evals.statistics import terms_interval


class SystemAnswer(Frozen, frozen=True):
    """What a system said to one example, and what that took."""

    text: str | None
    version: str | None
    cost_usd: float | None
    input_tokens: int | None
    output_tokens: int | None
    latency_s: float
    provider: str | None = None
    score: float | None = None
    """Raw confidence score of the first step."""
    confidence: float | None = None
    accepted: bool | None = None
    """Whether the first step of a cascade answered."""
    inference_id: str | None = None
    temperature: float | None = None
    error: str | None = None


class ItemScore(Frozen, frozen=True):
    """One example's answer with its terms; None terms are unscorable."""

    id: str
    answer: SystemAnswer
    numerator: float | None = None
    denominator: float | None = None
    unknown: Unknown | None = None

    @classmethod
    def of(cls, example: str, answer: SystemAnswer, score: Terms | Unknown | None) -> Self:
        """Return the item with what a metric made of its answer."""
        if isinstance(score, Terms):
            return cls(id=example, answer=answer, numerator=score.numerator, denominator=score.denominator)
        return cls(id=example, answer=answer, unknown=score)

    @property
    def score(self) -> Terms | Unknown | None:
        """What the metric made of the answer."""
        return self.terms or self.unknown

    @property
    def terms(self) -> Terms | None:
        """The item's part of the metric."""
        if self.numerator is None or self.denominator is None:
            return None
        return Terms(self.numerator, self.denominator)


class Run(Frozen, frozen=True):
    """A finished evaluation: its summary, and every item in the order of the examples."""

    row: EvaluationRow
    items: tuple[ItemScore, ...]

    @property
    def terms(self) -> tuple[Terms | None, ...]:
        """Terms by item, for gates and paired comparisons."""
        return tuple(item.terms for item in self.items)


Infer = Callable[[Example], Awaitable[SystemAnswer]]


def _nothing(*_: object) -> None:
    return


async def _answer(infer: Infer, example: Example) -> SystemAnswer:
    try:
        return await infer(example)
    except BessemerError as error:
        return SystemAnswer(
            text=None,
            version=None,
            cost_usd=None,
            input_tokens=None,
            output_tokens=None,
            latency_s=0.0,
            error=f"{type(error).__name__}: {error.message}",
        )


async def evaluate(
    infer: Infer,
    examples: Sequence[Example],
    metric: Metric,
    *,
    name: str,
    concurrency: int = 8,
    done: Mapping[str, ItemScore] | None = None,
    progress: Callable[[int, int], None] = _nothing,
    on_item: Callable[[ItemScore], None] = _nothing,
    seed: int = 0,
    resamples: int = 10_000,
) -> Run:
    """Evaluate one system on examples; see `collect`."""
    items = await collect(
        infer, examples, metric, concurrency=concurrency, done=done, progress=progress, on_item=on_item
    )
    return Run(row=summarise(items, name=name, seed=seed, resamples=resamples), items=items)


async def collect(
    infer: Infer,
    examples: Sequence[Example],
    metric: Metric,
    *,
    concurrency: int = 8,
    done: Mapping[str, ItemScore] | None = None,
    progress: Callable[[int, int], None] = _nothing,
    on_item: Callable[[ItemScore], None] = _nothing,
) -> tuple[ItemScore, ...]:
    """Ask a system examples, at most `concurrency` at a time, and score its answers; in the order of the examples.

    `done` holds items of an earlier start, by example id; those that failed are asked again. `on_item` is called with
    each new one (to save it), `progress` with (finished, all). A BessemerError of `infer` becomes that item's error;
    anything else is raised, what `progress` raises included.
    """
    found = {id: item for id, item in (done or {}).items() if item.answer.error is None}
    waiting = [example for example in examples if example.id not in found]
    finished = len(examples) - len(waiting)
    progress(finished, len(examples))

    async def one(example: Example) -> None:
        nonlocal finished
        answer = await _answer(infer, example)
        score = None if answer.text is None else await metric.score(answer.text, example)
        item = ItemScore.of(example.id, answer, score)
        found[example.id] = item
        on_item(item)
        finished += 1
        progress(finished, len(examples))

    await for_each(one, waiting, concurrency)
    return tuple(found[example.id] for example in examples)


async def for_each(one: Callable[[Example], Awaitable[None]], examples: Sequence[Example], concurrency: int) -> None:
    """Run `one` over examples, at most `concurrency` at a time; the first error cancels the rest and is raised."""
    queue = iter(examples)

    async def work() -> None:
        for example in queue:
            await one(example)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(examples))):
                group.create_task(work())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None  # its name is what a job tells its client


def summarise(items: Sequence[ItemScore], *, name: str, seed: int = 0, resamples: int = 10_000) -> EvaluationRow:
    """Return the summary row.

    The score is None when nothing counts, and when any item's truth is open: then the row has its bounds. Cost and
    tokens are None where any item's are not known.
    """
    terms = [term for item in items if (term := item.terms) is not None]
    unknown = [item.unknown for item in items if item.unknown is not None]
    latencies = [item.answer.latency_s for item in items if item.answer.error is None]
    versions = {item.answer.version for item in items if item.answer.version is not None}
    temperatures = {item.answer.temperature for item in items if item.answer.error is None}
    providers = {item.answer.provider for item in items if item.answer.provider is not None}
    p50, p95 = (float(q) for q in np.quantile(latencies, [0.5, 0.95])) if latencies else (None, None)
    return EvaluationRow(
        name=name,
        version=versions.pop() if len(versions) == 1 else None,
        n=len(items),
        unscorable=len(items) - len(terms) - len(unknown),
        score=None if unknown else _score(terms, seed, resamples),
        known=len(terms),
        unknown=len(unknown),
        bounds=_bounds(terms, unknown, seed, resamples),
        cost_usd=total([item.answer.cost_usd for item in items]) if items else None,
        input_tokens=count([item.answer.input_tokens for item in items]),
        output_tokens=count([item.answer.output_tokens for item in items]),
        latency_p50_s=p50,
        latency_p95_s=p95,
        provider=providers.pop() if len(providers) == 1 else None,
        temperature=temperatures.pop() if len(temperatures) == 1 else None,
    )


def _score(terms: Sequence[Terms], seed: int, resamples: int) -> Interval | None:
    if not any(term.denominator for term in terms):
        return None
    return terms_interval(np.array(terms, dtype=np.float64), seed=seed, resamples=resamples)


def _bounds(terms: Sequence[Terms], unknown: Sequence[Unknown], seed: int, resamples: int) -> Bounds | None:
    worst = _score([*terms, *(one.worst for one in unknown)], seed, resamples)
    best = _score([*terms, *(one.best for one in unknown)], seed, resamples)
    return Bounds(worst=worst, best=best) if unknown and worst is not None and best is not None else None
