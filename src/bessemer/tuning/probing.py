"""A job's grader is probed on a few of its rows: what deserves nothing but is paid for, reinforcement would find."""

from collections.abc import Callable, Sequence

import msgspec

from bessemer.core.content import canonical_json
from bessemer.core.types import JSON
from bessemer.evals import lint
from bessemer.evals.fields import fields_read
from bessemer.evals.grader import Grader
from bessemer.evals.learned import ItemFeedback
from bessemer.evals.truth import truth
from bessemer.feedback.rows import TrainingRow

_PROBED_ROWS = 5
"""Rows on which a grader is probed before training; a judge model is asked about ten times for each."""

_MOST_SECONDS = 600.0
_SHARE = 0.1


def probing_seconds(limit: float | None) -> float:
    """Return how long probing may take: ten minutes, or a tenth of a job's time limit if that is less."""
    return _MOST_SECONDS if limit is None else min(_MOST_SECONDS, _SHARE * limit)


async def weaknesses(
    grader: Grader, described: JSON, rows: Sequence[TrainingRow], choices: Sequence[str]
) -> tuple[lint.Finding, ...]:
    """Return the grader's weaknesses on the first rows that say what is right.

    That is what feedback says, where the rows hold it; otherwise, of the fields that the grader reads (`described`: its
    JSON), the one that earns most when it is the answer.
    """
    known = [row for row in rows if _right(row.item, choices) is not None][:_PROBED_ROWS]
    reference: Callable[[JSON], str] | None = None
    if known:
        reference = lambda item: _right(item, choices) or ""  # noqa: E731 -- one of two
    else:
        known = list(rows[:_PROBED_ROWS])
        field = await lint.best_reference(grader, [row.item for row in known], fields_read(described))
        if field is not None:
            known = [row for row in known if isinstance(row.item.get(field), str)]
            reference = lambda item: str(item[field])  # noqa: E731
    asked = {id(row.item): str(row.messages[-1]["content"]) for row in known}
    return await lint.adversarial(
        grader,
        [row.item for row in known],
        input_text=lambda item: asked[id(item)],
        reference=reference,
        labels=choices,
        forms=lint.skeletons([canonical_json(described).decode(), *asked.values()]),
    )


def _right(item: JSON, choices: Sequence[str]) -> str | None:
    """Return what feedback says is right; None in a file of the client's own, whose fields may mean something else."""
    try:
        learned = msgspec.convert(item, ItemFeedback)
    except msgspec.ValidationError:
        return None
    return truth(learned.answer, learned.verdict, learned.demonstration, choices)
