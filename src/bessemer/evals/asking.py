"""Which requests to ask feedback on: a random audit, and a query of those that teach most.

The audit draws accepted requests at random with a stored P(asked): the only source for calibration, monitors and gates.
The query picks for learning alone, and would bias whatever is measured on it. A request that both drew is the audit's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bessemer.core.feedback import Asked, Stream

Array = npt.NDArray[np.float64]


class RowUses(NamedTuple):
    """Places of rows by what they may be used for."""

    fitting: npt.NDArray[np.intp]
    measuring: npt.NDArray[np.intp]
    """Calibration, thresholds, monitors and gates."""
    weights: Array
    """[measuring] of how much of the traffic each stands for: the smallest P(asked) over its own, at most 1."""


def query_score(handed_over: npt.ArrayLike, cost_saved: npt.ArrayLike, density: npt.ArrayLike) -> Array:
    """P(handed over now) · cost saved if it were learned · density: what a label is worth, [n].

    `handed_over` in [0, 1]: nearness to the threshold, disagreement of rungs (`disagreement`), or both; `density` in
    [0, 1]: how much of the traffic is alike.
    """
    chance, saved, near = (np.asarray(part, dtype=np.float64) for part in (handed_over, cost_saved, density))
    if ((chance < 0) | (chance > 1)).any() or (saved < 0).any() or (near < 0).any():
        raise ValueError("chances lie in [0, 1], what is saved and densities are at least 0")
    return chance * saved * near


def disagreement(answers: npt.ArrayLike) -> Array:
    """Return the vote entropy of a committee's answers [n, rungs] (labels as integers), 0 to 1 (Dagan & Engelson 1995).

    1: every member says something else.
    """
    votes = np.asarray(answers)
    n, members = votes.shape
    if members < 2:
        return np.zeros(n)
    same = (votes[:, :, None] == votes[:, None, :]).mean(axis=2)
    return np.asarray(-np.log(same).mean(axis=1) / np.log(members))


def queries(scores: npt.ArrayLike, clusters: npt.ArrayLike, budget: int, taken: Sequence[int] = ()) -> list[int]:
    """Return places of at most `budget` requests to ask about: the best of each cluster, the best clusters first.

    `clusters` [n]: integers of whatever groups alike requests; one of each, so that a batch does not ask the same thing
    many times. `taken`: places that the audit drew; they are not asked twice. A score of 0 is not asked.
    """
    value, group = np.asarray(scores, dtype=np.float64), np.asarray(clusters)
    if value.shape != group.shape:
        raise ValueError("every request needs a score and a cluster")
    left = set(range(len(value))) - set(taken)
    found: list[int] = []
    seen: set[int] = set()
    for place in np.argsort(-value, kind="stable").tolist():
        if len(found) >= budget:
            break
        if place in left and value[place] > 0 and int(group[place]) not in seen:
            seen.add(int(group[place]))
            found.append(place)
    return found


def uses(rows: Sequence[Asked | None]) -> RowUses:
    """Sort rows with feedback by what they may be used for.

    Audited ones are measured on, weighted by their chances, and never fitted on. Queried ones, and feedback that nobody
    asked for (None), are fitted on and never measured on.
    """
    audit = [(place, row.chance) for place, row in enumerate(rows) if row and row.stream is Stream.AUDIT]
    chances = np.array([chance for _, chance in audit], dtype=np.float64)
    measuring = np.array([place for place, _ in audit], dtype=np.intp)
    fitting = np.setdiff1d(np.arange(len(rows), dtype=np.intp), measuring)
    return RowUses(fitting, measuring, chances.min() / chances if len(chances) else chances)
