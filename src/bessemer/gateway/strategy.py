"""How a route makes an answer: steps in order, each drawn, asked and accepted or not; then fallbacks for failures.

A step with a threshold is buffered until it is accepted, because what a client has read cannot be taken back. A
retryable failure goes on to the next step or fallback as long as nothing was sent; after that the client sees it.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import cast

import msgspec

from bessemer.core.errors import BessemerError, EngineError, ProviderError, RateLimited
from bessemer.core.inferences import ModelCall
from bessemer.core.reply import ReplyPiece
from bessemer.core.routes import Step, Target
from bessemer.gateway.attempt import Leg
from bessemer.gateway.cascade import accepts, calibrated, draw, raw_score
from bessemer.gateway.exchange import AsyncChunks, Exchange
from bessemer.gateway.resolve import NOT_UNDERSTOOD, provider_call
from bessemer.telemetry.logs import get_logger

_log = get_logger("bessemer.gateway")


def may_fall_back(error: BessemerError) -> bool:
    """Say whether another target may do better.

    So it is for a retryable provider failure, a full queue, a broken engine, a prompt too long for this model, and what
    this model does not know.
    """
    if isinstance(error, ProviderError):
        return error.retryable
    others_may = error.error_code in {"context_length_exceeded", NOT_UNDERSTOOD}
    return isinstance(error, RateLimited | EngineError) or others_may


class Strategy:
    """Runs the steps and fallbacks of a route for one exchange."""

    def __init__(self, attempt: Callable[[Exchange, Leg], AsyncIterator[ReplyPiece]]) -> None:
        self._attempt = attempt

    async def answer(self, exchange: Exchange) -> AsyncIterator[ReplyPiece]:
        """Yield the chunks of the answer that the route returns. Raises the error of the last target that was tried."""
        failure: BessemerError | None = None
        for index, step in exchange.route.served():
            sent = False
            try:
                async with aclosing(self._step(exchange, index, step)) as chunks:
                    async for chunk in chunks:
                        sent = True
                        yield chunk
            except BessemerError as error:
                failure = self._survived(exchange, error, sent=sent)
                continue
            if exchange.answer is not None:
                return
        first = len(exchange.route.steps)
        for index, target in enumerate(exchange.route.fallbacks, start=first):
            sent = False
            try:
                async with aclosing(self._fallback(exchange, index, target)) as chunks:
                    async for chunk in chunks:
                        sent = True
                        yield chunk
                return
            except BessemerError as error:
                failure = self._survived(exchange, error, sent=sent)
        assert failure is not None, "the last step accepts every answer, so only a failure gets here"
        raise failure

    def _survived(self, exchange: Exchange, error: BessemerError, *, sent: bool) -> BessemerError:
        if sent or not may_fall_back(error):
            raise error
        route = exchange.route.name
        if error.error_code != NOT_UNDERSTOOD:  # that is how a route is meant to work
            _log.warning(
                "target_failed", inference_id=exchange.inference_id, route=route, error=error.error_code or error.type
            )
        return error

    async def _leg(self, exchange: Exchange, index: int, target: Target, propensity: float, step: Step | None) -> Leg:
        direct = step is None or step.threshold is None
        call, prompt = await provider_call(
            exchange.catalog,
            target,
            exchange.asked,
            stream=exchange.stream and direct,
            need_logprobs=step is not None and not direct,
        )
        return Leg(call, index, propensity, prompt)

    async def _fallback(self, exchange: Exchange, index: int, target: Target) -> AsyncGenerator[ReplyPiece, None]:
        leg = await self._leg(exchange, index, target, 1.0, None)
        async with aclosing(cast(AsyncChunks, self._attempt(exchange, leg))) as chunks:
            async for chunk in chunks:
                yield chunk
        exchange.answer = exchange.calls[-1]

    async def _step(self, exchange: Exchange, index: int, step: Step) -> AsyncGenerator[ReplyPiece, None]:
        drawn = draw(step.targets, exchange.inference_id, index)
        leg = await self._leg(exchange, index, drawn.target, drawn.propensity, step)
        if not self._trusted(exchange, step, leg):
            return
        async with aclosing(cast(AsyncChunks, self._attempt(exchange, leg))) as chunks:
            if step.threshold is None:
                async for chunk in chunks:
                    yield chunk
                exchange.answer = exchange.calls[-1]
                return
            held = [chunk async for chunk in chunks]
        judged = judge(step, exchange.calls[-1])
        exchange.calls[-1] = judged
        if judged.accepted:
            exchange.answer = judged
            for chunk in held:
                yield chunk

    def _trusted(self, exchange: Exchange, step: Step, leg: Leg) -> bool:
        # A threshold means something only for the version whose confidence was calibrated, with its own prompt.
        if step.calibration is None or step.threshold is None:
            return True
        if exchange.asked.tools and exchange.asked.tool_choice.mode != "none":
            return False  # it was calibrated on answers in words
        own_prompt = leg.prompt in {None, leg.call.version.prompt}
        if own_prompt and step.calibration.version == leg.call.version.id:
            return True
        _log.warning(
            "calibration_of_another_version",
            inference_id=exchange.inference_id,
            route=exchange.route.name,
            step=leg.step,
            version=leg.call.version.id,
            calibrated=step.calibration.version,
        )
        return False


def judge(step: Step, call: ModelCall) -> ModelCall:
    """Return the call with its raw score, its calibrated confidence and whether the step takes it."""
    if step.calibration is None:
        return msgspec.structs.replace(call, accepted=accepts(step.threshold, None))
    score = raw_score(step.calibration.score, call)
    confidence = None if score is None else calibrated(step.calibration, score)
    return msgspec.structs.replace(
        call, score=score, confidence=confidence, accepted=accepts(step.threshold, confidence)
    )
