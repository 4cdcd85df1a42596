"""Inferences with their model calls."""

import math
from collections import defaultdict
from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, Select, func, select

from bessemer.core.errors import NotFound
from bessemer.core.inferences import Inference, ModelCall
from bessemer.core.pieces import in_pieces, is_large, text_of
from bessemer.store import paging, usage
from bessemer.store.database import Database, insert_new, insert_telling
from bessemer.store.schema import inferences, model_calls

_IDS_PER_QUERY = 500
"""Well below the bound-parameter limits of both databases."""


AUDITED = '"asked":{"stream":"audit"'
"""In the body of what an audit drew; rarely in another."""
_LEAST_LOGPROB = -9999.0
"""Stands for a log-probability of minus infinity, which JSON cannot write; OpenAI's API uses the same number."""


def storable(row: Inference) -> Inference:
    """Return the inference with every log-probability as a number that JSON can write; itself when they all are."""
    if all(map(_is_finite, row.calls)):
        return row
    return msgspec.structs.replace(row, calls=tuple(map(_with_finite_logprobs, row.calls)))


def is_long(noun: Inference | ModelCall) -> bool:
    """Return whether its texts take long to write, see `bessemer.core.pieces`."""
    asked = (noun.messages, noun.input, noun.tools) if isinstance(noun, Inference) else ()
    called = [call.arguments for call in noun.tool_calls]
    return is_large(*asked, noun.output, noun.reasoning, noun.refusal, called)


def insert_rows(connection: Connection, rows: Sequence[Inference]) -> None:
    """Append inferences and their calls within a transaction, and count them; known ids are left alone."""
    rows = [storable(row) for row in rows]
    new = insert_telling(
        connection,
        inferences,
        [
            {
                "id": row.id,
                "created_at": row.created_at,
                "route": row.route,
                "version": row.version,
                "key_id": row.key_id,
                "episode_id": row.episode_id,
                "input_sha256": row.input_sha256,
                "body": _encode(msgspec.structs.replace(row, calls=())),
                "project_id": row.project_id,
            }
            for row in rows
        ],
    )
    insert_new(
        connection,
        model_calls,
        [
            {
                "id": call.id,
                "inference_id": row.id,
                "position": position,
                "created_at": call.created_at,
                "route": row.route,
                "version": call.version,
                "provider": call.provider,
                "input_tokens": call.input_tokens,
                "output_tokens": call.output_tokens,
                "cost_usd": call.cost_usd,
                "latency_s": call.latency_s,
                "body": _encode(call),
                "project_id": row.project_id,
            }
            for row in rows
            for position, call in enumerate(row.calls)
        ],
    )
    usage.add(connection, [row for row in {row.id: row for row in reversed(rows)}.values() if row.id in new])


def get(database: Database, inference_id: str) -> Inference:
    """Return one inference with its calls. Raises NotFound."""
    found = get_many(database, [inference_id])
    if inference_id not in found:
        raise NotFound(f"There is no inference {inference_id!r}.", param="inference_id")
    return found[inference_id]


def key_of(database: Database, inference_id: str) -> str | None:
    """Return the id of the key that asked, None when there is no such inference."""
    statement = select(inferences.c.key_id).where(inferences.c.id == inference_id, paging.mine(database, inferences))
    return database.read(lambda connection: connection.execute(statement).scalar_one_or_none())


def get_many(database: Database, ids: Sequence[str]) -> dict[str, Inference]:
    """Return those of the inferences that exist, by id."""

    mine = paging.mine(database, inferences)

    def work(connection: Connection) -> dict[str, Inference]:
        found: dict[str, Inference] = {}
        for start in range(0, len(ids), _IDS_PER_QUERY):
            some = ids[start : start + _IDS_PER_QUERY]
            bodies = connection.execute(select(inferences.c.body).where(inferences.c.id.in_(some), mine)).scalars()
            found.update({row.id: row for row in _with_calls(database, connection, list(bodies))})
        return found

    return database.read(work)


def first_audited(database: Database, route: str, version: str, since: float) -> float | None:
    """Return when the first request after a moment was asked that a version answered and the audit drew."""
    c = inferences.c
    statement = select(func.min(c.created_at)).where(
        paging.mine(database, inferences),
        c.route == route,
        c.version == version,
        c.created_at > since,
        c.body.contains(AUDITED, autoescape=True),
    )
    first: float | None = database.read(lambda connection: connection.execute(statement).scalar_one())
    return first


def find(
    database: Database,
    *,
    route: str | None = None,
    since: float | None = None,
    until: float | None = None,
    episode_id: str | None = None,
    limit: int | None = 100,
    after: str | None = None,
    ascending: bool = False,
) -> list[Inference]:
    """Return inferences, newest first unless `ascending`; `since` is inclusive, `until` exclusive; limit None: all."""
    statement = _selected(route, since, until, episode_id)

    def work(connection: Connection) -> list[Inference]:
        within = paging.mine(database, inferences)
        rows = paging.page(
            connection, inferences, statement, within=within, after=after, limit=limit, ascending=ascending
        )
        return _with_calls(database, connection, [row.body for row in rows])

    return database.read(work)


def fitting(
    database: Database,
    *,
    route: str | None = None,
    since: float | None = None,
    until: float | None = None,
    episode_id: str | None = None,
    limit: int,
    after: str | None = None,
) -> int:
    """Return how many inferences of such a page, newest first, go into one answer, see `paging.fitting`."""
    statement, within = _selected(route, since, until, episode_id), paging.mine(database, inferences)
    return database.read(
        lambda connection: paging.fitting(connection, inferences, statement, within=within, after=after, limit=limit)
    )


def _selected(
    route: str | None, since: float | None, until: float | None, episode_id: str | None
) -> Select[tuple[str]]:
    statement = select(inferences.c.body)
    if route is not None:
        statement = statement.where(inferences.c.route == route)
    if episode_id is not None:
        statement = statement.where(inferences.c.episode_id == episode_id)
    if since is not None:
        statement = statement.where(inferences.c.created_at >= since)
    if until is not None:
        statement = statement.where(inferences.c.created_at < until)
    return statement


def _encode(noun: Inference | ModelCall) -> str:
    return text_of(msgspec.json.encode(in_pieces(noun))) if is_long(noun) else msgspec.json.encode(noun).decode()


def _is_finite(call: ModelCall) -> bool:
    return math.isfinite(sum(token.logprob for token in call.token_logprobs)) and math.isfinite(
        sum((call.choice_logprobs or {}).values())
    )


def _with_finite_logprobs(call: ModelCall) -> ModelCall:
    choices = call.choice_logprobs
    return msgspec.structs.replace(
        call,
        token_logprobs=tuple(
            msgspec.structs.replace(token, logprob=_finite(token.logprob)) for token in call.token_logprobs
        ),
        choice_logprobs=None if choices is None else {choice: _finite(value) for choice, value in choices.items()},
    )


def _finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else _LEAST_LOGPROB


def _with_calls(database: Database, connection: Connection, bodies: Sequence[str]) -> list[Inference]:
    rows = [paging.decode(Inference, body) for body in bodies]
    calls: dict[str, list[ModelCall]] = defaultdict(list)
    for start in range(0, len(rows), _IDS_PER_QUERY):
        ids = [row.id for row in rows[start : start + _IDS_PER_QUERY]]
        statement = (
            select(model_calls.c.inference_id, model_calls.c.body)
            .where(model_calls.c.inference_id.in_(ids), paging.mine(database, model_calls))
            .order_by(model_calls.c.inference_id, model_calls.c.position)
        )
        for found in connection.execute(statement):
            calls[found.inference_id].append(paging.decode(ModelCall, found.body))
    return [msgspec.structs.replace(row, calls=tuple(calls[row.id])) for row in rows]
