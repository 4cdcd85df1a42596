"""The gateway: every model call of the system goes through here.

Check and resolve the request, run the stages (built once), and hand out a completion or a stream. Decides nothing about
HTTP; knows no provider by name.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from bessemer.core.errors import BessemerError, Forbidden, InvalidRequest
from bessemer.core.ids import new_id
from bessemer.core.openai import ChatCompletion, ChatRequest, RequestExtension
from bessemer.core.types import INTERNAL_KEY, JSON, Action, Inference, Principal, ProviderKind, Role
from bessemer.gateway.attempt import Attempts
from bessemer.gateway.exchange import AsyncChunks, Exchange, chain
from bessemer.gateway.parse import parse
from bessemer.gateway.providers.base import Provider
from bessemer.gateway.record import Recorder
from bessemer.gateway.resolve import resolve
from bessemer.gateway.strategy import Strategy
from bessemer.gateway.wire import EventStream, completion_of
from bessemer.registry.catalog import Catalog
from bessemer.store.writer import Writer
from bessemer.telemetry.metrics import Metrics

INTERNAL = Principal(key_id=INTERNAL_KEY, name="internal", role=Role.MEMBER)
"""Who asks when Bessemer asks itself for nobody."""


def on_behalf_of(key_id: str | None, project_id: str, models: tuple[str, ...] | None) -> Principal:
    """Return who asks when Bessemer asks itself for a key's job or grade (evaluations, judges), within its limits."""
    return msgspec.structs.replace(INTERNAL, on_behalf_of=key_id, project_id=project_id, models=models)


_SMALL = 64 * 1024


_REMEMBERED = 10_000
"""Inferences whose asker is in memory."""


class ChatResult(NamedTuple):
    """A finished answer, its record, and the seconds that the gateway itself added."""

    completion: ChatCompletion
    inference: Inference
    overhead_s: float


class StreamResult(NamedTuple):
    """A streamed answer whose first piece has arrived; `events` are ready server-sent events. Close them at the end."""

    inference_id: str
    events: EventStream


class Gateway:
    """The data plane: name in, recorded answer out."""

    def __init__(
        self,
        catalog: Catalog,
        providers: Mapping[ProviderKind, Provider],
        writer: Writer,
        *,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._catalog = catalog
        self._providers = dict(providers)
        self._metrics = metrics
        self._clock = clock
        self._timer = timer
        self._askers: OrderedDict[str, Principal] = OrderedDict()
        """Who asked what, by inference: the latest `_REMEMBERED`."""
        strategy = Strategy(Attempts(self._providers, clock, timer))
        self._run = chain((Recorder(writer, timer, self._observe),), strategy.answer)

    async def chat(self, request: ChatRequest, principal: Principal, *, origin: str | None = None) -> ChatResult:
        """Answer a request in one piece. Raises the BessemerError that is the client's answer.

        `origin`: why Bessemer itself asks; such answers never become training data.
        """
        if request.stream:
            raise InvalidRequest("`stream: true` is answered by `stream`.", param="stream")
        exchange = await self._open(request, principal, origin)
        async for _ in self._run(exchange):
            pass
        assert exchange.inference is not None, "the recorder has run: the chunks are exhausted"
        return ChatResult(completion_of(exchange, exchange.inference), exchange.inference, exchange.overhead_s)

    async def stream(self, request: ChatRequest, principal: Principal) -> StreamResult:
        """Start a streamed answer and wait for its first piece, so that an error before it has its real status."""
        exchange = await self._open(request, principal)
        chunks = cast(AsyncChunks, self._run(exchange))
        first = await anext(chunks)
        return StreamResult(exchange.inference_id, EventStream(exchange, first, chunks))

    async def infer(
        self,
        route: str,
        *,
        input: JSON | None = None,
        messages: Sequence[JSON] = (),
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        logprobs: bool = False,
        tags: Mapping[str, str] | None = None,
        origin: str | None = None,
        episode_id: str | None = None,
        principal: Principal = INTERNAL,
    ) -> Inference:
        """Answer a call from inside Bessemer; recorded like any other. Raises BessemerError when there is no answer."""
        request = ChatRequest(
            model=route,
            messages=list(messages),
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            max_tokens=max_tokens,
            logprobs=logprobs,
            bessemer=RequestExtension(input=input, episode_id=episode_id, tags=dict(tags or {})),
        )
        return (await self.chat(request, principal, origin=origin)).inference

    def asker(self, inference_id: str) -> Principal | None:
        """Return who asked for one of the latest inferences, before it is in the database; None: longer ago."""
        return self._askers.get(inference_id)

    async def close(self) -> None:
        """Close the providers."""
        for provider in self._providers.values():
            await provider.close()

    async def _open(self, request: ChatRequest, principal: Principal, origin: str | None = None) -> Exchange:
        started, created_at = self._timer(), self._clock()
        try:
            # Checking and hashing cost time by the text: above a measure they must not hold up everybody else.
            large = _size(request.messages, request.bessemer and request.bessemer.input) > _SMALL
            asked = await asyncio.to_thread(parse, request) if large else parse(request)
            if asked.split is not None and not principal.may(Action.CONTRIBUTE):
                raise Forbidden(
                    "bessemer.split decides what is trained on and what is held out: it needs a key with the right "
                    "`contribute`. Leave it out.",
                    param="bessemer.split",
                )
            catalog = self._catalog.within(principal.project_id)
            route = await resolve(catalog, asked.name, principal)
        except BessemerError as error:
            if self._metrics is not None:
                self._metrics.error("unresolved", error.error_code or error.type)
            raise
        inference_id = new_id("inf")
        self._askers[inference_id] = principal
        if len(self._askers) > _REMEMBERED:
            self._askers.popitem(last=False)
        return Exchange(
            inference_id=inference_id,
            asked=asked,
            route=route,
            principal=principal,
            catalog=catalog,
            config_sha256=catalog.config_sha256,
            created_at=created_at,
            started=started,
            origin=origin,
        )

    def _observe(self, exchange: Exchange, inference: Inference) -> None:
        metrics = self._metrics
        if metrics is None:
            return
        status = "ok" if inference.error is None else "error"
        metrics.request(inference.route, status, inference.latency_s)
        metrics.overhead(exchange.overhead_s)
        if inference.error is not None:
            metrics.error(inference.route, inference.error.partition(":")[0])
        for call in inference.calls:
            model = call.version.partition("@")[0]
            metrics.tokens(inference.route, model, call.input_tokens or 0, call.output_tokens or 0)
            metrics.cost(inference.route, model, call.cost_usd)


def _size(*values: Any) -> int:
    """Return about how many characters and values these hold; stops counting above `_SMALL`."""
    size, left = 0, list(values)
    while left and size <= _SMALL:
        value = left.pop()
        size += len(value) if isinstance(value, str | list | dict) else 1
        if isinstance(value, list | dict) and size <= _SMALL:
            left.extend(value if isinstance(value, list) else value.values())
    return size
