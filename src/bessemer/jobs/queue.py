"""Which job runs next. Lanes run beside each other, each one job at a time; inside a lane keys take turns.

Only one job of a lane is handed to the workflow library at a time, so that the choice is made when there is room, not
when a job arrives: a key with two hundred jobs in the queue holds another key's job back by one job, not by all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bessemer.store.job_rows import JobRow


@dataclass
class Turns:
    """Whose turn it is in a lane. Kept in memory: a restarted worker begins the round anew."""

    _served: dict[str | None, int] = field(default_factory=dict)
    """By key: the turn in which one of its jobs was chosen last."""
    _turn: int = 0

    def choose(self, waiting: Sequence[JobRow]) -> JobRow | None:
        """Return the oldest job of the key that has waited longest for a turn; None when none waits."""
        oldest: dict[str | None, JobRow] = {}
        for row in waiting:
            if row.key_id not in oldest or _age(row) < _age(oldest[row.key_id]):
                oldest[row.key_id] = row
        if not oldest:
            return None
        chosen = min(oldest.values(), key=lambda row: (self._served.get(row.key_id, -1), *_age(row)))
        self._served[chosen.key_id] = self._turn
        self._turn += 1
        return chosen


def _age(row: JobRow) -> tuple[float, str]:
    return row.created_at, row.id
