"""Feedback on inferences and episodes. An inference that is not written yet may already have some."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, and_, func, select

from bessemer.core.errors import NotFound
from bessemer.core.feedback import Feedback
from bessemer.core.inferences import Inference
from bessemer.store import paging
from bessemer.store.database import Database, insert_new
from bessemer.store.inferences import AUDITED
from bessemer.store.schema import feedback, inferences

_IDS_PER_QUERY = 500


def insert_rows(connection: Connection, rows: Sequence[Feedback]) -> None:
    """Append feedback within a transaction; known ids are left alone."""
    insert_new(
        connection,
        feedback,
        [
            {
                "id": row.id,
                "created_at": row.created_at,
                "inference_id": row.inference_id,
                "episode_id": row.episode_id,
                "metric": row.metric,
                "body": paging.encode(row),
                "project_id": row.project_id,
            }
            for row in rows
        ],
    )


def get(database: Database, feedback_id: str) -> Feedback:
    """Return one feedback. Raises NotFound."""
    statement = select(feedback.c.body).where(feedback.c.id == feedback_id, paging.mine(database, feedback))
    body = database.read(lambda connection: connection.execute(statement).scalar_one_or_none())
    if body is None:
        raise NotFound(f"There is no feedback {feedback_id!r}.", param="feedback_id")
    return paging.decode(Feedback, body)


def newest_id(database: Database) -> str | None:
    """Return the id of what arrived last in any project: ids grow in the order of arrival."""
    statement = select(func.max(feedback.c.id))
    newest: str | None = database.read(lambda connection: connection.execute(statement).scalar_one())
    return newest


def for_inferences(database: Database, ids: Sequence[str]) -> dict[str, list[Feedback]]:
    """Return the feedback given to each inference itself, oldest first; inferences without any are left out."""
    return _grouped(database, feedback.c.inference_id, ids)


def for_episodes(database: Database, ids: Sequence[str]) -> dict[str, list[Feedback]]:
    """Return the feedback given to each episode as a whole, oldest first; episodes without any are left out."""
    return _grouped(database, feedback.c.episode_id, ids)


def find(
    database: Database,
    *,
    metric: str | None = None,
    since: float | None = None,
    inference_id: str | None = None,
    limit: int | None = 100,
    after: str | None = None,
) -> list[Feedback]:
    """Return feedback, newest first; `since` is inclusive; limit None: all."""
    statement = select(feedback.c.body)
    if metric is not None:
        statement = statement.where(feedback.c.metric == metric)
    if since is not None:
        statement = statement.where(feedback.c.created_at >= since)
    if inference_id is not None:
        statement = statement.where(feedback.c.inference_id == inference_id)
    within = paging.mine(database, feedback)
    rows = database.read(lambda c: paging.page(c, feedback, statement, within=within, after=after, limit=limit))
    return [paging.decode(Feedback, row.body) for row in rows]


class AuditedFeedback(NamedTuple):
    """Feedback on a request that the audit of its route drew, and that request without its calls."""

    said: Feedback
    asked: Inference


def on_audited(
    database: Database, route: str, since: float, metrics: Sequence[str], *, after: str = ""
) -> list[AuditedFeedback]:
    """Return the feedback on what a route's audit drew of the requests since a moment, in order of arrival, after an id
    of feedback.
    """
    columns = (feedback.c.body.label("said"), inferences.c.body.label("asked"))
    statement = select(*columns).join(inferences, _SAME).where(*_audited(database, route, since, metrics))
    ordered = statement.where(feedback.c.id > after).order_by(feedback.c.id)
    rows = database.read(lambda connection: connection.execute(ordered).all())
    found = (AuditedFeedback(paging.decode(Feedback, row.said), paging.decode(Inference, row.asked)) for row in rows)
    return [one for one in found if one.asked.asked is not None]


def ids_on_audited(database: Database, route: str, since: float, metrics: Sequence[str], *, until: str) -> list[str]:
    """Return the ids of that feedback up to one, which counts."""
    statement = select(feedback.c.id).join(inferences, _SAME).where(*_audited(database, route, since, metrics))
    within = statement.where(feedback.c.id <= until).order_by(feedback.c.id)
    return database.read(lambda connection: list(connection.execute(within).scalars()))


_SAME = and_(inferences.c.id == feedback.c.inference_id, inferences.c.project_id == feedback.c.project_id)


def _audited(database: Database, route: str, since: float, metrics: Sequence[str]) -> list[ColumnElement[bool]]:
    return [
        paging.mine(database, feedback),
        inferences.c.route == route,
        inferences.c.created_at >= since,
        inferences.c.body.contains(AUDITED, autoescape=True),
        feedback.c.metric.in_(metrics),
    ]


def _grouped(database: Database, column: Column[Any], ids: Sequence[str]) -> dict[str, list[Feedback]]:
    mine = paging.mine(database, feedback)

    def work(connection: Connection) -> dict[str, list[Feedback]]:
        groups: dict[str, list[Feedback]] = defaultdict(list)
        for start in range(0, len(ids), _IDS_PER_QUERY):
            statement = (
                select(column.label("subject"), feedback.c.body)
                .where(column.in_(ids[start : start + _IDS_PER_QUERY]), mine)
                .order_by(feedback.c.id)
            )
            for row in connection.execute(statement):
                groups[row.subject].append(paging.decode(Feedback, row.body))
        return dict(groups)

    return database.read(work)
