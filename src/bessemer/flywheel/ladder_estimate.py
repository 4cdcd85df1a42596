"""What verdicts on shown answers say of a rung that answers otherwise, where a route drew what it showed at random."""

from collections.abc import Sequence

import numpy as np

from bessemer.core.datasets import Example
from bessemer.core.types import Interval
from bessemer.evals.off_policy import off_policy_value
from bessemer.evals.runs import ItemScore

_LEAST = 30
_ERRORS = 4.0
"""Standard errors by which the mean weight may miss 1 before what was shown is taken for no random draw."""


def estimated(
    examples: Sequence[Example], items: Sequence[ItemScore], sure: Sequence[float | None], labels: int, *, seed: int = 0
) -> Interval | None:
    """Return a rung's share of right answers, doubly robust: by its own confidence, corrected where verdicts tell.

    `items`: its answers to the examples; `sure`: P(right) of each as it is calibrated. None where too few verdicts
    have a recorded chance, too few answers agree with what was shown, or the draw cannot have been a random one: the
    weights of answers that agree must sum to the number of items.
    """
    rows = [
        (example, item.answer.text, p)
        for example, item, p in zip(examples, items, sure, strict=True)
        if example.verdict is not None and example.propensity is not None and p is not None
    ]
    if len(rows) < _LEAST or all(example.propensity == 1.0 for example, _, _ in rows):
        return None
    same = np.array([text == example.answer for example, text, _ in rows], dtype=np.float64)
    logged = np.array([example.propensity for example, _, _ in rows], dtype=np.float64)
    weights = same / logged
    if abs(weights.mean() - 1.0) > _ERRORS * weights.std() / len(rows) ** 0.5:
        return None
    own = np.array([p for _, _, p in rows])
    shown = np.where(same > 0, own, (1.0 - own) / max(1, labels - 1))
    right = np.array([bool(example.verdict) for example, _, _ in rows], dtype=np.float64)
    found = off_policy_value(right, logged, same, shown, own, seed=seed)
    return found.dr if found.conclusive else None
