"""Nouns to store."""

from sqlalchemy import Connection

from bessemer.core.feedback import Feedback, FeedbackKind, FeedbackSource
from bessemer.core.inferences import Inference, ModelCall, TokenLogprob
from bessemer.store import feedback, inferences
from bessemer.store.database import Database


def a_call(call_id: str, inference_id: str, *, cost: float | None = 0.001, step: int = 0) -> ModelCall:
    """A call of the small model."""
    return ModelCall(
        id=call_id,
        inference_id=inference_id,
        step=step,
        version="small@0123456789ab",
        provider="local",
        output="yes",
        finish_reason="stop",
        input_tokens=10,
        output_tokens=2,
        cost_usd=cost,
        latency_s=0.25,
        created_at=100.0,
        token_logprobs=(TokenLogprob(token="yes", logprob=-0.5),),
        choice_logprobs={"yes": -0.1, "no": -2.4},
    )


def an_inference(
    inference_id: str,
    *,
    created_at: float = 100.0,
    route: str = "matching",
    episode_id: str | None = None,
    calls: tuple[ModelCall, ...] | None = None,
) -> Inference:
    """An inference with one call."""
    return Inference(
        id=inference_id,
        route=route,
        created_at=created_at,
        key_id="key-1",
        messages=({"role": "user", "content": "Same? \u0000 \u2028 é"},),
        input={"left": "a", "right": "b"},
        input_sha256="0" * 64,
        output="yes",
        finish_reason="stop",
        version="small@0123456789ab",
        input_tokens=10,
        output_tokens=2,
        cost_usd=0.001,
        latency_s=0.25,
        propensity=1.0,
        config_sha256="1" * 64,
        calls=(a_call(f"call-{inference_id}", inference_id),) if calls is None else calls,
        episode_id=episode_id,
        tags={"team": "one"},
    )


def a_feedback(
    feedback_id: str,
    *,
    created_at: float = 100.0,
    inference_id: str | None = "inf-1",
    episode_id: str | None = None,
    metric: str = "verdict",
) -> Feedback:
    """A person's verdict."""
    return Feedback(
        id=feedback_id,
        metric=metric,
        kind=FeedbackKind.BOOLEAN,
        value=True,
        source=FeedbackSource.HUMAN,
        created_at=created_at,
        inference_id=inference_id,
        episode_id=episode_id,
    )


def keep(database: Database, *rows: Inference | Feedback) -> None:
    """Put rows into the database, as the writer does."""

    def work(connection: Connection) -> None:
        inferences.insert_rows(connection, [row for row in rows if isinstance(row, Inference)])
        feedback.insert_rows(connection, [row for row in rows if isinstance(row, Feedback)])

    database.write(work)
