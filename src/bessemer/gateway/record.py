"""The record of an exchange: one Inference with its calls, journaled before the client sees the end of the answer."""

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any, Literal, TypeVar, cast

import msgspec

from bessemer.core.content import HASH_VERSION
from bessemer.core.errors import StoreError
from bessemer.core.feedback import Asked
from bessemer.core.inferences import JUDGED, Inference, ModelCall
from bessemer.core.reply import Reply, ReplyPiece, Usage, calls_of
from bessemer.core.totals import count, total
from bessemer.gateway.attempt import account_error
from bessemer.gateway.cascade import audited
from bessemer.gateway.exchange import AsyncChunks, Exchange, Next
from bessemer.registry.routes import void
from bessemer.store.writer import Writer
from bessemer.telemetry.metrics import Metrics

T = TypeVar("T")


class Recorder:
    """The outermost stage: counts what passes and writes it down, however the exchange ends."""

    def __init__(self, writer: Writer, timer: Callable[[], float], metrics: Metrics | None) -> None:
        self._writer = writer
        self._timer = timer
        self._metrics = metrics

    async def __call__(self, exchange: Exchange, following: Next) -> AsyncIterator[ReplyPiece]:
        """Pass the answer on; on the way out append the Inference, safe against a killed process.

        Raises StoreError when nothing can keep it: before a model is asked, or instead of the answer's end.
        """
        self._writer.check()
        try:
            async with aclosing(cast(AsyncChunks, following(exchange))) as chunks:
                async for chunk in chunks:
                    if exchange.first_token is None:
                        exchange.first_token = self._timer()
                    exchange.said.add(chunk)
                    yield chunk
        except BaseException as error:
            exchange.error = account_error(error)
            exchange.said.finish_reason = None
            with suppress(StoreError):  # the client gets the error that came first
                await self._writer.keep(kept(self._finish(exchange)))
            raise
        await self._writer.record(kept(self._finish(exchange)))

    def _finish(self, exchange: Exchange) -> Inference:
        exchange.finished = self._timer()
        exchange.inference = inference = inference_of(exchange)
        if self._metrics is not None:
            _observe(self._metrics, exchange, inference)
        return inference


def _observe(metrics: Metrics, exchange: Exchange, inference: Inference) -> None:
    status = "ok" if inference.error is None else "error"
    metrics.request(inference.route, status, inference.latency_s)
    metrics.overhead(exchange.overhead_s)
    if inference.error is not None:
        metrics.error(inference.route, inference.error.partition(":")[0])
    for call in inference.calls:
        model = call.version.partition("@")[0]
        metrics.tokens(inference.route, model, call.input_tokens or 0, call.output_tokens or 0)
        metrics.cost(inference.route, model, call.cost_usd)


def inference_of(exchange: Exchange) -> Inference:
    """Make the record. Tokens and cost are sums over all calls, of one that failed what is known of it."""
    calls = exchange.calls
    answer = exchange.answer or (calls[-1] if calls and exchange.first_token is not None else None)
    said = exchange.said
    text, refusal = "".join(said.text), "".join(said.refusal) or None
    finished = exchange.finished if exchange.finished is not None else exchange.started
    return Inference(
        id=exchange.inference_id,
        route=exchange.route.name,
        created_at=exchange.created_at,
        key_id=exchange.principal.key_id,
        messages=exchange.messages,
        input=exchange.asked.input,
        input_sha256=exchange.input_sha256,
        output=None
        if exchange.first_token is None or ((refusal or said.tool_calls or said.vectors) and not text)
        else text,
        finish_reason=exchange.said.finish_reason,
        version=answer.version if answer is not None else None,
        input_tokens=count(_of_each(calls, [call.input_tokens for call in calls])),
        output_tokens=count(_of_each(calls, [call.output_tokens for call in calls])),
        cost_usd=total(_of_each(calls, [call.cost_usd for call in calls])),
        latency_s=finished - exchange.started,
        propensity=math.prod(call.propensity for call in calls),
        config_sha256=exchange.config_sha256,
        policy_sha256=exchange.policy_sha256,
        calls=tuple(calls),
        ttft_s=None if exchange.first_token is None else exchange.first_token - exchange.started,
        episode_id=exchange.asked.episode_id,
        tags=exchange.asked.tags,
        user=exchange.asked.user,
        origin=exchange.origin,
        split=exchange.asked.split,
        hash_version=HASH_VERSION,
        error=exchange.error,
        project_id=exchange.principal.project_id,
        on_behalf_of=exchange.principal.on_behalf_of,
        reasoning="".join(exchange.said.reasoning) or None,
        refusal=refusal,
        asked=_asked(exchange),
        cache=exchange.hit,
        saved_usd=exchange.saved_usd,
        tools=tuple(tool.plain() for tool in exchange.asked.tools),
        tool_calls=calls_of(exchange.said.tool_calls),
    )


def _of_each(calls: Sequence[ModelCall], figures: Sequence[T | None]) -> Sequence[T | None]:
    """Leave out what is not known of a call that failed, as long as something is known of any."""
    known = [figure for call, figure in zip(calls, figures, strict=True) if call.error is None or figure is not None]
    return known or [None]


def kept(inference: Inference) -> Inference:
    """Return what is written down: of a judge's question only that it was asked, of whom and at what cost.

    What it says of somebody is a copy that no erasure would find; the original is on record where it was answered.
    """
    if inference.origin != JUDGED:
        return inference
    silent: dict[str, Any] = {"output": None, "reasoning": None, "refusal": None, "tool_calls": ()}
    calls = (
        msgspec.structs.replace(call, **silent, error_detail=None, token_logprobs=(), choice_logprobs=None)
        for call in inference.calls
    )
    return msgspec.structs.replace(inference, messages=(), input=None, tools=(), calls=tuple(calls), **silent)


def _asked(exchange: Exchange) -> Asked | None:
    """Draw the audit of what clients ask of a route, whichever step answers: it stands for all of them."""
    monitor = exchange.route.monitor
    if monitor is None or exchange.origin is not None or exchange.error is not None:
        return None
    return audited(exchange.inference_id, monitor.audit_share)


def _promise(exchange: Exchange) -> Literal["holds", "void"] | None:
    if exchange.route.guarantee is None:
        return None
    return "holds" if void(exchange.route, exchange.catalog.resolve) is None else "void"


def usage_of(exchange: Exchange) -> Usage | None:
    """Return the tokens that the client is told: those of the answer, as far as its model tells them."""
    call, said = exchange.answer, exchange.said.usage
    if call is None:
        return None
    if call.estimated or exchange.hit:
        return said
    return Usage(
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        cached_tokens=call.cached_tokens,
        details=said.details,
    )


def reply_of(exchange: Exchange) -> Reply:
    """Return the finished answer, with what gave it and what it cost."""
    inference, call = exchange.inference, exchange.answer
    assert inference is not None, "the recorder has run: the pieces are exhausted"
    return Reply(
        inference_id=inference.id,
        created_at=exchange.created_at,
        model=exchange.asked.model,
        text="".join(exchange.said.text),
        reasoning=inference.reasoning or "",
        refusal=inference.refusal or "",
        tool_calls=inference.tool_calls,
        vectors=exchange.said.vectors,
        extra=exchange.said.extra,
        tokens=tuple(exchange.said.tokens),
        finish_reason=exchange.said.finish_reason or "stop",
        usage=usage_of(exchange),
        version=inference.version,
        provider=None if call is None else call.provider,
        cost_usd=inference.cost_usd,
        escalated=call is not None and call.step > 0,
        feedback_wanted=inference.asked is not None,
        guarantee=_promise(exchange),
    )
