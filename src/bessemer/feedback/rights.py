"""Who may judge what: a key its own inferences, a reviewer's key all of the project.

Checked when feedback comes and once more when it is joined: an inference may still be on its way to the database when
it is judged, an episode is named by whoever writes its name, and rows of earlier releases were never checked.
"""

from collections.abc import Container, Mapping, Sequence

import msgspec

from bessemer.core.errors import NotFound, StoreError
from bessemer.core.types import Action, Feedback, Inference, Principal
from bessemer.store import inferences, keys
from bessemer.store.database import Database
from bessemer.store.writer import Writer

_PATIENCE_S = 2.0


def check_asked(principal: Principal, inference_id: str, asker: Principal) -> None:
    """Refuse feedback on another key's inference as if it were not there. Raises NotFound."""
    reviewer = principal.may(Action.CONTRIBUTE)
    if asker.project_id != principal.project_id or not (reviewer or asker.key_id == principal.key_id):
        raise _unknown(inference_id, reviewer=reviewer)


def check_stored(database: Database, writer: Writer, inference_id: str, principal: Principal) -> None:
    """Do as `check_asked` for an inference that only the database can know. Blocking.

    While the database is away it cannot be asked: what is taken then counts when it is joined, or not. Raises NotFound.
    """
    try:
        asked_by = inferences.key_of(database, inference_id)
        if asked_by is None:
            if not writer.flush(_PATIENCE_S):
                return
            asked_by = inferences.key_of(database, inference_id)
    except StoreError:
        return
    reviewer = principal.may(Action.CONTRIBUTE)
    if asked_by is None or not (reviewer or asked_by == principal.key_id):
        raise _unknown(inference_id, reviewer=reviewer)


def _unknown(inference_id: str, *, reviewer: bool) -> NotFound:
    whose = "" if reviewer else " of this key"
    return NotFound(f"There is no inference {inference_id!r}{whose}.", param="inference_id")


def admissible(
    database: Database, asked: Sequence[Inference], feedback: Mapping[str, Sequence[Feedback]]
) -> dict[str, list[Feedback]]:
    """Return, of the feedback on each inference, what its giver had a right to, each marked as a reviewer's or not."""
    reviewers = {key.id for key in keys.find(database) if Action.CONTRIBUTE in key.role.actions}
    found: dict[str, list[Feedback]] = {}
    for one in asked:
        rows = [_marked(row, reviewers) for row in feedback.get(one.id, ())]
        found[one.id] = [row for row in rows if row.reviewer or row.key_id == one.key_id]
    return found


def _marked(row: Feedback, reviewers: Container[str]) -> Feedback:
    """Return the feedback; in a row of an earlier release, trust was what its client claimed."""
    if row.reviewer is not None:
        return row
    return msgspec.structs.replace(row, reviewer=row.key_id in reviewers, claimed_trust=row.trust, trust=1.0)
