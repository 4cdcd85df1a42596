"""Results of evaluations."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import select

from bessemer.core.errors import NotFound
from bessemer.core.evaluations import Evaluation
from bessemer.core.types import JSON
from bessemer.store import paging
from bessemer.store.database import Database, insert_new
from bessemer.store.schema import evaluations


def insert(database: Database, evaluation: Evaluation) -> None:
    """Append one evaluation; a known id is left alone."""
    values = {
        "id": evaluation.id,
        "created_at": evaluation.created_at,
        "dataset": evaluation.dataset,
        "body": paging.encode(evaluation),
        "project_id": database.owner,
    }
    database.write(lambda connection: insert_new(connection, evaluations, [values]))


def get(database: Database, evaluation_id: str) -> Evaluation:
    """Return one evaluation. Raises NotFound."""
    statement = select(evaluations.c.body).where(evaluations.c.id == evaluation_id, paging.mine(database, evaluations))
    body = database.read(lambda connection: connection.execute(statement).scalar_one_or_none())
    if body is None:
        raise NotFound(f"There is no evaluation {evaluation_id!r}.", param="evaluation")
    return paging.decode(Evaluation, body)


def results(database: Database, ids: Sequence[str]) -> dict[str, JSON]:
    """Return the bodies of those of these evaluations that there are, by id."""
    statement = select(evaluations.c.id, evaluations.c.body).where(
        evaluations.c.id.in_(ids), paging.mine(database, evaluations)
    )
    rows = database.read(lambda connection: connection.execute(statement).all()) if ids else []
    return {row.id: msgspec.json.decode(row.body) for row in rows}


def find(
    database: Database, *, dataset: str | None = None, limit: int | None = 100, after: str | None = None
) -> list[Evaluation]:
    """Return evaluations, newest first."""
    statement = select(evaluations.c.body)
    if dataset is not None:
        statement = statement.where(evaluations.c.dataset == dataset)
    within = paging.mine(database, evaluations)
    rows = database.read(lambda c: paging.page(c, evaluations, statement, within=within, after=after, limit=limit))
    return [paging.decode(Evaluation, row.body) for row in rows]


def gated(database: Database, candidate: str) -> list[Evaluation]:
    """Return every evaluation whose gate decided about a version, newest first, however many others there are."""
    mentions = evaluations.c.body.contains(f'"candidate":{msgspec.json.encode(candidate).decode()}', autoescape=True)
    statement = select(evaluations.c.body).where(mentions)
    within = paging.mine(database, evaluations)
    rows = database.read(lambda c: paging.page(c, evaluations, statement, within=within, after=None, limit=None))
    found = [paging.decode(Evaluation, row.body) for row in rows]
    return [one for one in found if one.gate is not None and one.gate.candidate == candidate]
