"""What the small model of a cascade said by itself, by the recorded inferences; quality against escalated share."""

from collections.abc import Mapping, Sequence

from bessemer.cli.demo.measure import Scorer, interval
from bessemer.client import Client, calls
from bessemer.client.loop import ApplicationAnswer
from bessemer.core.inferences import ModelCall
from bessemer.core.paging import InferencesQuery
from bessemer.core.types import JSON, Frozen
from bessemer.evals.metrics import Terms, attribute_counts, parse_attributes
from bessemer.gateway.cascade import calibrated, raw_score
from bessemer_planner.pages import Series
from lab.turn import TurnResult


def attribute_scorer(targets: Mapping[str, JSON]) -> Scorer:
    """Micro-F1 of attributes."""

    def score(question: str, text: str | None) -> Terms:
        return attribute_counts(parse_attributes(text), targets[question]).terms

    return score


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
