"""How a route makes an answer: steps in order, each drawn, asked and accepted or not; then fallbacks for failures.

A step with a threshold is buffered until it is accepted, because what a client has read cannot be taken back. A
retryable failure goes on to another target of the step, the next step or a fallback as long as nothing was sent; after
that the client sees it. Models that fail now are asked last (`breakers`).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import cast

import msgspec

from bessemer.core.errors import BessemerError, EngineError, ProviderError, RateLimited
from bessemer.core.inferences import ModelCall
from bessemer.core.reply import ReplyPiece
from bessemer.core.routes import ServedStep, Step, Target
from bessemer.gateway.attempt import Leg
from bessemer.gateway.cascade import Draw, accepts, calibrated, draw, raw_score
from bessemer.gateway.endpoints import Endpoints
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

    def __init__(self, attempt: Callable[[Exchange, Leg], AsyncIterator[ReplyPiece]], endpoints: Endpoints) -> None:
        self._attempt = attempt
        self._endpoints = endpoints

    async def answer(self, exchange: Exchange) -> AsyncIterator[ReplyPiece]:
        """Yield the chunks of the answer that the route returns. Raises the error of the last target that was tried."""
        failure: BessemerError | None = None
        served = exchange.route.served()
        for place, (index, step) in enumerate(served):
            if self._passed_over(exchange, step, served[place + 1 :]):
                continue
            left = step.targets
            while left:
                drawn = draw(self._ready(exchange, left), exchange.inference_id, index)
                sent = False
                try:
                    async with aclosing(self._step(exchange, index, step, drawn)) as chunks:
                        async for chunk in chunks:
                            sent = True
                            yield chunk
                except BessemerError as error:
                    failure = self._survived(exchange, error, sent=sent)
                    # Another target of the step first: it does the same work.
                    left = tuple(one for one in left if one is not drawn.target and one.weight > 0)
                    continue
                break
            if exchange.answer is not None:
                return
        first = len(exchange.route.steps)
        for index, target in self._in_turn(exchange):
            sent = False
            try:
                async with aclosing(self._fallback(exchange, first + index, target)) as chunks:
                    async for chunk in chunks:
                        sent = True
                        yield chunk
                return
            except BessemerError as error:
                failure = self._survived(exchange, error, sent=sent)
        assert failure is not None, "the last step accepts every answer, so only a failure gets here"
        raise failure

    def _is_ready(self, exchange: Exchange, target: Target) -> bool:
        catalog = exchange.catalog
        return not catalog.has_target(target.model) or self._endpoints.ready(catalog.resolve(target.model).model)

    def _passed_over(self, exchange: Exchange, step: Step, later: Sequence[ServedStep]) -> bool:
        """Say whether all targets of a step fail now and another that may answer does not."""
        if self._endpoints.quiet or any(self._is_ready(exchange, target) for target in step.targets):
            return False
        others = [*(target for one in later for target in one.step.targets), *exchange.route.fallbacks]
        return any(self._is_ready(exchange, target) for target in others)

    def _ready(self, exchange: Exchange, targets: Sequence[Target]) -> Sequence[Target]:
        """Return the targets of a step that do not fail now; all of them where none is left."""
        if len(targets) == 1 or self._endpoints.quiet:
            return targets
        ready = [target for target in targets if target.weight > 0 and self._is_ready(exchange, target)]
        return ready or targets

    def _in_turn(self, exchange: Exchange) -> Sequence[tuple[int, Target]]:
        """Return the fallbacks with their places; those that fail now last."""
        every = list(enumerate(exchange.route.fallbacks))
        if len(every) < 2 or self._endpoints.quiet:
            return every
        return sorted(every, key=lambda one: not self._is_ready(exchange, one[1]))

    def _survived(self, exchange: Exchange, error: BessemerError, *, sent: bool) -> BessemerError:
        if sent or not may_fall_back(error):
            raise error
        route = exchange.route.name
        if error.error_code != NOT_UNDERSTOOD:  # that is how a route is meant to work
            _log.warning(
                "target_failed",
                inference_id=exchange.inference_id,
                route=route,
                version=exchange.calls[-1].version if exchange.calls else None,
                endpoint=exchange.calls[-1].endpoint if exchange.calls else None,
                error=error.error_code or error.type,
                upstream_status=error.upstream_status,
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

    async def _step(self, exchange: Exchange, index: int, step: Step, drawn: Draw) -> AsyncGenerator[ReplyPiece, None]:
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
