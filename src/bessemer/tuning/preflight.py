"""What is worth saying about a job's files before it starts. Nothing here stops a job.

Every line answers a complaint that training met too late: too few rows, one answer for everything, contradictions, the
answer given away in the question, a validation file that was trained on, a learning rate that diverges.
"""

import re
from collections.abc import Iterable, Sequence

from bessemer.core.content import canonical_json, sha256_hex
from bessemer.core.types import JSON
from bessemer.feedback.rows import TrainingRow

FEWEST_ROWS = 10
"""OpenAI refuses files with fewer."""
HIGHEST_RATE = 20.0
"""Learning-rate multiplier beyond which runs diverge; measured, 500 did within three steps."""
_MOST_LABELS = 100
_LONGEST_LABEL = 80
_SAMPLED_ROWS = 1000
"""Rows whose texts are kept to look for answers that are given away."""
_GIVEN_AWAY = 0.5


class Survey:
    """What is remembered of a file's rows, in little memory: hashes, a count of short answers, some texts."""

    def __init__(self, fields: Sequence[str] = ()) -> None:
        """`fields`: those of a reinforcement row's item that hold the right answer, as far as its grader reads them."""
        self._fields = fields
        self.rows = 0
        self.empty = 0
        self.answers: dict[str, tuple[str, int]] = {}
        """By hash of the question: hash of its first answer, and its row."""
        self.contradictions: list[tuple[int, int]] = []
        self.labels: dict[str, int] | None = {}
        """How often each answer is given; None when they are no short set."""
        self.sample: list[tuple[str, str]] = []
        """Text and answer of the first rows."""

    def add(self, rows: Iterable[TrainingRow]) -> None:
        """Take in a file's rows."""
        for row in rows:
            self._add(row)

    def _add(self, row: TrainingRow) -> None:
        self.rows += 1
        question = sha256_hex(canonical_json(row.messages))
        answer = _answer(row, self._fields)
        if answer is None:
            self.answers.setdefault(question, ("", row.number))
            self.labels = None
            return
        self.empty += not answer.strip()
        told = sha256_hex(answer.encode(errors="surrogatepass"))
        first, number = self.answers.setdefault(question, (told, row.number))
        if first != told:
            self.contradictions.append((number, row.number))
        if self.labels is not None:
            self.labels[answer] = self.labels.get(answer, 0) + 1
            if len(self.labels) > _MOST_LABELS or len(answer) > _LONGEST_LABEL:
                self.labels = None
        if len(self.sample) < _SAMPLED_ROWS:
            self.sample.append((str(row.messages[-1]["content"]), answer))


def warnings(training: Survey, validation: Survey | None, rate: float | None) -> tuple[str, ...]:
    """Return what a person should know before the job runs; `rate`: the learning-rate multiplier that was asked for."""
    found = [
        _few(training),
        _one_answer(training),
        _contradictory(training),
        _given_away(training),
        f"{training.empty} of {training.rows} training rows have an empty answer." if training.empty else None,
        None if validation is None else _overlapping(training, validation),
        f"The learning-rate multiplier {rate:g} is beyond {HIGHEST_RATE:g}: such runs diverge."
        if rate is not None and rate > HIGHEST_RATE
        else None,
    ]
    return tuple(line for line in found if line is not None)


def _answer(row: TrainingRow, fields: Sequence[str]) -> str | None:
    """Return a row's right answer, None where it has none that can be named."""
    if row.completion is not None:
        return row.completion
    known: JSON = {field: row.item[field] for field in fields if row.item.get(field) is not None}
    texts = list(known.values())
    if len(texts) == 1 and isinstance(texts[0], str):
        return texts[0]
    return canonical_json(known).decode() if known else None


def _few(survey: Survey) -> str | None:
    if survey.rows >= FEWEST_ROWS:
        return None
    return (
        f"Only {survey.rows} training row{'' if survey.rows == 1 else 's'}: OpenAI asks for at least {FEWEST_ROWS}, "
        "and so few are learned by heart."
    )


def _one_answer(survey: Survey) -> str | None:
    if survey.labels is None or len(survey.labels) != 1 or survey.rows < 2:
        return None
    return f"All {survey.rows} training rows have the same answer: the model learns to give it, whatever is asked."


def _contradictory(survey: Survey) -> str | None:
    if not survey.contradictions:
        return None
    pairs = ", ".join(f"{first} and {second}" for first, second in survey.contradictions[:5])
    return f"{len(survey.contradictions)} training rows answer a question otherwise than an earlier row (rows {pairs})."


def _given_away(survey: Survey) -> str | None:
    """Labels alone: an answer that is copied out of its question (a span, a field) is work, not a leak."""
    labels = survey.labels or {}
    if len(labels) < 2 or survey.rows < 2 * len(labels):
        return None
    whole = {label: re.compile(rf"(?<!\w){re.escape(label)}(?!\w)", re.IGNORECASE) for label in labels if label.strip()}
    given = sum(
        [label for label, pattern in whole.items() if pattern.search(text)] == [answer]
        for text, answer in survey.sample
    )
    if given < _GIVEN_AWAY * len(survey.sample):
        return None
    return (
        f"In {given} of {len(survey.sample)} training rows the question names the right label and no other: the "
        "model may learn to copy it."
    )


def _overlapping(training: Survey, validation: Survey) -> str | None:
    shared = training.answers.keys() & validation.answers.keys()
    if not shared:
        return None
    return (
        f"{len(shared)} of {len(validation.answers)} questions of the validation file are in the training file: its "
        "scores say how well they were learned by heart."
    )
