"""Who may judge what: a key its own inferences, a reviewer's key all of the project.

Checked when feedback comes and once more when it is joined: an inference may still be on its way to the database when
it is judged, an episode is named by whoever writes its name, and rows of earlier releases were never checked.
"""

from collections.abc import Container, Mapping, Sequence

import msgspec

from bessemer.core.access import Action, Principal, Resource, ResourceKind, project
from bessemer.core.errors import NotFound, StoreError
from bessemer.core.feedback import Feedback
from bessemer.core.inferences import Inference
from bessemer.identity.keys import principal_of
from bessemer.identity.policy import Policy
from bessemer.store import inferences, keys
from bessemer.store.database import Database
from bessemer.store.writer import Writer

_PATIENCE_S = 2.0


def check_asked(policy: Policy, principal: Principal, inference_id: str, asker: Principal) -> None:
    """Refuse feedback on another key's inference as if it were not there. Raises NotFound."""
    _check(policy, principal, _inference(inference_id, asker.project_id, asker.key_id), inference_id)


def check_stored(database: Database, writer: Writer, policy: Policy, inference_id: str, principal: Principal) -> None:
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
    asked = None if asked_by is None else _inference(inference_id, database.owner, asked_by)
    _check(policy, principal, asked, inference_id)


def _inference(inference_id: str, project_id: str, made_by: str) -> Resource:
    return Resource(kind=ResourceKind.INFERENCE, id=inference_id, project_id=project_id, made_by=made_by)


def _check(policy: Policy, principal: Principal, asked: Resource | None, inference_id: str) -> None:
    """Refuse what is not there (None) and what the principal may not judge in the same words."""
    if asked is not None and policy.decide(principal, Action.FEEDBACK_WRITE, asked).allowed:
        return
    whose = "" if _reviews(policy, principal) else " of this key"
    raise NotFound(f"There is no inference {inference_id!r}{whose}.", param="inference_id")


def _reviews(policy: Policy, principal: Principal) -> bool:
    return policy.decide(principal, Action.FEEDBACK_REVIEW, project(principal.project_id)).allowed


def admissible(
    database: Database, policy: Policy, asked: Sequence[Inference], feedback: Mapping[str, Sequence[Feedback]]
) -> dict[str, list[Feedback]]:
    """Return, of the feedback on each inference, what its giver had a right to, each marked as a reviewer's or not."""
    reviewers = {key.id for key in keys.find(database) if _reviews(policy, principal_of(key))}
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
