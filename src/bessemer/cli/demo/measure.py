"""Scores answers against what is known to be right: system rows with intervals."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bessemer.client.loop import ApplicationAnswer
from bessemer.core.types import Interval
from bessemer.evals.metrics import Terms, label_terms
from bessemer.evals.statistics import terms_interval
from bessemer.evals.truth import parse_label
from bessemer.flywheel.report import SystemRow

Scorer = Callable[[str, str | None], Terms | None]
"""Terms of the metric for (question id, answer text); None is unscorable."""


def label_scorer(truth: Mapping[str, str], labels: Sequence[str], positive: str) -> Scorer:
    """F1 of the positive label."""

    def score(question: str, text: str | None) -> Terms:
        return label_terms(parse_label(text, labels), truth[question], positive)

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
