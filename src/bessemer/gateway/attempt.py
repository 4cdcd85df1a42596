"""One attempt at one provider: forwards its chunks and keeps the account that becomes a ModelCall."""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, NamedTuple, cast

import msgspec

from bessemer.core.errors import BessemerError, ConfigError, ProviderError, told
from bessemer.core.ids import new_id
from bessemer.core.inferences import ModelCall, TokenLogprob
from bessemer.core.reply import GatheredReply, ReplyPiece, calls_of
from bessemer.gateway.endpoints import Endpoints, LiveEndpoint
from bessemer.gateway.exchange import Exchange
from bessemer.gateway.providers.base import Provider, ProviderCall
from bessemer.gateway.shares import TimeShares
from bessemer.gateway.token_estimates import TokenEstimates, characters_of

_LEARNED_EACH: Final = 16
"""Of so many answers one teaches how long a model's tokens are."""
DISCONNECTED = "client_disconnected: the client closed the connection before the answer was complete"


SERVER_STOPPED = "server_stopped: the server was stopped before the answer was complete"
HEDGED = "hedged: another try of the same call answered first"
SIBLING_FAILED = "sibling_failed: another answer to the same request failed, which ended this one"


class Leg(NamedTuple):
    """A call with its place in the route."""

    call: ProviderCall
    step: int
    propensity: float
    prompt: str | None
    endpoint: LiveEndpoint | None = None
    """Of the model's servers the one that is asked; None: it has one."""


def account_error(error: BaseException) -> str:
    """Return how an error is written into records: its code and message, or what a cancelled client means."""
    if isinstance(error, BessemerError):
        return f"{error.error_code or error.type}: {told(error)}"
    if isinstance(error, Exception):
        return f"internal_error: {told(error)}"
    if isinstance(error, asyncio.CancelledError) and error.args:  # with a message cancel siblings, and the HTTP server
        return next((said for said in (SIBLING_FAILED, HEDGED) if said in error.args), SERVER_STOPPED)
    return DISCONNECTED


@dataclass(slots=True)
class _Account:
    created_at: float
    begun: float
    said: GatheredReply = field(default_factory=GatheredReply)
    choice_logprobs: dict[str, float] | None = None
    waited: float = 0.0
    first: float | None = None
    forced: tuple[bool, ...] = ()

    def add(self, chunk: ReplyPiece) -> None:
        self.said.add(chunk)
        self.choice_logprobs = chunk.choice_logprobs or self.choice_logprobs
        self.forced = chunk.forced or self.forced

    def token_logprobs(self) -> tuple[TokenLogprob, ...]:
        tokens = [scored.token for scored in self.said.tokens]
        if any(math.isnan(token.logprob) for token in tokens):
            return ()  # some are unknown, so that nothing can be made of the others
        if len(self.forced) != len(tokens):
            return tuple(tokens)
        pairs = zip(tokens, self.forced, strict=True)
        return tuple(msgspec.structs.replace(token, forced=forced) for token, forced in pairs)


def _characters(said: GatheredReply) -> int:
    """Return the characters that were generated."""
    texts = sum(len(text) for texts in (said.text, said.reasoning, said.refusal) for text in texts)
    return texts + sum(len(call.name) + len(call.arguments) for call in said.tool_calls)


def _tells(chunk: ReplyPiece) -> bool:
    """Whether there is something in it for the client."""
    said = chunk.text or chunk.reasoning or chunk.refusal or chunk.tokens or chunk.tool_calls or chunk.vectors
    return bool(said or chunk.finish_reason or chunk.extra)


class Attempts:
    """Makes attempts: provider look-up, timing, shared seconds, cost."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        endpoints: Endpoints,
        clock: Callable[[], float],
        timer: Callable[[], float],
    ) -> None:
        self._providers = providers
        self._endpoints = endpoints
        self._estimates = TokenEstimates()
        self._finished = 0
        self._clock = clock
        self._timer = timer
        self._shares: dict[str, TimeShares] = {}

    async def run(self, exchange: Exchange, leg: Leg) -> AsyncGenerator[ReplyPiece, None]:
        """Yield the provider's chunks that carry something; append the ModelCall to the exchange however it ends."""
        account = _Account(created_at=self._clock(), begun=self._timer())
        shares = self._machine(leg)
        mark = shares.start()
        endpoint = leg.endpoint or self._endpoints.of(leg.call.model)[0]
        self._endpoints.begin(endpoint)
        error: BaseException | None = None
        try:
            async with aclosing(self._open(leg)) as chunks:
                while (chunk := await self._pull(chunks, account)) is not None:
                    account.add(chunk)
                    if _tells(chunk):
                        account.first = account.first or self._timer()
                        yield chunk
            if account.said.finish_reason is None:
                raise ProviderError(f"{leg.call.version.id!r}: the answer ended without a finish reason.")
        except BaseException as failure:
            error = failure
            raise
        finally:
            self._endpoints.end(endpoint, error, account.begun, account.first)
            exchange.upstream_s += account.waited
            seconds = shares.stop(mark)
            exchange.calls.append(self._call(exchange, leg, account, seconds, error))

    def _open(self, leg: Leg) -> AsyncGenerator[ReplyPiece, None]:
        provider = self._providers.get(leg.call.model.provider)
        if provider is None:
            raise ConfigError(
                f"{leg.call.model.name!r} needs the provider {leg.call.model.provider!r}; it is not set up here.",
                param="provider",
            )
        return cast("AsyncGenerator[ReplyPiece, None]", provider.complete(leg.call))

    async def _pull(self, chunks: AsyncIterator[ReplyPiece], account: _Account) -> ReplyPiece | None:
        asked = self._timer()
        try:
            return await anext(chunks, None)
        finally:
            account.waited += self._timer() - asked

    def _machine(self, leg: Leg) -> TimeShares:
        name = "" if leg.call.model.settings.shares_machine else leg.call.model.name
        if name not in self._shares:
            self._shares[name] = TimeShares(self._timer)
        return self._shares[name]

    def _call(
        self, exchange: Exchange, leg: Leg, account: _Account, seconds: float, error: BaseException | None
    ) -> ModelCall:
        said, usage = account.said, account.said.usage
        input_tokens, output_tokens, estimated = self._tokens(leg.call, account, error)
        counted = msgspec.structs.replace(usage, input_tokens=input_tokens, output_tokens=output_tokens)
        charged = seconds if usage.seconds is None else min(seconds, usage.seconds)
        refusal = "".join(said.refusal) or None
        asked = calls_of(said.tool_calls)
        answered = bool(said.text) or (said.finish_reason is not None and not (refusal or asked or said.vectors))
        return ModelCall(
            id=new_id("call"),
            inference_id=exchange.inference_id,
            step=leg.step,
            version=leg.call.version.id,
            provider=leg.call.model.provider,
            output="".join(said.text) if answered else None,
            finish_reason=said.finish_reason if error is None else None,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cost_usd=exchange.catalog.cost(leg.call.model.name, counted, charged),
            latency_s=self._timer() - account.begun,
            created_at=account.created_at,
            ttft_s=None if account.first is None else account.first - account.begun,
            cached_tokens=usage.cached_tokens,
            token_logprobs=account.token_logprobs(),
            choice_logprobs=account.choice_logprobs,
            accepted=error is None,
            propensity=leg.propensity,
            prompt=leg.prompt,
            temperature=leg.call.sampling.temperature,
            error=None if error is None else account_error(error),
            error_detail=error.detail if isinstance(error, BessemerError) else None,
            reasoning="".join(said.reasoning) or None,
            refusal=refusal,
            tool_calls=asked,
            endpoint=None if leg.endpoint is None else leg.endpoint.name,
            estimated=estimated,
            stated_usd=usage.stated_usd,
        )

    def _tokens(
        self, call: ProviderCall, account: _Account, error: BaseException | None
    ) -> tuple[int | None, int | None, bool]:
        """Return the tokens of input and output, and whether any was estimated: of an answer that began, where the
        upstream does not say. Of one that never began nothing is known.
        """
        said, usage, model = account.said, account.said.usage, call.model.name
        asked, answered = usage.input_tokens, usage.output_tokens
        if answered is None and said.tokens:
            answered = len(said.tokens)
        if asked is not None and answered is not None:
            self._finished += 1
            if error is None and (not self._finished % _LEARNED_EACH or not self._estimates.knows(model)):
                self._estimates.learn_input(model, characters_of(call.messages, call.tools), asked)
                self._estimates.learn_output(model, _characters(said), answered)
            return asked, answered, False
        if account.first is None or said.vectors or not call.model.settings.estimates_tokens:
            return asked, answered, False
        if asked is None:
            asked = self._estimates.input_tokens(model, characters_of(call.messages, call.tools))
        if answered is None:
            pieces = len(said.text) + len(said.reasoning) + len(said.refusal) + len(said.tool_calls)
            answered = self._estimates.output_tokens(model, _characters(said), pieces)
        return asked, answered, True
