"""Scores answers against what is known to be right: system rows with intervals, and quality against escalated share."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bessemer.cli.demo.turn import TurnResult
from bessemer.client import Client, calls
from bessemer.client.loop import ApplicationAnswer
from bessemer.core.inferences import ModelCall
from bessemer.core.paging import InferencesQuery
from bessemer.core.types import JSON, Frozen, Interval
from bessemer.evals.metrics import Terms, attribute_counts, label_terms, parse_attributes
from bessemer.evals.statistics import terms_interval
from bessemer.evals.truth import parse_label
from bessemer.flywheel.report import SystemRow
from bessemer.gateway.cascade import calibrated, raw_score
from bessemer_planner.pages import Series

Scorer = Callable[[str, str | None], Terms | None]
"""Terms of the metric for (question id, answer text); None is unscorable."""


def label_scorer(truth: Mapping[str, str], labels: Sequence[str], positive: str) -> Scorer:
    """F1 of the positive label."""

    def score(question: str, text: str | None) -> Terms:
        return label_terms(parse_label(text, labels), truth[question], positive)

    return score


def attribute_scorer(targets: Mapping[str, JSON]) -> Scorer:
    """Micro-F1 of attributes."""

    def score(question: str, text: str | None) -> Terms:
        return attribute_counts(parse_attributes(text), targets[question]).terms

    return score


def system_row(
    name: str,
    answers: Sequence[ApplicationAnswer],
    score: Scorer,
    *,
    seed: int,
    label: str = "",
    small: str | None = None,
) -> SystemRow:
    """Measure one system on its answers; a failed request is scored like an empty answer.

    `small`: version of the small model, for a route that may answer by it or hand over.
    """
    terms = [score(answer.question, answer.text) for answer in answers]
    known = [term for term in terms if term is not None]
    costs = [answer.cost_usd for answer in answers if answer.error is None]
    versions = {answer.version for answer in answers if answer.version}
    return SystemRow(
        name=name,
        n=len(answers),
        score=interval(known, seed),
        cost_per_1k_usd=None if not costs or None in costs else sum(c for c in costs if c) / len(costs) * 1000,
        label=label or ("recorded" if any(answer.provider == "recorded" for answer in answers) else ""),
        version=versions.pop() if len(versions) == 1 else None,
        small_share=None if small is None else sum(answer.version == small for answer in answers) / len(answers),
        input_tokens=_mean([answer.input_tokens for answer in answers]),
        output_tokens=_mean([answer.output_tokens for answer in answers]),
        latency_p50_s=float(np.median([answer.latency_s for answer in answers])),
        unscorable=len(terms) - len(known),
    )


def trivial_row(questions: Sequence[str], labels: Sequence[str], score: Scorer, *, seed: int) -> SystemRow:
    """Return the best that one answer to everything scores: what is no better has learned nothing."""
    rows = [
        said_row(f"always {label!r} (trivial)", questions, [label] * len(questions), score, seed=seed, cost=0.0)
        for label in labels
    ]
    return max(rows, key=lambda row: row.score.value if row.score else -1.0)


def said_row(
    name: str, questions: Sequence[str], said: Sequence[str], score: Scorer, *, seed: int, cost: float | None = None
) -> SystemRow:
    """Score what was said to each question by what is no served model."""
    terms = [
        term for question, text in zip(questions, said, strict=True) if (term := score(question, text)) is not None
    ]
    return SystemRow(name=name, n=len(questions), score=interval(terms, seed), cost_per_1k_usd=cost)


def interval(terms: Sequence[Terms], seed: int) -> Interval | None:
    """Return the metric with its interval; None when nothing counts."""
    if not terms or not sum(term.denominator for term in terms):
        return None
    return terms_interval(np.array(terms, dtype=np.float64), seed=seed)


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


class Small(Frozen, frozen=True):
    """What the small model said in a cascade, as if it had been asked alone, and how sure it was."""

    answer: ApplicationAnswer
    confidence: float
    """0, below every calibrated one, where the answer failed or shows none: such an answer is never taken."""

    @property
    def text(self) -> str | None:
        """Its answer."""
        return self.answer.text


def small_answers(client: Client, outcome: TurnResult, route: str, questions: Sequence[str]) -> dict[str, Small]:
    """Read the small model's own answers of the final pass from the recorded inferences, newest first.

    They are the first calls of the cascade on `route`, or, where no cascade came into force, those of the tuned version
    itself; failed ones count, as an answer without text. None without a calibration.
    """
    if outcome.cascade is None:
        return {}
    calibration = outcome.cascade.calibration
    route = route if outcome.cascade.applied else outcome.versions["tuned"]
    wanted = set(questions)
    found: dict[str, Small] = {}
    rows = client.each(calls.list_inferences(InferencesQuery(route=route, limit=500)))
    for row in rows:
        question = row.tags.get("question")
        if question is None or question not in wanted or question in found:
            continue
        if row.tags.get("origin") != "final" or not row.calls or row.calls[0].version != outcome.versions["tuned"]:
            continue
        call = row.calls[0]
        score = raw_score(calibration.score, call)
        sure = 0.0 if score is None else calibrated(calibration, score)
        found[question] = Small(answer=_first_call(question, call), confidence=sure)
        if len(found) == len(wanted):
            break
    return found


def _first_call(question: str, call: ModelCall) -> ApplicationAnswer:
    return ApplicationAnswer(
        question=question,
        inference_id=call.inference_id,
        text=call.output,
        version=call.version,
        provider=call.provider,
        cost_usd=call.cost_usd,
        escalated=None,
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        latency_s=call.latency_s,
        error=call.error,
    )


def quality_curve(
    small: Mapping[str, Small], large: Mapping[str, str | None], score: Scorer, *, seed: int, points: int = 20
) -> Series | None:
    """Return quality over the share of requests that goes to the large model, the least confident first.

    Only questions that both models answered count; None without any.
    """
    both = sorted((question for question in small if question in large), key=lambda q: small[q].confidence)
    pairs = [(score(q, small[q].text), score(q, large[q])) for q in both]
    rows = [(s, b) for s, b in pairs if s is not None and b is not None]
    if not rows:
        return None
    line: list[tuple[float, float]] = []
    low: list[float] = []
    high: list[float] = []
    for step in range(points + 1):
        count = round(step / points * len(rows))
        measured = interval([b for _, b in rows[:count]] + [s for s, _ in rows[count:]], seed)
        if measured is not None:
            line.append((step / points, measured.value))
            low.append(measured.low)
            high.append(measured.high)
    return Series(name="cascade, any threshold", points=tuple(line), low=tuple(low), high=tuple(high))
